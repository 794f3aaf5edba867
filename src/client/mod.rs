//! Outbound HTTP, for whoever needs it above: TLS roots, proxies, time-outs.
//!
//! [`Client`] trusts the system's roots and those that the operator adds, goes through the proxies that `HTTP_PROXY`,
//! `HTTPS_PROXY` and `NO_PROXY` name, and follows no redirect. [`Url`] and [`Header`] are what a configuration says of
//! whom to call; neither shows its secrets when it is printed. [`registry`] asks other registries.

mod answer;
mod error;
mod header;
mod http_client;
pub mod registry;
mod url;

pub use answer::Answer;
pub use error::Error;
pub use header::{Header, HeaderError};
pub use http_client::{Client, Options};
pub use url::{Url, UrlError};
