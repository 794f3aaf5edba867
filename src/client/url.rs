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
}
