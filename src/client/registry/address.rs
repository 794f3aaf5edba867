//! Where an upstream is.

use std::fmt;
use std::str::FromStr;

use crate::client::Url;
use crate::oci::RepositoryName;

/// A registry whose images are called by another host than the one that serves them, or whose token service is known.
struct WellKnown {
    /// What images call it.
    name: &'static str,
    /// Who serves its API.
    host: &'static str,
    /// The only host that gets its credentials in exchange for a token, where that is another one.
    token_host: Option<&'static str>,
}

/// The registries that can be named without an address.
const WELL_KNOWN: &[WellKnown] = &[
    WellKnown { name: "docker.io", host: "registry-1.docker.io", token_host: Some("auth.docker.io") },
    WellKnown { name: "index.docker.io", host: "registry-1.docker.io", token_host: Some("auth.docker.io") },
    WellKnown { name: "ghcr.io", host: "ghcr.io", token_host: None },
    WellKnown { name: "quay.io", host: "quay.io", token_host: None },
    WellKnown { name: "registry.k8s.io", host: "registry.k8s.io", token_host: None },
    WellKnown { name: "gcr.io", host: "gcr.io", token_host: None },
    WellKnown { name: "mcr.microsoft.com", host: "mcr.microsoft.com", token_host: None },
    WellKnown { name: "public.ecr.aws", host: "public.ecr.aws", token_host: None },
];

/// The address of a registry: scheme, host, and what stands before the names of its repositories.
///
/// A path without `v2` in it stands before names, as in `location` of podman: `harbor.example/hub` asks for
/// `/v2/hub/library/busybox/…`. A path with `v2` is taken as it is, as with containerd's `override_path`. Plain HTTP is
/// spoken only where `http://` is written.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    root: Url,
    /// What stands before the name in a URL, without a slash at the end: `/v2`, `/v2/hub`.
    path: String,
    /// What stands before the name in the registry's own eyes: nothing, or `hub/`.
    prefix: String,
    token_host: Option<&'static str>,
}

/// A text that is no registry's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a host such as ghcr.io, or an address such as https://registry.example.org:5000 without user, password or query; \
     http:// is for registries without TLS"
)]
pub struct AddressError;

impl Address {
    /// The host that is asked, with its port where that isn't the scheme's own.
    pub fn host(&self) -> String {
        self.root.host()
    }

    /// Whether it is asked over TLS.
    pub fn is_secure(&self) -> bool {
        self.root.is_secure()
    }

    /// Whether credentials may be given to a token service at this host.
    pub(super) fn trusts_token_host(&self, host: &str) -> bool {
        self.token_host.is_none_or(|own| own == host)
    }

    /// The URL of something in a repository.
    pub(super) fn url(&self, name: &RepositoryName, rest: &str, query: Option<&str>) -> Url {
        self.root.with_path(&format!("{}/{name}/{rest}", self.path), query)
    }

    /// The URL of the list of all repositories.
    pub(super) fn catalog_url(&self, query: Option<&str>) -> Url {
        let own = self.path.len() - self.prefix.len();
        self.root.with_path(&format!("{}/_catalog", &self.path[..own]), query)
    }

    /// What a name in that list is below this address; none where it is elsewhere.
    pub(super) fn name_below<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(self.prefix.as_str())
    }

    /// The scope of a token that lets a repository be pulled.
    pub(super) fn pull_scope(&self, name: &RepositoryName) -> String {
        format!("repository:{}{name}:pull", self.prefix)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let known = WELL_KNOWN.iter().find(|known| known.name == text);
        let host = known.map_or(text, |known| known.host);
        let written = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
        let root: Url = written.parse().map_err(|_| AddressError)?;
        // A query or fragment would be dropped in silence.
        if root.has_credentials() || written.contains(['?', '#', '@']) {
            return Err(AddressError);
        }
        let parts: Vec<&str> = root.path().split('/').filter(|part| !part.is_empty()).collect();
        let own = parts.iter().rposition(|part| *part == "v2").map_or(0, |place| place + 1);
        let prefix: String = parts[own..].iter().flat_map(|part| [part, "/"]).collect();
        let path: String = parts.iter().flat_map(|part| ["/", part]).collect();
        let path = if own == 0 { format!("/v2{path}") } else { path };
        Ok(Address { root, path, prefix, token_host: known.and_then(|known| known.token_host) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_registries_need_no_address() {
        for (name, url) in [
            ("docker.io", "https://registry-1.docker.io/v2/library/busybox/tags/list"),
            ("ghcr.io", "https://ghcr.io/v2/library/busybox/tags/list"),
            ("quay.io", "https://quay.io/v2/library/busybox/tags/list"),
            ("registry.k8s.io", "https://registry.k8s.io/v2/library/busybox/tags/list"),
            ("gcr.io", "https://gcr.io/v2/library/busybox/tags/list"),
            ("mcr.microsoft.com", "https://mcr.microsoft.com/v2/library/busybox/tags/list"),
            ("public.ecr.aws", "https://public.ecr.aws/v2/library/busybox/tags/list"),
        ] {
            let address: Address = name.parse().unwrap();
            let busybox = "library/busybox".parse().unwrap();
            assert_eq!(address.url(&busybox, "tags/list", None).to_string(), url);
            assert_eq!(address.pull_scope(&busybox), "repository:library/busybox:pull");
        }
        let hub: Address = "docker.io".parse().unwrap();
        assert!(hub.trusts_token_host("auth.docker.io") && !hub.trusts_token_host("auth.example.org"));
    }

    #[test]
    fn a_path_stands_before_names() {
        let name = "a/b".parse().unwrap();
        for (text, url, scope) in [
            ("localhost:5000", "https://localhost:5000/v2/a/b/x", "repository:a/b:pull"),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000/v2/a/b/x", "repository:a/b:pull"),
            ("https://c.example/hub", "https://c.example/v2/hub/a/b/x", "repository:hub/a/b:pull"),
            ("https://c.example/v2/hub/", "https://c.example/v2/hub/a/b/x", "repository:hub/a/b:pull"),
            ("https://c.example/in/v2", "https://c.example/in/v2/a/b/x", "repository:a/b:pull"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.url(&name, "x", None).to_string(), url, "{text}");
            assert_eq!(address.pull_scope(&name), scope, "{text}");
            let listed = scope.trim_start_matches("repository:").trim_end_matches(":pull");
            assert_eq!(address.name_below(listed), Some("a/b"), "{text}");
            let catalog = address.catalog_url(None).to_string();
            assert!(catalog.ends_with("/v2/_catalog") && !catalog.contains("hub"), "{catalog}");
        }
    }

    #[test]
    fn what_can_not_be_asked_is_refused() {
        for text in ["", "ftp://a", "https://", "https://user:pass@a", "https://user@a", "https://a/?x=1"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }
}
