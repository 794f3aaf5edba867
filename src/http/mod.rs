//! The wire: routes, errors, bodies and handlers of the distribution API.
//!
//! [`Wire`] is what a connection is served with. A request passes [`observe`], which gives it an id and
//! logs it once; [`routes`] turns its method and path into a closed [`Operation`]; a handler in [`v2`] calls one or two
//! functions of the registry and writes their answer down. Whatever fails on the way becomes an [`ErrorCode`].

pub mod admin;

mod app;
mod audit;
mod authorization;
mod base_url;
mod body;
mod buffers;
mod cached;
mod challenge;
mod errors;
mod forwarded;
mod headers;
mod health;
mod incoming;
mod limits;
mod observe;
mod origin;
mod own_routes;
mod peer;
mod percent;
mod query;
mod ranges;
mod refusals;
mod remote_admin;
mod respond;
mod routes;
mod service;
mod token;
mod v2;
mod wire;

pub use errors::{ErrorCode, ErrorEntry, Errors};
pub use forwarded::{Proxies, ProxyHeaders, TrustedProxy, TrustedProxyError};
pub use limits::RequestLimits;
pub use peer::Peer;
pub use respond::Respond;
pub use routes::{Access, Operation, Row};
pub use service::{Service, Settings};
pub use wire::Wire;
