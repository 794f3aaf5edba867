//! `TarSum`: digests of what is in a tar archive, which the clients of 2014 and 2015 named layers by.
//!
//! A [`TarSum`] doesn't depend on the order of the files, and from version 1 on not on their times of modification either.
//! Each file's header fields and contents are hashed, and then the sorted list of these hashes. The algorithm is the one of
//! Docker's published specification; where that is silent, it is what those clients did: they sent layers as uncompressed
//! tar and hashed what they sent. So a compressed archive is refused rather than unpacked, which also leaves nothing to
//! bound about unpacking. What two releases of Docker summed differently is refused too, since nothing that is verified
//! may depend on who verifies it.

mod error;
mod header;
mod pax;
mod sum;
mod summer;

pub use error::TarSumError;
pub use sum::{TarSum, TarSumVersion};
pub use summer::TarSummer;
