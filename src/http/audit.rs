//! Who did what from where: what becomes known of a request for the audit, which the line of the request ends with.
//!
//! Told of are changes, whatever came of them, each refusal, and pulls of manifests where that is wanted. A client that asks at
//! `/v2/` without saying who it is wants to hear how to, and isn't refused anything.

use std::fmt::{self, Write as _};
use std::sync::OnceLock;

use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, HeaderValue, Method};

use crate::auth::{Identity, PrincipalKind};
use crate::oci::{ProvisionalDigest, Reference, RepositoryName};
use crate::registry::Actor;
use crate::telemetry::{Deed, Outcome, Said};

use super::admin::JSON_LINES;
use super::errors::ErrorCode;
use super::observe::notes;
use super::peer::Remote;
use super::query::Query;
use super::routes::{Operation, Route};

/// What the bodies of commands say that is told: whose, where, to what. Nothing else of them is.
const TOLD: &[&str] = &[
    "user",
    "name",
    "id",
    "groups",
    "scope",
    "expiresIn",
    "repository",
    "tag",
    "digest",
    "from",
    "to",
    "number",
    "images",
    "dry_run",
    "repair",
];

/// What is told of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    /// Only that it was refused.
    #[default]
    Read,
    /// Only that it was refused, where somebody has said who they are.
    Base,
    /// What is told of pulls.
    Pull,
    /// Everything.
    Change,
    /// The same, if it has made what it names.
    Mount,
}

/// What becomes known of a request, kept as it is: most of it is never told, so that nothing is put into words before.
#[derive(Debug, Default)]
pub(super) struct Notes {
    who: OnceLock<Who>,
    is_unidentified: OnceLock<()>,
    about: OnceLock<About>,
    subject: OnceLock<String>,
}

/// Who sends a request.
#[derive(Debug)]
enum Who {
    /// Whoever the request says, and proves.
    Identified(Identity),
    /// Somebody of this machine, or a program.
    Local(Actor),
}

#[derive(Debug, Default)]
struct About {
    kind: Kind,
    /// The name of what is done, where the log's line of the request doesn't have it.
    action: Option<&'static str>,
    repository: Option<RepositoryName>,
    reference: Option<Named>,
}

/// What somebody names a thing by.
#[derive(Debug)]
enum Named {
    Manifest(Reference),
    Blob(ProvisionalDigest),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::Manifest(reference) => reference.fmt(f),
            Named::Blob(digest) => digest.fmt(f),
        }
    }
}

/// Notes who sends the request with these extensions.
pub(super) fn note_identity(extensions: &Extensions, identity: &Identity) {
    note_who(extensions, || Who::Identified(identity.clone()));
}

/// Notes that somebody of this machine sends it, or a program as this one.
pub(super) fn note_local(extensions: &Extensions, actor: Actor) {
    note_who(extensions, || Who::Local(actor));
}

fn note_who(extensions: &Extensions, who: impl FnOnce() -> Who) {
    if let Some(notes) = notes(extensions) {
        // The first is right: whoever comes by the network isn't local.
        notes.who.get_or_init(who);
    }
}

/// Notes that somebody has said who they are, and hasn't proved it.
pub(super) fn note_unidentified(extensions: &Extensions) {
    if let Some(notes) = notes(extensions) {
        let _ = notes.is_unidentified.set(());
    }
}

/// Notes what it is about, by the names that the registry has.
pub(super) fn note_route(extensions: &Extensions, route: &mut Route, query: &Query<'_>) {
    let Some(notes) = notes(extensions) else { return };
    let reference = match route {
        Route::GetManifest { reference, .. }
        | Route::HeadManifest { reference, .. }
        | Route::PutManifest { reference, .. }
        | Route::DeleteManifest { reference, .. } => Some(Named::Manifest(reference.clone())),
        Route::SetTag { tag, .. } => Some(Named::Manifest(Reference::Tag(tag.clone()))),
        Route::DeleteBlob { digest, .. } => Some(Named::Blob(*digest)),
        _ => None,
    };
    let mut kind = kind_of(route.operation());
    if kind == Kind::Mount {
        match query.first("mount") {
            Some(mount) => {
                let from = query.first("from").unwrap_or_default();
                let _ = notes.subject.set(format!("mount={mount} from={from}"));
            }
            None => kind = Kind::Read,
        }
    }
    let repository = route.name_mut().map(|name| name.clone());
    // It is about one thing.
    let _ = notes.about.set(About {
        kind,
        action: (kind == Kind::Mount).then_some("mount_blob"),
        repository,
        reference,
    });
}

fn kind_of(operation: Operation) -> Kind {
    match operation {
        Operation::GetBase => Kind::Base,
        Operation::GetManifest => Kind::Pull,
        Operation::CreateUpload => Kind::Mount,
        Operation::GetToken
        | Operation::CreateToken
        | Operation::DeleteBlob
        | Operation::PutManifest
        | Operation::DeleteManifest
        | Operation::DeleteRepository
        | Operation::SetTag => Kind::Change,
        Operation::ListRepositories
        | Operation::GetBlob
        | Operation::HeadBlob
        | Operation::GetUpload
        | Operation::WriteUpload
        | Operation::CommitUpload
        | Operation::CancelUpload
        | Operation::HeadManifest
        | Operation::ListTags
        | Operation::ListReferrers
        | Operation::ListTagHistory
        | Operation::ListManifests
        | Operation::ListManifestTags
        | Operation::ListSignatures => Kind::Read,
    }
}

/// Notes that it is a command, which changes something unless it is a GET.
pub(super) fn note_command(extensions: &Extensions, action: &'static str, method: &Method) {
    if let Some(notes) = notes(extensions) {
        let kind = if *method == Method::GET { Kind::Read } else { Kind::Change };
        let _ = notes.about.set(About { kind, action: Some(action), ..About::default() });
    }
}

/// Notes what a token is for that is issued to somebody.
pub(super) fn note_token(extensions: &Extensions, identity: &Identity, scope: &str) {
    note_identity(extensions, identity);
    if let Some(notes) = notes(extensions) {
        let _ = notes.subject.set(format!("scope={scope}"));
    }
}

/// Notes what a command's body says, as far as that is told.
pub(super) fn note_body(extensions: &Extensions, json: &[u8]) {
    let Some(notes) = notes(extensions) else { return };
    let Ok(serde_json::Value::Object(body)) = serde_json::from_slice(json) else { return };
    let mut subject = String::new();
    for (name, value) in body.iter().filter(|(name, value)| TOLD.contains(&name.as_str()) && !value.is_null())
    {
        let space = if subject.is_empty() { "" } else { " " };
        // Writing to a String does not fail.
        let _ = match value.as_str() {
            Some(text) => write!(subject, "{space}{name}={text}"),
            None => write!(subject, "{space}{name}={value}"),
        };
    }
    if !subject.is_empty() {
        let _ = notes.subject.set(subject);
    }
}

/// Whether an answer comes in lines, of which the last says how it went.
pub(super) fn is_job(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind == JSON_LINES)
}

/// What is known of a request at its end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ended<'a> {
    pub(super) action: &'static str,
    pub(super) request: Option<&'a str>,
    pub(super) remote: Option<Remote>,
    /// None where the client has left before there was an answer.
    pub(super) status: Option<u16>,
    pub(super) error: Option<&'static str>,
    pub(super) digest: Option<&'a HeaderValue>,
    /// Whether the answer comes in lines, of which the last says how it went.
    pub(super) is_job: bool,
}

impl Who {
    fn is_anonymous(&self) -> bool {
        matches!(self, Who::Identified(identity) if identity.is_anonymous())
    }

    fn actor(&self) -> Actor {
        match self {
            Who::Identified(identity) => identity.actor(),
            Who::Local(actor) => actor.clone(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Who::Local(_) => "local",
            Who::Identified(identity) => match identity.principal().map(|principal| principal.kind) {
                None => "anonymous",
                Some(PrincipalKind::User) => "user",
                Some(PrincipalKind::AccessToken) => "token",
                Some(PrincipalKind::External) => "external",
            },
        }
    }
}

impl Notes {
    /// Tells of a request that has ended, if that is told.
    pub(super) fn tell(&self, ended: &Ended<'_>) {
        let nothing = About::default();
        let about = self.about.get().unwrap_or(&nothing);
        let outcome = self.outcome(ended);
        let is_identified =
            self.is_unidentified.get().is_some() || self.who.get().is_some_and(|who| !who.is_anonymous());
        let is_told = match about.kind {
            Kind::Change => true,
            Kind::Pull => outcome != Outcome::Failed,
            Kind::Mount => ended.status == Some(201) || outcome == Outcome::Refused,
            Kind::Base => outcome == Outcome::Refused && is_identified,
            Kind::Read => outcome == Outcome::Refused,
        };
        if !is_told {
            return;
        }
        let (actor, actor_kind) = match self.who.get() {
            Some(who) => (who.actor(), who.kind()),
            None if self.is_unidentified.get().is_some() => (Actor::anonymous(), "unidentified"),
            None => (Actor::anonymous(), "anonymous"),
        };
        Deed {
            action: about.action.unwrap_or(ended.action),
            is_pull: about.kind == Kind::Pull && outcome != Outcome::Refused,
            outcome,
            actor: actor.as_str(),
            actor_kind,
            remote: ended.remote.as_ref().map(|remote| Said(remote)),
            request: ended.request,
            repository: about.repository.as_ref().map(RepositoryName::as_str),
            reference: about.reference.as_ref().map(|reference| Said(reference)),
            digest: ended.digest.and_then(|digest| digest.to_str().ok()),
            subject: self.subject.get().map(String::as_str),
            status: ended.status,
            error: ended.error,
        }
        .write();
    }

    fn outcome(&self, ended: &Ended<'_>) -> Outcome {
        let Some(status) = ended.status else { return Outcome::Unknown };
        let is_denied = ended.error.is_some_and(|error| {
            [ErrorCode::Unauthorized.as_str(), ErrorCode::Denied.as_str()].contains(&error)
        });
        match status {
            200..=399 if ended.is_job => Outcome::Begun,
            200..=399 => Outcome::Done,
            401 | 403 if is_denied => Outcome::Refused,
            // Too many passwords were tried.
            429 if self.is_unidentified.get().is_some() => Outcome::Refused,
            _ => Outcome::Failed,
        }
    }
}
