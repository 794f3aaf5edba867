//! The cache of other registries' content, as the configuration has it.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::client::registry::{self as upstream, Credentials, CredentialsError, Timeouts};
use crate::config::{Config, Password, Upstream};
use crate::proxy::{Settings, UpstreamSettings};
use crate::secret::Secret;

use super::sockets::Place;

/// The longest password, in bytes; tokens of well-known registries have some thousand.
const MAX_PASSWORD: u64 = 64 << 10;

/// Why a password can't be used. The text says what to do and never what was read.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file can't be read.
    #[error(
        "upstream {host}: cannot read the password in {}: {source}. Write it into that file, readable for the user who runs \
         orlop, or correct password_file",
        path.display()
    )]
    File {
        /// The upstream's host.
        host: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such variable.
    #[error(
        "upstream {host}: the environment variable {variable} with the password is not set; set it for the process that runs \
         orlop, or correct password_env"
    )]
    Variable {
        /// The upstream's host.
        host: String,
        /// Its name.
        variable: String,
    },
    /// It can't be sent.
    #[error("upstream {host}: username and password can't be sent: {source}")]
    Unsendable {
        /// The upstream's host.
        host: String,
        /// Why.
        source: CredentialsError,
    },
}

/// The cache that `config` means, if any, with the passwords of its upstreams. Blocks.
pub fn cache_settings(config: &Config) -> Result<Option<Settings>, PasswordError> {
    if config.upstreams.is_empty() {
        return Ok(None);
    }
    let cache = &config.cache;
    let upstreams = config.upstreams.iter().map(|upstream| upstream_settings(config, upstream));
    let upstreams: Vec<UpstreamSettings> = upstreams.collect::<Result<_, _>>()?;
    let has = |host: &String| upstreams.iter().any(|upstream| upstream.host == *host);
    Ok(Some(Settings {
        default: cache.default.clone().filter(has),
        upstreams,
        local: cache.local.clone(),
        max_bytes: cache.max_size,
        keep_superseded: cache.keep_superseded,
        pinned: cache.pinned.clone(),
        sync: cache.sync.clone(),
        ..Settings::default()
    }))
}

fn upstream_settings(config: &Config, upstream: &Upstream) -> Result<UpstreamSettings, PasswordError> {
    let mut client = upstream::Options::new(upstream.address());
    client.credentials = credentials(upstream)?;
    let certificates = upstream.root_certificates.as_ref().or(config.client.root_certificates.as_ref());
    client.root_certificates = certificates.cloned();
    client.timeouts = Timeouts {
        connect: upstream.connect_timeout,
        first_byte: upstream.first_byte_timeout,
        idle: upstream.idle_timeout,
        ..Timeouts::default()
    };
    Ok(UpstreamSettings {
        is_public: upstream.is_public,
        revalidate_after: upstream.revalidate_after,
        patience: upstream.patience,
        max_bytes: upstream.max_size,
        allow: upstream.allow.clone(),
        deny: upstream.deny.clone(),
        is_offline: upstream.is_offline,
        ..UpstreamSettings::new(&upstream.host, client)
    })
}

/// Who asks an upstream, as its password is written now. Blocks.
pub(super) fn credentials(upstream: &Upstream) -> Result<Option<Credentials>, PasswordError> {
    let Some((user, place)) = &upstream.user else { return Ok(None) };
    let host = || upstream.host.clone();
    let password = match place {
        Password::File(path) => {
            let failed = |source| PasswordError::File { host: host(), path: path.clone(), source };
            let mut password = String::new();
            let file = File::open(path).map_err(failed)?;
            file.take(MAX_PASSWORD).read_to_string(&mut password).map_err(failed)?;
            Secret::from(password)
        }
        Password::Environment(variable) => {
            let missing = |_| PasswordError::Variable { host: host(), variable: variable.clone() };
            Secret::from(std::env::var(variable).map_err(missing)?)
        }
    };
    let password = password.reveal();
    let password =
        password.strip_suffix('\n').map_or(password, |rest| rest.strip_suffix('\r').unwrap_or(rest));
    let credentials = Credentials::new(user, password);
    credentials.map(Some).map_err(|source| PasswordError::Unsendable { host: host(), source })
}

/// What an operator should know of a cache, each a sentence; everybody may use it who reaches the address `open`.
pub(super) fn warnings(settings: &Settings, open: Option<&Place>) -> Vec<String> {
    let private = settings.upstreams.iter().filter(|upstream| upstream.is_private()).map(|upstream| {
        format!(
            "what is cached of {} is for those whom a rule names: it is asked with credentials. Write a [[rule]] for them, set \
             `public = true` for this upstream if everybody may read all that its user may, or remove the user to ask \
             anonymously",
            upstream.host
        )
    });
    let open = open.map(|address| {
        let hosts: Vec<&str> = settings.upstreams.iter().map(|upstream| upstream.host.as_str()).collect();
        format!(
            "anybody who reaches {address} can pull through the cache of {}, and fill it. Listen on 127.0.0.1, or say by rules \
             who may",
            hosts.join(", ")
        )
    });
    private.chain(open).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn settings(public: bool) -> Settings {
        let mut client = upstream::Options::new("ghcr.io".parse().unwrap());
        client.credentials = Some(Credentials::new("anna", "sesame").unwrap());
        let upstream = UpstreamSettings { is_public: public, ..UpstreamSettings::new("ghcr.io", client) };
        Settings { upstreams: vec![upstream], ..Settings::default() }
    }

    #[test]
    fn an_upstream_that_nobody_can_read_and_an_open_mirror_are_told_of() {
        let open = Place::Address(SocketAddr::from(([0, 0, 0, 0], 5000)));
        assert_eq!(warnings(&settings(true), None), Vec::<String>::new());
        let [private, mirror] = &warnings(&settings(false), Some(&open))[..] else { panic!("two warnings") };
        assert!(private.contains("ghcr.io") && private.contains("`public = true`"), "{private}");
        assert!(mirror.contains("0.0.0.0:5000") && mirror.contains("127.0.0.1"), "{mirror}");
        assert!(!private.contains("anna") && !private.contains("sesame"));
    }
}
