//! The hosts of registries, as images are called by them.

use crate::oci::RepositoryName;

/// Docker Hub, whose images with one word for a name lie under `library/`.
pub(super) const HUB: &str = "docker.io";

/// Other hosts that Docker Hub is called by.
const OTHERS_OF_HUB: &[&str] = &["index.docker.io", "registry-1.docker.io"];

/// A text that is no registry's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a registry's host as images are called by it, for example docker.io, ghcr.io or registry.example.org:5000, without \
     https:// and without a path"
)]
pub struct HostError;

/// Reads a host with or without a port, which an image's name could begin with; the one name of a registry with several.
pub fn parse_host(text: &str) -> Result<String, HostError> {
    let host = canonical(text);
    let (name, port) = host.split_once(':').map_or((host.as_str(), None), |(name, port)| (name, Some(port)));
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    // Other words are components of ordinary names.
    let is_host = name.contains('.') || name == "localhost" || port.is_some();
    let has_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let is_component = format!("{}/a", folder(&host)).parse::<RepositoryName>().is_ok();
    if is_host && has_port && is_component && name.bytes().all(is_plain) { Ok(host) } else { Err(HostError) }
}

/// The one way to write a host: in lower case, and one name where a registry has several.
pub(super) fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if OTHERS_OF_HUB.contains(&host.as_str()) { HUB.to_owned() } else { host }
}

/// Whether a name's first component means the upstream with this folder.
pub(super) fn means_folder(first: &str, folder: &str) -> bool {
    first == folder || (folder == HUB && OTHERS_OF_HUB.contains(&first))
}

/// The first component of the names of a host's repositories here: the host, with `_` for the colon before a port.
pub fn folder(host: &str) -> String {
    host.replace(':', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::registry::Address;

    #[test]
    fn a_host_is_what_an_image_can_be_called_by() {
        for (text, host) in [
            ("docker.io", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("GHCR.io", "ghcr.io"),
            ("localhost", "localhost"),
            ("harbor:5000", "harbor:5000"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
        ] {
            assert_eq!(parse_host(text).as_deref(), Ok(host), "{text}");
            assert!(host.parse::<Address>().is_ok(), "{text}");
        }
        for text in [
            "",
            "team",
            "docker.io/library",
            "https://docker.io",
            "a.b:",
            "a.b:x",
            "a.b:0",
            "a.b:99999",
            "[::1]:5000",
            "a_b.c",
            ".a",
            "a..b",
            "a.b:1:2",
            "a b.c",
        ] {
            assert_eq!(parse_host(text), Err(HostError), "{text}");
        }
    }
}
