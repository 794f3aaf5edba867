//! The list of those who are told of events.

use std::time::Duration;

use super::Key;
use super::value::{Choice, at_least, choice, number, positive_duration, words};
use crate::client::{Header, Url};
use crate::notifications::{Endpoint, Version};
use crate::oci::MediaType;
use crate::registry::{Action, Listener};

/// The name of the list in the file.
pub const ENDPOINTS: &str = "notifications.endpoint";

/// The longest name of an endpoint.
const MAX_NAME: usize = 64;

/// A table `[[notifications.endpoint]]` on its way to an [`Endpoint`].
#[derive(Debug)]
pub struct EndpointTable {
    name: String,
    url: Option<Url>,
    headers: Vec<Header>,
    timeout: Duration,
    threshold: u32,
    backoff: Duration,
    version: Version,
    ignored_actions: Vec<Action>,
    ignored_media_types: Vec<MediaType>,
}

impl Choice for Version {
    const ALL: &'static [Self] = &Self::ALL;
}

impl EndpointTable {
    /// A table without any key.
    pub(super) fn new() -> EndpointTable {
        let mut table = EndpointTable {
            name: String::new(),
            url: None,
            headers: Vec::new(),
            timeout: Duration::ZERO,
            threshold: 0,
            backoff: Duration::ZERO,
            version: Version::V1,
            ignored_actions: Vec::new(),
            ignored_media_types: Vec::new(),
        };
        for key in ENDPOINT_KEYS.iter().filter(|key| !key.default.is_empty()) {
            key.apply(&mut table, key.default).expect("a default is a valid value, as a test claims");
        }
        table
    }

    /// The endpoint; an error is the name of a key that has to be there.
    pub(super) fn finish(self) -> Result<Endpoint, &'static str> {
        if self.name.is_empty() {
            return Err("name");
        }
        Ok(Endpoint {
            listener: Listener {
                name: self.name,
                ignored_actions: self.ignored_actions,
                ignored_media_types: self.ignored_media_types,
            },
            url: self.url.ok_or("url")?,
            headers: self.headers,
            timeout: self.timeout,
            threshold: self.threshold,
            backoff: self.backoff,
            version: self.version,
        })
    }

    /// The key whose name is most like `name`.
    pub(super) fn nearest(name: &str) -> &'static Key<EndpointTable> {
        ENDPOINT_KEYS.iter().min_by_key(|key| key.distance(name)).expect("the table is not empty")
    }
}

/// Every key of a table `[[notifications.endpoint]]`. The first two have to be given.
pub const ENDPOINT_KEYS: &[Key<EndpointTable>] = &[
    Key::text(
        "notifications.endpoint.name",
        "",
        |table, value| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if !(1..=MAX_NAME).contains(&value.len()) || !value.bytes().all(is_plain) {
                return Err("write 1 to 64 letters, digits, dots, dashes and underscores".to_owned());
            }
            value.clone_into(&mut table.name);
            Ok(())
        },
        "The endpoint's name in logs and metrics; unique. What it has got is recorded under it: an endpoint with a new name \
         hears of what happens from then on.",
    ),
    Key::text(
        "notifications.endpoint.url",
        "",
        |table, value| {
            table.url = Some(value.parse().map_err(|error: crate::client::UrlError| error.to_string())?);
            Ok(())
        },
        "Where events are sent to by POST, for example \"https://hooks.example.org/orlop\". Only an answer from 200 to 299 \
         means that they have come.",
    ),
    Key::entries(
        "notifications.endpoint.headers",
        |table, value| {
            table.headers.push(value.parse().map_err(|error: crate::client::HeaderError| error.to_string())?);
            Ok(())
        },
        "Headers that are sent along, for example { Authorization = \"Bearer …\" }. They are never shown.",
    ),
    Key::text(
        "notifications.endpoint.version",
        "v1",
        |table, value| choice(value).map(|version| table.version = version),
        "The version of the envelope: v1 is what distribution 2 sends and most receivers expect, v2 what distribution 3 sends.",
    ),
    Key::text(
        "notifications.endpoint.timeout",
        "1s",
        |table, value| positive_duration(value).map(|time| table.timeout = time),
        "The time that one delivery may take.",
    ),
    Key::bare(
        "notifications.endpoint.threshold",
        "10",
        |table, value| number(value).and_then(|n| at_least(n, 1)).map(|count| table.threshold = count),
        "After so many failures in a row there is a pause before each further attempt.",
    ),
    Key::text(
        "notifications.endpoint.backoff",
        "1s",
        |table, value| positive_duration(value).map(|time| table.backoff = time),
        "The length of that pause.",
    ),
    Key::words(
        "notifications.endpoint.ignore_actions",
        "",
        |table, value| {
            table.ignored_actions = words(value).map(action).collect::<Result<_, _>>()?;
            Ok(())
        },
        "Actions that the endpoint is not told of: push, pull, mount, delete.",
    ),
    Key::words(
        "notifications.endpoint.ignore_media_types",
        "",
        |table, value| {
            let parsed = words(value).map(str::parse).collect::<Result<_, _>>();
            table.ignored_media_types = parsed.map_err(|_| {
                "write media types, for example [\"application/octet-stream\"] for all blobs".to_owned()
            })?;
            Ok(())
        },
        "Media types of targets that the endpoint is not told of; blobs are application/octet-stream.",
    ),
];

fn action(word: &str) -> Result<Action, String> {
    match word {
        "push" => Ok(Action::Push),
        "pull" => Ok(Action::Pull),
        "mount" => Ok(Action::Mount),
        "delete" => Ok(Action::Delete),
        _ => Err("write a list of push, pull, mount and delete".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_valid_value() {
        for key in ENDPOINT_KEYS.iter().filter(|key| !key.default.is_empty()) {
            assert_eq!(key.apply(&mut EndpointTable::new(), key.default), Ok(()), "{}", key.name);
        }
    }

    #[test]
    fn every_key_refuses_nonsense_and_says_what_to_write() {
        for key in ENDPOINT_KEYS {
            let message = key.apply(&mut EndpointTable::new(), "non sense").expect_err(key.name);
            assert!(message.contains("write"), "{}: {message}", key.name);
        }
    }

    #[test]
    fn name_and_url_have_to_be_given() {
        assert_eq!(EndpointTable::new().finish().unwrap_err(), "name");
        let mut table = EndpointTable::new();
        ENDPOINT_KEYS[0].apply(&mut table, "hook").unwrap();
        assert_eq!(table.finish().unwrap_err(), "url");
    }
}
