//! Orlop: a container registry in one binary.
#![doc = "The layers, lowest first; a layer uses only what stands above it in this list."]

pub mod oci;

pub mod clock;
pub mod secret;
pub mod telemetry;

pub mod client;

pub mod fsio;

pub mod blobs;

pub mod metadata;

pub mod registry;

pub mod notifications;

pub mod maintenance;

pub mod auth;
pub mod proxy;
pub mod snapshots;

pub mod transfer;

pub mod http;

pub mod cli;
pub mod config;
pub mod server;

/// The examples of the documents, which the tests compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/services.md")]
mod documents {}
