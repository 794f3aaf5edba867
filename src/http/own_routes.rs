//! The end-points under `/v2/_orlop/`, which no other registry has.
//!
//! No repository's name begins with `_orlop`. A path is read between its left marker, `repositories/`, and the words at its
//! right end. `…/tags/tags/history` could be the history of a tag `tags` or the tag `history` itself; the method decides,
//! since no two of these end-points share one.

use crate::oci::{RepositoryName, Tag};

use super::errors::{ApiError, ErrorCode};
use super::routes::{Route, Verb, no_endpoint, parse_name};

/// What a request means whose path, decoded, goes on with `rest` behind `/v2/_orlop/`.
pub(super) fn own_route(rest: &str, verb: Verb) -> Result<Route, ApiError> {
    if rest.starts_with("admin/") {
        return Err(admin_is_local());
    }
    if rest == "token" {
        return match verb {
            Verb::Get | Verb::Head => Ok(Route::GetToken),
            Verb::Post => Ok(Route::CreateToken),
            Verb::Put | Verb::Patch | Verb::Delete | Verb::Other => {
                Err(ApiError::method_not_allowed("GET, HEAD, POST"))
            }
        };
    }
    let path = rest.strip_prefix("repositories/").ok_or_else(no_endpoint)?;
    let (read, write) = (reading(path), writing(path));
    match verb {
        Verb::Get | Verb::Head => match (read, write) {
            (Some(route), _) => route,
            (None, Some(_)) => Err(ApiError::method_not_allowed("PUT")),
            (None, None) => Err(no_endpoint()),
        },
        Verb::Put => match (write, read) {
            (Some(route), _) => route,
            (None, Some(_)) => Err(ApiError::method_not_allowed("GET, HEAD")),
            (None, None) => Err(no_endpoint()),
        },
        // Only a whole repository is deleted here, whatever words its name ends with.
        Verb::Delete => parse_name(path).map(|name| Route::DeleteRepository { name }),
        Verb::Post | Verb::Patch | Verb::Other => match (read, write) {
            (Some(_), Some(_)) => Err(ApiError::method_not_allowed("GET, HEAD, PUT, DELETE")),
            (Some(_), None) => Err(ApiError::method_not_allowed("GET, HEAD, DELETE")),
            (None, Some(_)) => Err(ApiError::method_not_allowed("PUT, DELETE")),
            (None, None) => match parse_name(path) {
                Ok(_) => Err(ApiError::method_not_allowed("DELETE")),
                Err(_) => Err(no_endpoint()),
            },
        },
    }
}

/// That the admin API isn't for everybody who reaches the port.
pub(super) fn admin_is_local() -> ApiError {
    let message = "the admin API is answered on the socket in the data directory, and here to those whom a rule lets \
                   admin; use the orlop command";
    ApiError::new(ErrorCode::EndpointUnknown, message)
}

/// What GET of the path means.
fn reading(path: &str) -> Option<Result<Route, ApiError>> {
    let (before, last) = path.rsplit_once('/')?;
    match last {
        "manifests" => Some(parse_name(before).map(|name| Route::ListManifests { name })),
        "history" => {
            let (name, tag) = between(before, "tags")?;
            Some(named(name, || parse_tag(tag)).map(|(name, tag)| Route::ListTagHistory { name, tag }))
        }
        "tags" => {
            let (name, digest) = between(before, "manifests")?;
            Some(
                named(name, || Ok(digest.parse()?))
                    .map(|(name, digest)| Route::ListManifestTags { name, digest }),
            )
        }
        digest => {
            let name = before.strip_suffix("/signatures")?;
            Some(
                named(name, || Ok(digest.parse()?))
                    .map(|(name, digest)| Route::ListSignatures { name, digest }),
            )
        }
    }
}

/// What PUT to the path means.
fn writing(path: &str) -> Option<Result<Route, ApiError>> {
    let (name, tag) = between(path, "tags")?;
    Some(named(name, || parse_tag(tag)).map(|(name, tag)| Route::SetTag { name, tag }))
}

/// The parts of `<name>/<word>/<last>`.
fn between<'p>(path: &'p str, word: &str) -> Option<(&'p str, &'p str)> {
    let (before, last) = path.rsplit_once('/')?;
    let name = before.strip_suffix(word)?.strip_suffix('/')?;
    Some((name, last))
}

fn named<T>(name: &str, part: impl FnOnce() -> Result<T, ApiError>) -> Result<(RepositoryName, T), ApiError> {
    Ok((parse_name(name)?, part()?))
}

fn parse_tag(tag: &str) -> Result<Tag, ApiError> {
    tag.parse::<Tag>().map_err(|error| ApiError::new(ErrorCode::TagInvalid, error.to_string()))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(method: &Method, path: &str) -> Result<Route, ErrorCode> {
        Route::parse(method, &format!("/v2/_orlop/{path}")).map_err(|error| error.code())
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().expect("a name")
    }

    #[test]
    fn words_of_the_api_belong_to_the_name_wherever_they_can() {
        for repository in ["a", "tags", "a/manifests", "repositories/tags", "history/tags/b", "_orlop"] {
            let valid = repository.parse::<RepositoryName>().is_ok();
            let set = parse(&Method::PUT, &format!("repositories/{repository}/tags/v1"));
            let listed = parse(&Method::GET, &format!("repositories/{repository}/manifests"));
            if valid {
                assert_eq!(
                    set,
                    Ok(Route::SetTag { name: name(repository), tag: "v1".parse().expect("a tag") })
                );
                assert_eq!(listed, Ok(Route::ListManifests { name: name(repository) }));
            } else {
                assert_eq!((set, listed), (Err(ErrorCode::NameInvalid), Err(ErrorCode::NameInvalid)));
            }
        }
    }

    #[test]
    fn the_method_tells_a_tag_called_history_from_the_history_of_a_tag() {
        let path = "repositories/a/tags/tags/history";
        let (tags, history) = ("tags".parse().expect("a tag"), "history".parse().expect("a tag"));
        assert_eq!(parse(&Method::GET, path), Ok(Route::ListTagHistory { name: name("a"), tag: tags }));
        assert_eq!(parse(&Method::PUT, path), Ok(Route::SetTag { name: name("a/tags"), tag: history }));
        assert_eq!(parse(&Method::POST, path), Err(ErrorCode::Unsupported));
        let repository = name("a/tags/tags/history");
        assert_eq!(parse(&Method::DELETE, path), Ok(Route::DeleteRepository { name: repository }));
    }

    #[test]
    fn what_is_malformed_or_nowhere_is_told_apart() {
        for (method, path, code) in [
            (Method::PUT, "repositories/A/tags/v1", ErrorCode::NameInvalid),
            (Method::PUT, "repositories/a/tags/.v1", ErrorCode::TagInvalid),
            (Method::GET, "repositories/a/tags/v1", ErrorCode::Unsupported),
            (Method::PUT, "repositories/a/manifests", ErrorCode::Unsupported),
            (Method::GET, "repositories/a/manifests/v1/tags", ErrorCode::DigestInvalid),
            (Method::GET, "repositories/a/signatures/v1", ErrorCode::DigestInvalid),
            (Method::GET, "repositories/a", ErrorCode::EndpointUnknown),
            (Method::POST, "repositories/a", ErrorCode::Unsupported),
            (Method::DELETE, "repositories/A", ErrorCode::NameInvalid),
            (Method::GET, "repositories/", ErrorCode::EndpointUnknown),
            (Method::GET, "nonsense/a/manifests", ErrorCode::EndpointUnknown),
        ] {
            assert_eq!(parse(&method, path), Err(code), "{method} {path}");
        }
        let path = format!("repositories/a/manifests/sha256:{HEX}/tags");
        assert!(matches!(parse(&Method::HEAD, &path), Ok(Route::ListManifestTags { .. })));
        let path = format!("repositories/signatures/signatures/sha256:{HEX}");
        assert!(matches!(parse(&Method::GET, &path), Ok(Route::ListSignatures { .. })));
    }
}
