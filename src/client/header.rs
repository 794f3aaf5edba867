//! Headers that a configuration adds to requests.

use std::str::FromStr;

use http::{HeaderName, HeaderValue};

/// A header of outbound requests. Its value is a secret and is never printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub(super) name: HeaderName,
    /// Marked as sensitive, which keeps it out of debug output and of logs.
    pub(super) value: HeaderValue,
}

/// A text that is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a header's name and its value, for example Authorization = \"Bearer …\"")]
pub struct HeaderError;

impl Header {
    /// Its name, in lower case.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl FromStr for Header {
    type Err = HeaderError;

    /// Reads `Name: value`.
    fn from_str(text: &str) -> Result<Header, HeaderError> {
        let (name, value) = text.split_once(':').ok_or(HeaderError)?;
        let name = name.trim().parse::<HeaderName>().map_err(|_| HeaderError)?;
        let mut value = value.trim().parse::<HeaderValue>().map_err(|_| HeaderError)?;
        value.set_sensitive(true);
        Ok(Header { name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_printed() {
        let header: Header = "Authorization: Bearer abc:def".parse().unwrap();
        assert_eq!((header.name(), header.value.to_str().unwrap()), ("authorization", "Bearer abc:def"));
        assert!(!format!("{header:?}").contains("abc"));
    }

    #[test]
    fn a_text_that_could_break_the_request_is_refused() {
        for text in ["", "name", "na me: x", "name: a\r\nother: b", ": x"] {
            assert_eq!(text.parse::<Header>(), Err(HeaderError), "{text:?}");
        }
    }
}
