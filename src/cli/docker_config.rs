//! Who asks another registry, as a file says: in one line, or as `docker login` keeps it.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::http::admin::Password;

/// The longest file that is read.
const FILE_BYTES: u64 = 1 << 20;

/// A user and a password.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: Password,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// Base64 of `USER:PASSWORD`; absent where a program keeps it.
    #[serde(default)]
    auth: String,
}

/// Reads a file for the registry at `address`.
pub(super) fn read(path: &Path, address: &str) -> anyhow::Result<Login> {
    let shown = path.display();
    let len = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
    if len > FILE_BYTES {
        bail!("{shown} is too long for a file with a login");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    if text.trim_start().starts_with('{') {
        return of_docker(&text, address).map_err(|error| error.context(format!("cannot use {shown}")));
    }
    login(text.trim_end_matches(['\r', '\n'])).with_context(|| {
        format!("{shown} has to have USER:PASSWORD in one line, or be a config.json of Docker")
    })
}

/// Finds the login of a registry in what Docker keeps.
fn of_docker(text: &str, address: &str) -> anyhow::Result<Login> {
    // What the JSON has is nobody's business, an error's text neither.
    let config: DockerConfig =
        serde_json::from_str(text).map_err(|_| anyhow!("it is no config.json of Docker"))?;
    let wanted = host(address);
    let found = config.auths.iter().find(|(name, _)| host(name) == wanted);
    let (_, entry) =
        found.ok_or_else(|| anyhow!("it has no login for {wanted}; run docker login {wanted} first"))?;
    if entry.auth.is_empty() {
        bail!("the login for {wanted} is kept by another program; write USER:PASSWORD into a file instead");
    }
    let decoded = STANDARD.decode(entry.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.and_then(|text| login(&text)).ok_or_else(|| anyhow!("the login for {wanted} is damaged"))
}

fn login(text: &str) -> Option<Login> {
    let (user, password) = text.split_once(':')?;
    let is_line = !user.is_empty() && !password.is_empty() && !text.contains(['\n', '\r']);
    is_line.then(|| Login { user: user.to_owned(), password: Password::new(password) })
}

/// The host that an address names, as Docker calls it: Docker Hub has several names.
fn host(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(login: &Login) -> String {
        format!("{} {}", login.user, serde_json::to_string(&login.password).unwrap())
    }

    #[test]
    fn a_login_is_read_from_a_line_or_from_what_docker_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login");
        let read = |text: &str, address: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path, address).map(|login| shown(&login)).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(read("anna:open:sesame\n", "https://a").unwrap(), "anna \"open:sesame\"");
        let auth = STANDARD.encode("anna:open sesame");
        let config = format!(
            r#"{{"auths":{{"a.example:5000":{{"auth":"{auth}"}},"https://index.docker.io/v1/":{{"auth":"{auth}"}},"b.example":{{}}}}}}"#
        );
        for address in ["https://a.example:5000", "http://A.example:5000/x", "docker.io"] {
            assert_eq!(read(&config, address).unwrap(), "anna \"open sesame\"", "{address}");
        }
        for (text, address, reason) in [
            ("anna", "https://a", "USER:PASSWORD"),
            ("anna:x\nbert:y\n", "https://a", "USER:PASSWORD"),
            (&config, "https://c.example", "no login for c.example"),
            (&config, "https://b.example", "another program"),
            ("{\"auths\": 5}", "https://a", "no config.json"),
        ] {
            let said = read(text, address).unwrap_err();
            assert!(said.contains(reason) && !said.contains("sesame"), "{said}");
        }
    }
}
