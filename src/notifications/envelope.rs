//! The envelope, as distribution's package `notifications` defines it: the same fields, and the same ones left out.

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::oci::{Digest, MediaType, RepositoryName, Tag};
use crate::registry::{Action, Actor, Event, EventReference, EventTarget, TargetKind};

/// The registry that tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its host and port.
    pub addr: String,
    /// Its process: another one after each start.
    #[serde(rename = "instanceID")]
    pub instance_id: String,
}

/// The JSON of an envelope with `events`.
pub fn render<'e>(events: impl IntoIterator<Item = &'e Event>, source: &Source) -> Vec<u8> {
    let events = events.into_iter().map(|event| Rendered::of(event, source)).collect();
    serde_json::to_vec(&Envelope { events }).expect("strings and numbers always serialise")
}

#[derive(Serialize)]
struct Envelope<'e> {
    events: Vec<Rendered<'e>>,
}

#[derive(Serialize)]
struct Rendered<'e> {
    id: String,
    timestamp: String,
    action: &'static str,
    target: Target<'e>,
    request: Request<'e>,
    actor: ActorName<'e>,
    source: &'e Source,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Target<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'e MediaType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'e Digest>,
    #[serde(skip_serializing_if = "is_nothing")]
    size: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    length: u64,
    repository: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_repository: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'e str>,
    #[serde(skip_serializing_if = "<[EventReference]>::is_empty", serialize_with = "references")]
    references: &'e [EventReference],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference<'e> {
    media_type: &'e MediaType,
    digest: &'e Digest,
    #[serde(skip_serializing_if = "is_nothing")]
    size: u64,
}

#[derive(Serialize, Default)]
struct Request<'e> {
    id: &'e str,
    #[serde(skip_serializing_if = "str::is_empty")]
    addr: &'e str,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'e str,
    method: &'e str,
    useragent: &'e str,
}

#[derive(Serialize)]
struct ActorName<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'e str>,
}

/// Go leaves out what `omitempty` calls empty, a zero among it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde hands over")]
fn is_nothing(number: &u64) -> bool {
    *number == 0
}

fn references<S: Serializer>(list: &&[EventReference], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(|reference| Reference {
        media_type: &reference.media_type,
        digest: &reference.digest,
        size: reference.size,
    }))
}

impl<'e> Rendered<'e> {
    fn of(event: &'e Event, source: &'e Source) -> Rendered<'e> {
        let request = event.request.as_deref();
        let base_url = request.map(|request| request.base_url.as_str());
        Rendered {
            id: Uuid::from_bytes(event.id).to_string(),
            timestamp: Timestamp::from_millis(event.at).to_rfc3339(),
            action: match event.action {
                Action::Push => "push",
                Action::Pull => "pull",
                Action::Mount => "mount",
                Action::Delete => "delete",
            },
            target: Target::of(&event.target, base_url),
            request: request.map_or_else(Request::default, |request| Request {
                id: &request.id,
                addr: &request.addr,
                host: &request.host,
                method: &request.method,
                useragent: &request.user_agent,
            }),
            // Distribution has no name for somebody who has not said who they are.
            actor: ActorName {
                name: Some(event.actor.as_str()).filter(|name| *name != Actor::anonymous().as_str()),
            },
            source,
        }
    }
}

impl<'e> Target<'e> {
    fn of(target: &'e EventTarget, base_url: Option<&str>) -> Target<'e> {
        let size = target.size.unwrap_or(0);
        let repository = target.repository.as_str();
        // Of a deletion there is nothing to be had at any URL.
        let place = match (target.kind, &target.media_type) {
            (TargetKind::Blob, Some(_)) => Some("blobs"),
            (TargetKind::Manifest, Some(_)) => Some("manifests"),
            (TargetKind::Blob | TargetKind::Manifest, None)
            | (TargetKind::Tag | TargetKind::Repository, _) => None,
        };
        let url = match (base_url, place, &target.digest) {
            (Some(base), Some(place), Some(digest)) => {
                Some(format!("{base}/v2/{repository}/{place}/{digest}"))
            }
            _ => None,
        };
        Target {
            media_type: target.media_type.as_ref(),
            digest: target.digest.as_ref(),
            size,
            length: size,
            repository,
            from_repository: target.from.as_ref().map(RepositoryName::as_str),
            url,
            tag: target.tag.as_ref().map(Tag::as_str),
            references: &target.references,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::DigestAlgorithm;
    use crate::registry::EventRequest;

    fn digest() -> Digest {
        Digest::of(DigestAlgorithm::Sha256, b"")
    }

    fn push() -> Event {
        Event {
            at: 1_136_214_245_000,
            id: [0xab; 16],
            action: Action::Push,
            target: EventTarget {
                kind: TargetKind::Manifest,
                repository: "library/test".parse().unwrap(),
                digest: Some(digest()),
                media_type: Some("application/vnd.docker.distribution.manifest.v2+json".parse().unwrap()),
                size: Some(1),
                tag: Some("latest".parse().unwrap()),
                from: None,
                references: Vec::new(),
            },
            actor: "test-actor".into(),
            request: Some(std::sync::Arc::new(EventRequest {
                id: "asdfasdf".into(),
                addr: "client.local".into(),
                host: "registrycluster.local".into(),
                method: "PUT".into(),
                user_agent: "test/0.1".into(),
                base_url: "http://example.com".into(),
            })),
        }
    }

    fn rendered(event: &Event) -> String {
        let source = Source { addr: "hostname.local:port".into(), instance_id: "instance".into() };
        String::from_utf8(render([event], &source)).unwrap()
    }

    /// The fields, their names, their order and their absence are those of distribution's structs `Envelope`, `Event`,
    /// `ActorRecord`, `RequestRecord` and `SourceRecord`, and the values those of its own test of the format.
    #[test]
    fn a_push_has_the_fields_of_distributions_envelope() {
        let digest = digest();
        let expected = format!(
            concat!(
                r#"{{"events":[{{"id":"abababab-abab-abab-abab-abababababab","timestamp":"2006-01-02T15:04:05.000Z","#,
                r#""action":"push","target":{{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","#,
                r#""digest":"{digest}","size":1,"length":1,"repository":"library/test","#,
                r#""url":"http://example.com/v2/library/test/manifests/{digest}","tag":"latest"}},"#,
                r#""request":{{"id":"asdfasdf","addr":"client.local","host":"registrycluster.local","method":"PUT","#,
                r#""useragent":"test/0.1"}},"actor":{{"name":"test-actor"}},"#,
                r#""source":{{"addr":"hostname.local:port","instanceID":"instance"}}}}]}}"#
            ),
            digest = digest,
        );
        assert_eq!(rendered(&push()), expected);
    }

    #[test]
    fn a_mount_names_the_repository_that_it_came_from() {
        let mut event = push();
        event.action = Action::Mount;
        event.target = EventTarget {
            kind: TargetKind::Blob,
            media_type: Some(MediaType::OCTET_STREAM),
            tag: None,
            from: Some("library/base".parse().unwrap()),
            ..event.target
        };
        let json: serde_json::Value = serde_json::from_str(&rendered(&event)).unwrap();
        let event = &json["events"][0];
        assert_eq!(event["action"], "mount");
        assert_eq!(
            event["target"],
            serde_json::json!({
                "mediaType": "application/octet-stream",
                "digest": digest(),
                "size": 1,
                "length": 1,
                "repository": "library/test",
                "fromRepository": "library/base",
                "url": format!("http://example.com/v2/library/test/blobs/{}", digest()),
            })
        );
    }

    #[test]
    fn a_deletion_tells_no_more_than_distributions() {
        for (kind, digest, tag, expected) in [
            (TargetKind::Blob, Some(digest()), None, serde_json::json!({ "digest": digest() })),
            (TargetKind::Manifest, Some(digest()), None, serde_json::json!({ "digest": digest() })),
            (TargetKind::Tag, None, Some("1".parse().unwrap()), serde_json::json!({ "tag": "1" })),
            (TargetKind::Repository, None, None, serde_json::json!({})),
        ] {
            let mut event = push();
            event.action = Action::Delete;
            event.target = EventTarget { kind, digest, tag, media_type: None, size: None, ..event.target };
            let json: serde_json::Value = serde_json::from_str(&rendered(&event)).unwrap();
            let mut expected = expected;
            expected["repository"] = "library/test".into();
            assert_eq!(json["events"][0]["target"], expected);
            assert_eq!(json["events"][0]["action"], "delete");
        }
    }

    #[test]
    fn nobody_in_particular_has_no_name_and_a_program_no_request() {
        let event = Event { actor: "anonymous".into(), request: None, ..push() };
        let json: serde_json::Value = serde_json::from_str(&rendered(&event)).unwrap();
        let event = &json["events"][0];
        assert_eq!(event["actor"], serde_json::json!({}));
        assert_eq!(event["request"], serde_json::json!({ "id": "", "method": "", "useragent": "" }));
        assert_eq!(event["target"].get("url"), None);
    }

    #[test]
    fn references_are_descriptors() {
        let mut event = push();
        event.target.references =
            vec![EventReference { media_type: MediaType::OCTET_STREAM, digest: digest(), size: 7 }];
        let json: serde_json::Value = serde_json::from_str(&rendered(&event)).unwrap();
        assert_eq!(
            json["events"][0]["target"]["references"],
            serde_json::json!([{ "mediaType": "application/octet-stream", "digest": digest(), "size": 7 }])
        );
    }
}
