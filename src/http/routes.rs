//! The end-points of the API, and which request means which of them.
//!
//! A repository's name may have any number of components, `blobs`, `manifests` and `tags` among them, so a path is
//! read from its right end, where the words of the end-point stand. It is percent-decoded exactly once, as a whole;
//! what it names is then held to the grammars of names, tags and digests, none of which admits `.` or `..` as a part.

use http::Method;

use crate::blobs::UploadId;
use crate::oci::{Digest, DigestError, ProvisionalDigest, Reference, ReferenceError, RepositoryName, Tag};

use super::errors::{ApiError, ErrorCode, upload_unknown};
use super::own_routes::own_route;
use super::percent;

/// The path of the token endpoint.
pub(super) const TOKEN_PATH: &str = "/v2/_orlop/token";

/// What a client has to be allowed to do for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nothing in particular, but to be somebody.
    Any,
    /// Nothing: they say who they are in the request itself.
    Credentials,
    /// Read from the repository.
    Pull,
    /// Add to the repository.
    Push,
    /// Take from the repository.
    Delete,
    /// See the names of all repositories.
    List,
}

/// What a request under `/v2/` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "`row` says of each what it is")]
pub enum Operation {
    GetBase,
    GetToken,
    CreateToken,
    ListRepositories,
    GetBlob,
    HeadBlob,
    DeleteBlob,
    CreateUpload,
    GetUpload,
    WriteUpload,
    CommitUpload,
    CancelUpload,
    GetManifest,
    HeadManifest,
    PutManifest,
    DeleteManifest,
    ListTags,
    ListReferrers,
    DeleteRepository,
    SetTag,
    ListTagHistory,
    ListManifests,
    ListManifestTags,
    ListSignatures,
}

/// One row of the table of end-points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The operation's name in logs and metrics.
    pub name: &'static str,
    /// The method; a GET that isn't listed for HEAD too answers HEAD as HTTP defines it.
    pub method: &'static str,
    /// The path, with what varies in angle brackets.
    pub path: &'static str,
    /// What the client has to be allowed to do.
    pub access: Access,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Operation; 24] = [
        Operation::GetBase,
        Operation::GetToken,
        Operation::CreateToken,
        Operation::ListRepositories,
        Operation::GetBlob,
        Operation::HeadBlob,
        Operation::DeleteBlob,
        Operation::CreateUpload,
        Operation::GetUpload,
        Operation::WriteUpload,
        Operation::CommitUpload,
        Operation::CancelUpload,
        Operation::GetManifest,
        Operation::HeadManifest,
        Operation::PutManifest,
        Operation::DeleteManifest,
        Operation::ListTags,
        Operation::ListReferrers,
        Operation::DeleteRepository,
        Operation::SetTag,
        Operation::ListTagHistory,
        Operation::ListManifests,
        Operation::ListManifestTags,
        Operation::ListSignatures,
    ];

    /// The operation's row in the table of end-points.
    #[rustfmt::skip]
    pub const fn row(self) -> Row {
        const BLOB: &str = "/v2/<name>/blobs/<digest>";
        const UPLOAD: &str = "/v2/<name>/blobs/uploads/<id>";
        const MANIFEST: &str = "/v2/<name>/manifests/<reference>";
        const OWN_TAG: &str = "/v2/_orlop/repositories/<name>/tags/<tag>";
        const OWN_HISTORY: &str = "/v2/_orlop/repositories/<name>/tags/<tag>/history";
        const OWN_MANIFESTS: &str = "/v2/_orlop/repositories/<name>/manifests";
        const OWN_MANIFEST_TAGS: &str = "/v2/_orlop/repositories/<name>/manifests/<digest>/tags";
        const OWN_SIGNATURES: &str = "/v2/_orlop/repositories/<name>/signatures/<digest>";
        let (name, method, path, access) = match self {
            Self::GetBase          => ("get_base",          "GET",    "/v2/",                        Access::Any),
            Self::GetToken         => ("get_token",         "GET",    TOKEN_PATH,                    Access::Credentials),
            Self::CreateToken      => ("create_token",      "POST",   TOKEN_PATH,                    Access::Credentials),
            Self::ListRepositories => ("list_repositories", "GET",    "/v2/_catalog",                Access::List),
            Self::GetBlob          => ("get_blob",          "GET",    BLOB,                          Access::Pull),
            Self::HeadBlob         => ("head_blob",         "HEAD",   BLOB,                          Access::Pull),
            Self::DeleteBlob       => ("delete_blob",       "DELETE", BLOB,                          Access::Delete),
            Self::CreateUpload     => ("create_upload",     "POST",   "/v2/<name>/blobs/uploads/",   Access::Push),
            Self::GetUpload        => ("get_upload",        "GET",    UPLOAD,                        Access::Push),
            Self::WriteUpload      => ("write_upload",      "PATCH",  UPLOAD,                        Access::Push),
            Self::CommitUpload     => ("commit_upload",     "PUT",    UPLOAD,                        Access::Push),
            Self::CancelUpload     => ("cancel_upload",     "DELETE", UPLOAD,                        Access::Push),
            Self::GetManifest      => ("get_manifest",      "GET",    MANIFEST,                      Access::Pull),
            Self::HeadManifest     => ("head_manifest",     "HEAD",   MANIFEST,                      Access::Pull),
            Self::PutManifest      => ("put_manifest",      "PUT",    MANIFEST,                      Access::Push),
            Self::DeleteManifest   => ("delete_manifest",   "DELETE", MANIFEST,                      Access::Delete),
            Self::ListTags         => ("list_tags",         "GET",    "/v2/<name>/tags/list",        Access::Pull),
            Self::ListReferrers    => ("list_referrers",    "GET",    "/v2/<name>/referrers/<digest>", Access::Pull),
            Self::DeleteRepository => ("delete_repository", "DELETE", "/v2/_orlop/repositories/<name>", Access::Delete),
            Self::SetTag           => ("set_tag",           "PUT",    OWN_TAG,                       Access::Push),
            Self::ListTagHistory   => ("list_tag_history",  "GET",    OWN_HISTORY,                   Access::Pull),
            Self::ListManifests    => ("list_manifests",    "GET",    OWN_MANIFESTS,                 Access::Pull),
            Self::ListManifestTags => ("list_manifest_tags", "GET",   OWN_MANIFEST_TAGS,             Access::Pull),
            Self::ListSignatures   => ("list_signatures",   "GET",    OWN_SIGNATURES,                Access::Pull),
        };
        Row { name, method, path, access }
    }

    /// The operation that a request with this method and this path, still encoded and without a query, asks for; the code of
    /// the answer where it asks for none.
    pub fn of(method: &Method, path: &str) -> Result<Operation, ErrorCode> {
        Route::parse(method, path).map(|route| route.operation()).map_err(|error| error.code())
    }
}

/// One request, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    GetBase,
    GetToken,
    CreateToken,
    ListRepositories,
    GetBlob {
        name: RepositoryName,
        digest: ProvisionalDigest,
    },
    HeadBlob {
        name: RepositoryName,
        digest: ProvisionalDigest,
    },
    DeleteBlob {
        name: RepositoryName,
        digest: ProvisionalDigest,
    },
    CreateUpload {
        name: RepositoryName,
    },
    GetUpload {
        name: RepositoryName,
        id: UploadId,
    },
    WriteUpload {
        name: RepositoryName,
        id: UploadId,
    },
    CommitUpload {
        name: RepositoryName,
        id: UploadId,
    },
    CancelUpload {
        name: RepositoryName,
        id: UploadId,
    },
    GetManifest {
        name: RepositoryName,
        reference: Reference,
    },
    HeadManifest {
        name: RepositoryName,
        reference: Reference,
    },
    PutManifest {
        name: RepositoryName,
        reference: Reference,
    },
    DeleteManifest {
        name: RepositoryName,
        reference: Reference,
    },
    ListTags {
        name: RepositoryName,
    },
    /// `subject` is absent when it is of an algorithm that the registry doesn't know: nothing can refer to it here.
    ListReferrers {
        name: RepositoryName,
        subject: Option<Digest>,
    },
    DeleteRepository {
        name: RepositoryName,
    },
    SetTag {
        name: RepositoryName,
        tag: Tag,
    },
    ListTagHistory {
        name: RepositoryName,
        tag: Tag,
    },
    ListManifests {
        name: RepositoryName,
    },
    ListManifestTags {
        name: RepositoryName,
        digest: Digest,
    },
    ListSignatures {
        name: RepositoryName,
        digest: Digest,
    },
}

impl Route {
    /// What a request with this method and this path asks for.
    pub(super) fn parse(method: &Method, path: &str) -> Result<Self, ApiError> {
        let verb = Verb::of(method);
        if path == "/v2" || path == "/v2/" {
            return verb.get(Route::GetBase, "GET, HEAD");
        }
        let Some(path) = percent::decode(path) else {
            let message = "the path has a broken percent escape, or isn't UTF-8";
            return Err(ApiError::new(ErrorCode::NameInvalid, message));
        };
        if let Some(rest) = path.strip_prefix("/v2/_orlop/") {
            return own_route(rest, verb);
        }
        let Some(target) = path.strip_prefix("/v2/").and_then(Target::of) else { return Err(no_endpoint()) };
        target.route(verb)
    }

    /// The repository that this is about.
    pub(super) fn name_mut(&mut self) -> Option<&mut RepositoryName> {
        match self {
            Self::GetBase | Self::GetToken | Self::CreateToken | Self::ListRepositories => None,
            Self::GetBlob { name, .. }
            | Self::HeadBlob { name, .. }
            | Self::DeleteBlob { name, .. }
            | Self::CreateUpload { name }
            | Self::GetUpload { name, .. }
            | Self::WriteUpload { name, .. }
            | Self::CommitUpload { name, .. }
            | Self::CancelUpload { name, .. }
            | Self::GetManifest { name, .. }
            | Self::HeadManifest { name, .. }
            | Self::PutManifest { name, .. }
            | Self::DeleteManifest { name, .. }
            | Self::ListTags { name }
            | Self::ListReferrers { name, .. }
            | Self::DeleteRepository { name }
            | Self::SetTag { name, .. }
            | Self::ListTagHistory { name, .. }
            | Self::ListManifests { name }
            | Self::ListManifestTags { name, .. }
            | Self::ListSignatures { name, .. } => Some(name),
        }
    }

    /// The operation that this is a request for.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::GetBase => Operation::GetBase,
            Self::GetToken => Operation::GetToken,
            Self::CreateToken => Operation::CreateToken,
            Self::ListRepositories => Operation::ListRepositories,
            Self::GetBlob { .. } => Operation::GetBlob,
            Self::HeadBlob { .. } => Operation::HeadBlob,
            Self::DeleteBlob { .. } => Operation::DeleteBlob,
            Self::CreateUpload { .. } => Operation::CreateUpload,
            Self::GetUpload { .. } => Operation::GetUpload,
            Self::WriteUpload { .. } => Operation::WriteUpload,
            Self::CommitUpload { .. } => Operation::CommitUpload,
            Self::CancelUpload { .. } => Operation::CancelUpload,
            Self::GetManifest { .. } => Operation::GetManifest,
            Self::HeadManifest { .. } => Operation::HeadManifest,
            Self::PutManifest { .. } => Operation::PutManifest,
            Self::DeleteManifest { .. } => Operation::DeleteManifest,
            Self::ListTags { .. } => Operation::ListTags,
            Self::ListReferrers { .. } => Operation::ListReferrers,
            Self::DeleteRepository { .. } => Operation::DeleteRepository,
            Self::SetTag { .. } => Operation::SetTag,
            Self::ListTagHistory { .. } => Operation::ListTagHistory,
            Self::ListManifests { .. } => Operation::ListManifests,
            Self::ListManifestTags { .. } => Operation::ListManifestTags,
            Self::ListSignatures { .. } => Operation::ListSignatures,
        }
    }
}

/// The methods that any end-point has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Other,
}

impl Verb {
    fn of(method: &Method) -> Self {
        match method.as_str() {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }

    /// `route` for GET and HEAD, of an end-point that has no others.
    pub(super) fn get(self, route: Route, allow: &'static str) -> Result<Route, ApiError> {
        match self {
            Self::Get | Self::Head => Ok(route),
            Self::Post | Self::Put | Self::Patch | Self::Delete | Self::Other => {
                Err(ApiError::method_not_allowed(allow))
            }
        }
    }
}

/// What a path points at, its parts as they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    Catalog,
    Blob { name: &'a str, digest: &'a str },
    Uploads { name: &'a str },
    Upload { name: &'a str, id: &'a str },
    Manifest { name: &'a str, reference: &'a str },
    Tags { name: &'a str },
    Referrers { name: &'a str, digest: &'a str },
}

impl<'a> Target<'a> {
    /// Reads a decoded path, without its `/v2/`, from the right.
    fn of(path: &'a str) -> Option<Self> {
        if path == "_catalog" {
            return Some(Self::Catalog);
        }
        let (before, last) = path.rsplit_once('/')?;
        if last.is_empty() {
            return before.strip_suffix("/blobs/uploads").map(|name| Self::Uploads { name });
        }
        let (name, word) = before.rsplit_once('/')?;
        match (word, last) {
            ("blobs", "uploads") => Some(Self::Uploads { name }),
            ("blobs", digest) => Some(Self::Blob { name, digest }),
            ("manifests", reference) => Some(Self::Manifest { name, reference }),
            ("tags", "list") => Some(Self::Tags { name }),
            ("referrers", digest) => Some(Self::Referrers { name, digest }),
            ("uploads", id) => name.strip_suffix("/blobs").map(|name| Self::Upload { name, id }),
            _ => None,
        }
    }

    fn route(self, verb: Verb) -> Result<Route, ApiError> {
        let not_allowed = |allow| Err(ApiError::method_not_allowed(allow));
        match self {
            Self::Catalog => verb.get(Route::ListRepositories, "GET, HEAD"),
            Self::Blob { name, digest } => match verb {
                Verb::Get => Ok(Route::GetBlob { name: parse_name(name)?, digest: digest.parse()? }),
                Verb::Head => Ok(Route::HeadBlob { name: parse_name(name)?, digest: digest.parse()? }),
                Verb::Delete => Ok(Route::DeleteBlob { name: parse_name(name)?, digest: digest.parse()? }),
                Verb::Post | Verb::Put | Verb::Patch | Verb::Other => not_allowed("GET, HEAD, DELETE"),
            },
            Self::Uploads { name } => match verb {
                Verb::Post => Ok(Route::CreateUpload { name: parse_name(name)? }),
                Verb::Get | Verb::Head | Verb::Put | Verb::Patch | Verb::Delete | Verb::Other => {
                    not_allowed("POST")
                }
            },
            Self::Upload { name, id } => match verb {
                Verb::Get | Verb::Head => Ok(Route::GetUpload { name: parse_name(name)?, id: parse_id(id)? }),
                Verb::Patch => Ok(Route::WriteUpload { name: parse_name(name)?, id: parse_id(id)? }),
                Verb::Put => Ok(Route::CommitUpload { name: parse_name(name)?, id: parse_id(id)? }),
                Verb::Delete => Ok(Route::CancelUpload { name: parse_name(name)?, id: parse_id(id)? }),
                Verb::Post | Verb::Other => not_allowed("GET, HEAD, PATCH, PUT, DELETE"),
            },
            Self::Manifest { name, reference } => {
                let name = || parse_name(name);
                match verb {
                    Verb::Get => {
                        Ok(Route::GetManifest { name: name()?, reference: find_reference(reference)? })
                    }
                    Verb::Head => {
                        Ok(Route::HeadManifest { name: name()?, reference: find_reference(reference)? })
                    }
                    Verb::Put => {
                        Ok(Route::PutManifest { name: name()?, reference: new_reference(reference)? })
                    }
                    Verb::Delete => {
                        Ok(Route::DeleteManifest { name: name()?, reference: find_reference(reference)? })
                    }
                    Verb::Post | Verb::Patch | Verb::Other => not_allowed("GET, HEAD, PUT, DELETE"),
                }
            }
            Self::Tags { name } => match verb {
                Verb::Get | Verb::Head => Ok(Route::ListTags { name: parse_name(name)? }),
                Verb::Post | Verb::Put | Verb::Patch | Verb::Delete | Verb::Other => not_allowed("GET, HEAD"),
            },
            Self::Referrers { name, digest } => match verb {
                Verb::Get | Verb::Head => {
                    Ok(Route::ListReferrers { name: parse_name(name)?, subject: parse_subject(digest)? })
                }
                Verb::Post | Verb::Put | Verb::Patch | Verb::Delete | Verb::Other => not_allowed("GET, HEAD"),
            },
        }
    }
}

/// That no end-point has the path.
pub(super) fn no_endpoint() -> ApiError {
    let message = "no end-point has this path; the API's paths are /v2/, /v2/_catalog and /v2/<name>/...";
    ApiError::new(ErrorCode::EndpointUnknown, message)
}

pub(in crate::http) fn parse_name(name: &str) -> Result<RepositoryName, ApiError> {
    name.parse::<RepositoryName>().map_err(|error| ApiError::new(ErrorCode::NameInvalid, error.to_string()))
}

/// An id that can't be one names no upload.
fn parse_id(id: &str) -> Result<UploadId, ApiError> {
    id.parse().map_err(|_| upload_unknown())
}

/// A reference to something that is being pushed.
fn new_reference(reference: &str) -> Result<Reference, ApiError> {
    reference.parse::<Reference>().map_err(|error| match error {
        ReferenceError::Tag(error) => ApiError::new(ErrorCode::TagInvalid, error.to_string()),
        ReferenceError::Digest(error) => error.into(),
    })
}

/// A reference to something that may exist: what can't be a tag is no tag of any manifest.
fn find_reference(reference: &str) -> Result<Reference, ApiError> {
    reference.parse::<Reference>().map_err(|error| match error {
        ReferenceError::Tag(error) => ApiError::new(ErrorCode::ManifestUnknown, error.to_string()),
        ReferenceError::Digest(error) => error.into(),
    })
}

fn parse_subject(digest: &str) -> Result<Option<Digest>, ApiError> {
    match digest.parse::<Digest>() {
        Ok(digest) => Ok(Some(digest)),
        Err(DigestError::Unsupported(_)) => Ok(None),
        Err(error @ DigestError::Malformed(_)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(method: &str, path: &str) -> Result<Route, ErrorCode> {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        Route::parse(&method, path).map_err(|error| error.code())
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().expect("a name")
    }

    fn digest() -> ProvisionalDigest {
        format!("sha256:{HEX}").parse().expect("a digest")
    }

    #[test]
    fn every_operation_is_reached_by_its_row() {
        let id = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
        for operation in Operation::ALL {
            let Row { method, path, .. } = operation.row();
            let path = path
                .replace("<name>", "library/busybox")
                .replace("<digest>", &format!("sha256:{HEX}"))
                .replace("<reference>", "latest")
                .replace("<tag>", "latest")
                .replace("<id>", id);
            let method = method.parse().expect("a method");
            assert_eq!(Operation::of(&method, &path), Ok(operation), "{method} {path}");
        }
    }

    #[test]
    fn the_api_is_found_with_and_without_a_slash() {
        for path in ["/v2", "/v2/"] {
            assert_eq!(parse("GET", path), Ok(Route::GetBase));
            assert_eq!(parse("HEAD", path), Ok(Route::GetBase));
        }
    }

    #[test]
    fn components_that_are_words_of_the_api_belong_to_the_name() {
        for repository in
            ["blobs", "manifests/blobs", "a/blobs/uploads", "tags/list", "uploads", "a/referrers/b"]
        {
            assert_eq!(
                parse("GET", &format!("/v2/{repository}/manifests/uploads")),
                Ok(Route::GetManifest {
                    name: name(repository),
                    reference: "uploads".parse().expect("a tag")
                })
            );
            assert_eq!(
                parse("GET", &format!("/v2/{repository}/blobs/sha256:{HEX}")),
                Ok(Route::GetBlob { name: name(repository), digest: digest() })
            );
            assert_eq!(
                parse("GET", &format!("/v2/{repository}/tags/list")),
                Ok(Route::ListTags { name: name(repository) })
            );
            assert_eq!(
                parse("POST", &format!("/v2/{repository}/blobs/uploads/")),
                Ok(Route::CreateUpload { name: name(repository) })
            );
        }
    }

    #[test]
    fn names_may_have_any_depth() {
        let deep = vec!["a"; 120].join("/");
        assert_eq!(parse("GET", &format!("/v2/{deep}/tags/list")), Ok(Route::ListTags { name: name(&deep) }));
    }

    #[test]
    fn an_upload_may_be_started_without_the_last_slash() {
        assert_eq!(parse("POST", "/v2/a/blobs/uploads"), Ok(Route::CreateUpload { name: name("a") }));
    }

    #[test]
    fn escapes_are_decoded_once_wherever_they_stand() {
        let expected = Ok(Route::GetBlob { name: name("a/b"), digest: digest() });
        assert_eq!(parse("GET", &format!("/v2/a%2Fb/blobs/sha256%3A{HEX}")), expected);
        assert_eq!(parse("GET", &format!("/v2/a/b/%62lobs/sha256%3a{HEX}")), expected);
        assert_eq!(parse("GET", "/v2/a%252Fb/tags/list"), Err(ErrorCode::NameInvalid));
    }

    #[test]
    fn no_path_leads_out_of_the_repositories() {
        for path in [
            "/v2/../tags/list",
            "/v2/a/../b/tags/list",
            "/v2/%2e%2e/tags/list",
            "/v2/a/%2E%2E%2Fb/tags/list",
            "/v2/./tags/list",
            "/v2//tags/list",
            "/v2/a//b/tags/list",
            "/v2/a%00/tags/list",
            "/v2/A/tags/list",
            "/v2/a%5Cb/tags/list",
            "/v2/a%/tags/list",
            "/v2/%ff/tags/list",
            "/v2/_oci/tags/list",
        ] {
            assert_eq!(parse("GET", path), Err(ErrorCode::NameInvalid), "{path}");
        }
    }

    #[test]
    fn paths_of_no_endpoint_are_not_found() {
        for path in [
            "/v2/a",
            "/v2/tags/list",
            "/v2/manifests/latest",
            "/v2/blobs/uploads/",
            "/v2/a/tags/list/",
            "/v3/a/tags/list",
        ] {
            assert_eq!(parse("GET", path), Err(ErrorCode::EndpointUnknown), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_a_digest_is_refused_and_what_cannot_be_a_tag_is_not_found() {
        assert_eq!(parse("GET", "/v2/a/manifests/sha256:baddigeststring"), Err(ErrorCode::DigestInvalid));
        assert_eq!(parse("PUT", "/v2/a/manifests/sha256:baddigeststring"), Err(ErrorCode::DigestInvalid));
        assert_eq!(parse("GET", "/v2/a/blobs/sha256:1234"), Err(ErrorCode::DigestInvalid));
        assert_eq!(parse("GET", "/v2/a/manifests/.INVALID_MANIFEST_NAME"), Err(ErrorCode::ManifestUnknown));
        assert_eq!(parse("PUT", "/v2/a/manifests/.INVALID_MANIFEST_NAME"), Err(ErrorCode::TagInvalid));
        assert_eq!(parse("PATCH", "/v2/a/blobs/uploads/no-id"), Err(ErrorCode::BlobUploadUnknown));
    }

    #[test]
    fn a_subject_of_an_unknown_algorithm_has_no_referrers_and_a_malformed_one_is_refused() {
        let path = format!("/v2/a/referrers/blake3:{HEX}");
        assert_eq!(parse("GET", &path), Ok(Route::ListReferrers { name: name("a"), subject: None }));
        assert_eq!(parse("GET", "/v2/a/referrers/sha256:xyz"), Err(ErrorCode::DigestInvalid));
        assert_eq!(parse("GET", "/v2/a/referrers/latest"), Err(ErrorCode::DigestInvalid));
    }

    #[test]
    fn methods_that_an_endpoint_lacks_are_not_allowed() {
        for (method, path) in [
            ("POST", "/v2/"),
            ("PUT", "/v2/_catalog"),
            ("POST", "/v2/a/manifests/latest"),
            ("GET", "/v2/a/blobs/uploads/"),
            ("POST", "/v2/a/blobs/uploads/x"),
            ("DELETE", "/v2/a/tags/list"),
            ("PROPFIND", "/v2/a/tags/list"),
            ("OPTIONS", "/v2/a/referrers/x"),
        ] {
            assert_eq!(parse(method, path), Err(ErrorCode::Unsupported), "{method} {path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_the_parser_panic(path in "/v2/([a-z%./:0-9_]|blobs/|uploads/|manifests/|tags/list){0,12}") {
            for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"] {
                let _ = parse(method, &path);
            }
        }
    }
}
