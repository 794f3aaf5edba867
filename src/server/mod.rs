//! The running server: from a bound port and an open registry to a clean end.
//!
//! The accept loop is our own, since axum's sets no timeouts and no limits: HTTP/1.1 by hyper, a bounded number of
//! connections, a time limit for request heads and for bodies that stand still, and a bounded drain at the end. The admin
//! API has a socket of its own in the data directory, so that it is never reached over the network.

mod accept;
mod admin_client;
mod admin_socket;
mod cache;
mod connection;
mod core_dumps;
mod crowd;
mod descriptors;
mod reload;
mod run;
mod signals;
mod sockets;
mod stall;
mod streams;
mod strict;
mod systemd;
mod tls;

pub use accept::{Drained, Established, Listen, Protocol, serve};
pub use admin_client::AdminClient;
pub use admin_socket::{ADMIN_SOCKET, AdminSocket};
pub use cache::{PasswordError, cache_settings};
pub use core_dumps::forbid_core_dumps;
pub use descriptors::raise_descriptor_limit;
pub use run::{Server, StartError, registry_options};
pub use signals::{Hangups, Signal, Signals};
pub use sockets::{ListenError, Place};
pub use systemd::notify;
pub use tls::{Tls, TlsError};
