//! The list of upstreams.

use std::path::PathBuf;
use std::time::Duration;

use super::lists::{ListTable, TableError};
use super::value::{duration, host, name_patterns, positive_duration, size, switch};
use super::{Config, Key};
use crate::client::registry::{Address, AddressError};
use crate::proxy;
use crate::registry::{NameScope, UpstreamAccess};

/// One registry whose images are cached; the secret is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// `host`: what images call it.
    pub host: String,
    /// `url`: where it is, if that isn't known from its host.
    pub url: Option<Address>,
    /// `username`, and where the password is.
    pub user: Option<(String, Password)>,
    /// `ca`: a PEM file of root certificates that are trusted beside the system's.
    pub root_certificates: Option<PathBuf>,
    /// `public`: whether everybody may read what its credentials open.
    pub is_public: bool,
    /// `revalidate_after`: how long a tag is believed.
    pub revalidate_after: Duration,
    /// `patience`: how long clients that could have a cached tag wait for news of it.
    pub patience: Duration,
    /// `connect_timeout`.
    pub connect_timeout: Duration,
    /// `first_byte_timeout`.
    pub first_byte_timeout: Duration,
    /// `idle_timeout`.
    pub idle_timeout: Duration,
    /// `max_size`: what its content may take, in bytes.
    pub max_size: Option<u64>,
    /// `allow`: the repositories that may be asked for.
    pub allow: NameScope,
    /// `deny`: those of them that may not.
    pub deny: NameScope,
    /// `offline`: whether it is never asked.
    pub is_offline: bool,
}

/// Where a password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// In a file, but for a line break at its end.
    File(PathBuf),
    /// In the environment variable of this name.
    Environment(String),
}

impl Upstream {
    /// The upstream of this host, of which nothing else is said.
    pub(super) fn new(host: &str) -> Upstream {
        Upstream { host: host.to_owned(), ..UpstreamTable::new().upstream }
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        let known = || self.host.parse().expect("a host is an address, as a test claims");
        self.url.clone().unwrap_or_else(known)
    }

    /// The first component of the names of its repositories here.
    pub fn folder(&self) -> String {
        proxy::folder(&self.host)
    }

    /// Who may read what comes from it.
    pub fn access(&self) -> UpstreamAccess {
        match self.user {
            _ if self.is_public => UpstreamAccess::Public,
            None => UpstreamAccess::Anonymous,
            Some(_) => UpstreamAccess::Private,
        }
    }

    /// Whether its password is in the environment variable called `name`.
    pub(super) fn reads_variable(&self, name: &str) -> bool {
        matches!(&self.user, Some((_, Password::Environment(variable))) if variable == name)
    }
}

/// A table `[[upstream]]` on its way to an [`Upstream`].
#[derive(Debug)]
pub(super) struct UpstreamTable {
    upstream: Upstream,
    username: String,
    password_file: String,
    password_env: String,
}

impl ListTable for UpstreamTable {
    const NAME: &'static str = "upstream";
    const KEYS: &'static [Key<UpstreamTable>] = &[
        Key::text(
            "upstream.host",
            "",
            |table, value| host(value).map(|host| table.upstream.host = host),
            "The registry's host as images are called by it, with its port where there is one; unique. What it has is cached \
             under this name, for example docker.io/library/busybox, with _ for the colon before a port.",
        ),
        Key::reloaded_text(
            "upstream.url",
            "",
            |table, value| {
                if !value.is_empty() {
                    table.upstream.url =
                        Some(value.parse().map_err(|error: AddressError| error.to_string())?);
                }
                Ok(())
            },
            "Where it is, for example \"https://mirror.example.org/hub\"; http:// for a registry without TLS. Empty: its \
             host over TLS; those of well-known registries, such as docker.io, are known.",
        ),
        Key::reloaded_text(
            "upstream.username",
            "",
            |table, value| {
                if value.contains(':') || value.chars().any(char::is_control) {
                    return Err("write a name without a colon and without control characters".to_owned());
                }
                value.clone_into(&mut table.username);
                Ok(())
            },
            "The user who pulls; anonymous where it is empty. What comes from an upstream that is asked with credentials can be \
             read only by those whom a rule names, unless `public` says otherwise.",
        ),
        Key::reloaded_text(
            "upstream.password_file",
            "",
            |table, value| {
                value.clone_into(&mut table.password_file);
                Ok(())
            },
            "The file with the user's password or access token; a line break at its end doesn't count. It is read again when it changes.",
        ),
        Key::hidden(
            "upstream.password_env",
            "",
            |table, value| variable(value).map(|()| value.clone_into(&mut table.password_env)),
            "The environment variable with the password, for example \"DOCKER_HUB_TOKEN\", in place of a file. Its name is in \
             capitals.",
        ),
        Key::text(
            "upstream.ca",
            "",
            |table, value| {
                table.upstream.root_certificates = (!value.is_empty()).then(|| PathBuf::from(value));
                Ok(())
            },
            "A PEM file of root certificates that are trusted beside the system's when this upstream is asked. Empty: the one \
             of client.root_certificates, if any.",
        ),
        Key::bare(
            "upstream.public",
            "false",
            |table, value| switch(value).map(|on| table.upstream.is_public = on),
            "Whether everybody who reaches this registry may read what the upstream gives to the user.",
        ),
        Key::text(
            "upstream.revalidate_after",
            "15m",
            |table, value| duration(value).map(|time| table.upstream.revalidate_after = time),
            "The time for which a tag is believed before the upstream is asked whether it has moved. 0s asks each time.",
        ),
        Key::text(
            "upstream.patience",
            "5s",
            |table, value| duration(value).map(|time| table.upstream.patience = time),
            "The time that a client waits for that where it could have the cached tag; then it gets the cached one.",
        ),
        Key::text(
            "upstream.connect_timeout",
            "10s",
            |table, value| positive_duration(value).map(|time| table.upstream.connect_timeout = time),
            "The time that a connection to the upstream may take.",
        ),
        Key::text(
            "upstream.first_byte_timeout",
            "30s",
            |table, value| positive_duration(value).map(|time| table.upstream.first_byte_timeout = time),
            "The time until the upstream begins to answer, connecting included.",
        ),
        Key::text(
            "upstream.idle_timeout",
            "30s",
            |table, value| positive_duration(value).map(|time| table.upstream.idle_timeout = time),
            "The time that the bytes of a blob may stand still.",
        ),
        Key::text(
            "upstream.max_size",
            "0",
            |table, value| size(value).map(|bytes| table.upstream.max_size = (bytes != 0).then_some(bytes)),
            "What the upstream's content may take, beside cache.max_size for all of them. 0 sets no limit.",
        ),
        Key::words(
            "upstream.allow",
            "**",
            |table, value| {
                name_patterns(value).map(|patterns| table.upstream.allow = NameScope::new(patterns))
            },
            "The repositories that may be asked for, as patterns like those of `scope`, without the host: \
             [\"library/*\", \"grafana/**\"]. Others are refused, also where they are cached.",
        ),
        Key::words(
            "upstream.deny",
            "",
            |table, value| {
                name_patterns(value).map(|patterns| table.upstream.deny = NameScope::new(patterns))
            },
            "Those of them that may not be asked for all the same.",
        ),
        Key::bare(
            "upstream.offline",
            "false",
            |table, value| switch(value).map(|on| table.upstream.is_offline = on),
            "Whether the upstream is never asked: only what is cached is answered.",
        ),
    ];

    fn blank() -> UpstreamTable {
        UpstreamTable {
            upstream: Upstream {
                host: String::new(),
                url: None,
                user: None,
                root_certificates: None,
                is_public: false,
                revalidate_after: Duration::ZERO,
                patience: Duration::ZERO,
                connect_timeout: Duration::ZERO,
                first_byte_timeout: Duration::ZERO,
                idle_timeout: Duration::ZERO,
                max_size: None,
                allow: NameScope::new(Vec::new()),
                deny: NameScope::new(Vec::new()),
                is_offline: false,
            },
            username: String::new(),
            password_file: String::new(),
            password_env: String::new(),
        }
    }

    fn finish(self, config: &mut Config) -> Result<(), TableError> {
        const WHOSE: &str = "write the `username` that the password belongs to, or remove it";
        const EITHER: &str = "write either password_file or password_env";
        let UpstreamTable { mut upstream, username, password_file, password_env } = self;
        if upstream.host.is_empty() {
            return Err(TableError::Missing("host"));
        }
        let wrong = |key, value, advice: &str| TableError::Value { key, value, advice: advice.to_owned() };
        if config.upstreams.iter().any(|other| other.host == upstream.host) {
            return Err(wrong(
                "host",
                upstream.host,
                "write each host once; there is an upstream of this one already",
            ));
        }
        upstream.user = match (username.is_empty(), password_file.is_empty(), password_env.is_empty()) {
            (true, true, true) => None,
            (true, false, _) => return Err(wrong("password_file", password_file, WHOSE)),
            (true, true, false) => return Err(wrong("password_env", password_env, WHOSE)),
            (false, true, true) => {
                let advice = "write password_file or password_env beside it, or remove it to ask anonymously";
                return Err(wrong("username", username, advice));
            }
            (false, false, false) => return Err(wrong("password_env", password_env, EITHER)),
            (false, false, true) => Some((username, Password::File(password_file.into()))),
            (false, true, false) => Some((username, Password::Environment(password_env))),
        };
        config.upstreams.push(upstream);
        Ok(())
    }

    fn example(name: &str) -> Option<&'static str> {
        (name == "host").then_some("\"docker.io\"")
    }
}

/// Checks the name of an environment variable, which may be empty. Capitals only, so that a token in its place is told apart.
fn variable(text: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if text.bytes().all(is_plain) {
        return Ok(());
    }
    Err("write the name of an environment variable in capitals, for example \"DOCKER_HUB_TOKEN\"; not the password itself"
        .to_owned())
}
