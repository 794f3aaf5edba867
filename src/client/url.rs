//! URLs to call.

use std::fmt;
use std::str::FromStr;

/// An `http` or `https` URL. Printed without what may be secret: user, password and query.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(pub(super) reqwest::Url);

/// A text that is no URL to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a URL that starts with http:// or https://, for example \"https://hooks.example.org/orlop\"")]
pub struct UrlError;

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let url = reqwest::Url::parse(text).map_err(|_| UrlError)?;
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
        if is_http { Ok(Url(url)) } else { Err(UrlError) }
    }
}

impl Url {
    /// Whether what is sent there is encrypted.
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The host, with its port where that isn't the scheme's own.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The path, which begins with a slash.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// Whether there is a user or a password in it.
    pub fn has_credentials(&self) -> bool {
        !self.0.username().is_empty() || self.0.password().is_some()
    }

    /// The same URL with another path and query.
    #[must_use]
    pub fn with_path(&self, path: &str, query: Option<&str>) -> Url {
        let mut url = self.0.clone();
        url.set_path(path);
        url.set_query(query);
        url.set_fragment(None);
        Url(url)
    }

    /// The same URL with more pairs in its query, escaped.
    #[must_use]
    pub fn with_query(&self, pairs: &[(&str, &str)]) -> Url {
        let mut url = self.0.clone();
        url.query_pairs_mut().extend_pairs(pairs);
        Url(url)
    }

    /// Where a redirection from here leads, without a user or password that it may name.
    pub fn join(&self, location: &str) -> Result<Url, UrlError> {
        let mut url = self.0.join(location).map_err(|_| UrlError)?;
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
        let is_bare = url.set_username("").and_then(|()| url.set_password(None)).is_ok();
        if is_http && is_bare { Ok(Url(url)) } else { Err(UrlError) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        // Neither fails on a URL with a host.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.fmt(f)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_not_printed() {
        let url: Url = "https://user:pass@hooks.example.org:8443/a/b?token=secret#x".parse().unwrap();
        assert_eq!(url.to_string(), "https://hooks.example.org:8443/a/b");
        assert_eq!(format!("{url:?}"), "https://hooks.example.org:8443/a/b");
    }

    #[test]
    fn only_http_is_called() {
        for text in ["", "hooks.example.org", "ftp://a/b", "file:///etc/passwd", "https://", "unix:/x"] {
            assert_eq!(text.parse::<Url>(), Err(UrlError), "{text}");
        }
    }

    #[test]
    fn a_redirection_leads_to_http_without_credentials() {
        let url: Url = "https://a.example:8443/v2/x".parse().unwrap();
        assert_eq!(url.host(), "a.example:8443");
        for (location, leads_to) in [
            ("/y?z", "https://a.example:8443/y?z"),
            ("//b.example/y", "https://b.example/y"),
            ("https://user:pass@b.example/y", "https://b.example/y"),
        ] {
            assert_eq!(url.join(location).unwrap().0.as_str(), leads_to);
        }
        assert_eq!(url.join("file:///etc/passwd"), Err(UrlError));
    }
}
