//! The parameters of a request's query.

use std::borrow::Cow;

use super::errors::{ApiError, ErrorCode};
use super::percent;

/// The longest page of a listing, and its length when a client doesn't say: a read of about a millisecond.
pub(super) const PAGE_LENGTH: usize = 1_000;

/// A request's query; parameters that no route knows (`ns` and `origin` among them) are never looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The query of `uri`, empty when it has none.
    pub(super) fn of(uri: &'a http::Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    /// The first value of the parameter `name`; an empty one counts as absent, a broken escape as `None` too.
    pub(super) fn first(self, name: &str) -> Option<Cow<'a, str>> {
        self.all(name).next()
    }

    /// Every value of the parameter `name`, in the order of the query, without empty ones.
    pub(super) fn all<'n>(self, name: &'n str) -> impl Iterator<Item = Cow<'a, str>> + use<'a, 'n> {
        self.0.split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if value.is_empty() || percent::decode(key)? != name {
                return None;
            }
            // A broken escape stays as it was sent, so that the value is judged, and refused, by its own grammar.
            Some(percent::decode(value).unwrap_or(Cow::Borrowed(value)))
        })
    }

    /// The length of page that `n` asks for, [`PAGE_LENGTH`] when it is absent or larger.
    pub(super) fn page_length(self) -> Result<usize, ApiError> {
        let Some(asked) = self.first("n") else { return Ok(PAGE_LENGTH) };
        if asked.is_empty() || !asked.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = "the parameter n has to be a whole number, zero or more";
            return Err(ApiError::new(ErrorCode::PaginationNumberInvalid, message));
        }
        // Digits that no integer holds ask for more than any page has.
        Ok(asked.parse().unwrap_or(usize::MAX).min(PAGE_LENGTH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(query: &str, name: &str) -> Vec<String> {
        Query(query).all(name).map(Cow::into_owned).collect()
    }

    #[test]
    fn parameters_are_found_by_name_decoded_and_in_order() {
        let query = "tag=a&digest=sha256%3Aab&tag=b%2Dc&ns=docker.io&t%61g=d";
        assert_eq!(values(query, "tag"), ["a", "b-c", "d"]);
        assert_eq!(Query(query).first("digest").as_deref(), Some("sha256:ab"));
        assert_eq!(Query(query).first("mount"), None);
    }

    #[test]
    fn a_raw_plus_in_a_media_type_stays() {
        let query = "artifactType=application/vnd.example+json";
        assert_eq!(Query(query).first("artifactType").as_deref(), Some("application/vnd.example+json"));
    }

    #[test]
    fn empty_values_count_as_absent() {
        assert_eq!(Query("digest=&digest&=x&&").first("digest"), None);
    }

    #[test]
    fn a_page_length_is_clamped_and_anything_but_digits_is_refused() {
        assert_eq!(Query("n=5").page_length().ok(), Some(5));
        assert_eq!(Query("n=0").page_length().ok(), Some(0));
        for most in ["", "n=", "n=1000", "n=100000", "n=99999999999999999999999999"] {
            assert_eq!(Query(most).page_length().ok(), Some(PAGE_LENGTH), "{most}");
        }
        for bad in ["n=-1", "n=ten", "n=1.5", "n=0x10", "n=+3"] {
            let error = Query(bad).page_length().expect_err(bad);
            assert_eq!(error.code(), ErrorCode::PaginationNumberInvalid);
        }
    }
}
