//! The protocol, as a client meets it: black-box tests against the real program.
//!
//! `row_…` tests claim a row of the distribution specification's table of end-points, `s1_…` tests a section of the
//! house's digest of it (names and end-points, pull, blob push, manifest push, listing, delete, errors, corner cases,
//! in that order from 1.1 to 1.9), `s2_…` tests what Docker and other clients need beyond it.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "schema1/signer.rs"]
mod signer;
mod support;

mod api {
    mod base;
    mod blobs;
    mod catalog;
    mod chunked;
    mod config_switches;
    mod coverage;
    mod delete;
    mod errors;
    mod manifests;
    mod mount;
    mod names;
    mod own;
    mod ranges;
    mod referrers;
    mod signatures;
    mod tags;
    mod uploads;
}
