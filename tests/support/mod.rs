//! The harness of the black-box tests: the real program on a port of its own, and a client that trusts nothing.
#![allow(dead_code, unused_imports, reason = "every test target compiles all of it and needs some of it")]

mod client;
mod content;
mod server;
mod upstream;

pub(crate) use client::{Reply, Request};
pub(crate) use content::{
    Content, IMAGE, INDEX, descriptor, image, index, noise, referrer, sha256, sha512, upload_files,
    with_query,
};
pub(crate) use server::Server;
pub(crate) use upstream::{Fault, FaultyUpstream, Received};
