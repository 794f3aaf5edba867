//! The program whose instructions are counted (`tests/instructions`): one case of one part, so many rounds.
//!
//! Without an argument it names the cases, one to a line: the function whose instructions are counted, a tab, and the name.
//!
//! The layers that have the parts are compiled into it, instead of the library: they use nothing above themselves, and are
//! optimised in a small part of the time that all of the library takes.

#![expect(clippy::print_stdout, reason = "the list is what this program is asked for")]
#![allow(dead_code, unreachable_pub, unused_imports, reason = "the layers have more than the parts need")]

#[path = "../../src/blobs/upload_id.rs"]
mod upload_id;

#[path = "../../src/clock.rs"]
pub mod clock;
#[path = "../../src/fsio/mod.rs"]
pub mod fsio;
#[path = "../../src/metadata/mod.rs"]
pub mod metadata;
#[path = "../../src/oci/mod.rs"]
pub mod oci;
#[path = "../../src/telemetry/mod.rs"]
pub mod telemetry;

/// Of this layer, the name of an upload, which paths have.
pub mod blobs {
    pub use crate::upload_id::UploadId;
}

/// Of this layer, what it takes to understand a path.
#[path = "../../src/http"]
pub mod http {
    mod errors;
    mod headers;
    mod own_routes;
    mod percent;
    mod routes;

    pub use errors::ErrorCode;
    pub use routes::Operation;
}

// What the cases use is the program's own.
extern crate self as orlop;

mod case;
mod descriptor_cache;
mod digest;
mod document;
mod group_commit;
mod manifests;
mod parts;
mod records;
mod routes;
mod store;

use case::Case;

/// Its own function, whose begin and end are those of the count.
#[inline(never)]
fn counted_rounds(case: &mut Case) {
    for _ in 0..case.rounds {
        (case.run)();
    }
}

fn main() {
    let wanted = std::env::args().nth(1);
    for (part, cases) in parts::PARTS {
        if wanted.as_ref().is_some_and(|wanted| !wanted.starts_with(part)) {
            continue;
        }
        for mut case in cases() {
            match &wanted {
                None => println!("{}\t{}", case.counted, case.name),
                Some(wanted) if wanted == case.name => {
                    // What is done once in a process, such as looking which instructions there are, is no round's.
                    (case.run)();
                    counted_rounds(&mut case);
                }
                Some(_) => {}
            }
        }
    }
}
