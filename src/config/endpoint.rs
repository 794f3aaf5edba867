//! The list of those who are told of events.

use std::time::Duration;

use super::lists::{ListTable, TableError};
use super::value::{Choice, at_least, choice, label, number, positive_duration, words};
use super::{Config, Key};
use crate::client::{Header, Url};
use crate::notifications::{Endpoint, Version};
use crate::oci::MediaType;
use crate::registry::{Action, Listener};

/// A table `[[notifications.endpoint]]` on its way to an [`Endpoint`].
#[derive(Debug)]
pub(super) struct EndpointTable {
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

impl ListTable for EndpointTable {
    const NAME: &'static str = "notifications.endpoint";
    const KEYS: &'static [Key<EndpointTable>] = &[
        Key::text(
            "notifications.endpoint.name",
            "",
            |table, value| label(value).map(|name| table.name = name),
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
                table
                    .headers
                    .push(value.parse().map_err(|error: crate::client::HeaderError| error.to_string())?);
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

    fn blank() -> EndpointTable {
        EndpointTable {
            name: String::new(),
            url: None,
            headers: Vec::new(),
            timeout: Duration::ZERO,
            threshold: 0,
            backoff: Duration::ZERO,
            version: Version::V1,
            ignored_actions: Vec::new(),
            ignored_media_types: Vec::new(),
        }
    }

    fn finish(self, config: &mut Config) -> Result<(), TableError> {
        if self.name.is_empty() {
            return Err(TableError::Missing("name"));
        }
        let url = self.url.ok_or(TableError::Missing("url"))?;
        let endpoints = &mut config.notifications.endpoints;
        if endpoints.iter().any(|other| other.listener.name == self.name) {
            let advice = "write another name; there is an endpoint of this name already".to_owned();
            return Err(TableError::Value { key: "name", value: self.name, advice });
        }
        endpoints.push(Endpoint {
            listener: Listener {
                name: self.name,
                ignored_actions: self.ignored_actions,
                ignored_media_types: self.ignored_media_types,
            },
            url,
            headers: self.headers,
            timeout: self.timeout,
            threshold: self.threshold,
            backoff: self.backoff,
            version: self.version,
        });
        Ok(())
    }

    fn example(name: &str) -> Option<&'static str> {
        match name {
            "name" => Some("\"hook\""),
            "url" => Some("\"https://hooks.example.org/orlop\""),
            _ => None,
        }
    }
}

fn action(word: &str) -> Result<Action, String> {
    match word {
        "push" => Ok(Action::Push),
        "pull" => Ok(Action::Pull),
        "mount" => Ok(Action::Mount),
        "delete" => Ok(Action::Delete),
        _ => Err("write a list of push, pull, mount and delete".to_owned()),
    }
}
