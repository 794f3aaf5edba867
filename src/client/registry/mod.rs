//! A client of other registries: manifests, blobs, referrers and tags, pulled by whatever rules the registry has.
//!
//! [`Upstream`] does for its caller what every puller has to do:
//!
//! - **Tokens.** A `Bearer` challenge is answered with a token for `repository:<name>:pull`, fetched once for all who wait and
//!   kept until shortly before it ends. A token that is refused before its end is fetched anew, once. `Basic` and no challenge
//!   at all work too.
//! - **Credentials stay.** They are sent to the upstream's own address and to the token service that it names, never over worse
//!   transport than the upstream's, never after a redirection, and are in no error, log line or debug output.
//! - **Redirections** are followed without authorization, a few at most, and never from `https` to `http`.
//! - **Failures that may pass** (no connection, 5xx, a short `Retry-After`) are tried again after a pause, a bounded number of
//!   times within a bounded time. A time-out isn't: whoever waits has waited already.
//! - **Memory is bounded**: of manifests and lists by a limit, of tokens by 1 MiB, of an error's body by a few KiB.
//!
//! [`Error`] tells apart what a cache has to: what is not there, what is refused, when to come back, whether the upstream is
//! away, and answers that can't be right. Nothing here knows of this registry's own content; what a digest promises of a blob
//! is checked by whoever takes its bytes, what it promises of a manifest here.

mod address;
mod blob;
mod challenge;
mod credentials;
mod error;
mod exchange;
mod listing;
mod manifest;
mod rate_limit;
mod refusal;
mod retries;
mod tokens;
mod upstream;

pub use address::{Address, AddressError};
pub use blob::{Blob, BlobHead};
pub use credentials::{Credentials, CredentialsError};
pub use error::{Error, Missing, Outage};
pub use listing::{Catalog, NextPage, Referrers, TagList};
pub use manifest::{Manifest, ManifestHead};
pub use rate_limit::RateLimit;
pub use retries::Retries;
pub use upstream::{Options, Timeouts, Upstream};
