//! Hashing in progress, which can be saved and continued after a restart.

use std::fmt;

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::digest::{Digest, DigestAlgorithm};

/// The name of the layout of [`HashState::bytes`], which is private to the hash library's release line.
const FORMAT: &str = "sha2-0.11";

/// A hash in progress.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

/// A saved [`Hasher`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashState {
    /// The algorithm.
    pub algorithm: DigestAlgorithm,
    /// The layout of `bytes`; another one than the library's own can't be restored.
    pub format: String,
    /// The state of the algorithm together with its partly filled block.
    pub bytes: Vec<u8>,
}

impl Hasher {
    /// Starts a hash.
    pub fn new(algorithm: DigestAlgorithm) -> Hasher {
        Hasher(match algorithm {
            DigestAlgorithm::Sha256 => State::Sha256(Sha256::new()),
            DigestAlgorithm::Sha384 => State::Sha384(Sha384::new()),
            DigestAlgorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> DigestAlgorithm {
        match self.0 {
            State::Sha256(_) => DigestAlgorithm::Sha256,
            State::Sha384(_) => DigestAlgorithm::Sha384,
            State::Sha512(_) => DigestAlgorithm::Sha512,
        }
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha384(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// Returns the digest of everything hashed.
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        let digest = match self.0 {
            State::Sha256(state) => Digest::from_slice(algorithm, &state.finalize()),
            State::Sha384(state) => Digest::from_slice(algorithm, &state.finalize()),
            State::Sha512(state) => Digest::from_slice(algorithm, &state.finalize()),
        };
        digest.expect("an algorithm's output has the algorithm's length")
    }

    /// Returns what is needed to continue the hash elsewhere.
    pub fn save(&self) -> HashState {
        let bytes = match &self.0 {
            State::Sha256(state) => state.serialize().to_vec(),
            State::Sha384(state) => state.serialize().to_vec(),
            State::Sha512(state) => state.serialize().to_vec(),
        };
        HashState { algorithm: self.algorithm(), format: FORMAT.to_owned(), bytes }
    }

    /// Continues a saved hash; `None` when the state was written in another layout or is damaged.
    ///
    /// A state can be damaged without being noticed here; the digest at the end then differs, which whoever restores must
    /// be prepared for.
    pub fn restore(saved: &HashState) -> Option<Hasher> {
        fn read<T: SerializableState>(bytes: &[u8]) -> Option<T> {
            T::deserialize(&SerializedState::<T>::try_from(bytes).ok()?).ok()
        }
        // The words of the state come first, then the number of full blocks in little endian; one that no content has
        // would overflow inside the library.
        let (words, counter) = match saved.algorithm {
            DigestAlgorithm::Sha256 => (32, 8),
            DigestAlgorithm::Sha384 | DigestAlgorithm::Sha512 => (64, 16),
        };
        let unused = saved.bytes.get(words + 6..words + counter)?;
        if saved.format != FORMAT || unused.iter().any(|byte| *byte != 0) {
            return None;
        }
        Some(Hasher(match saved.algorithm {
            DigestAlgorithm::Sha256 => State::Sha256(read(&saved.bytes)?),
            DigestAlgorithm::Sha384 => State::Sha384(read(&saved.bytes)?),
            DigestAlgorithm::Sha512 => State::Sha512(read(&saved.bytes)?),
        }))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hasher").field(&self.algorithm()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_saved_state_of_this_release_line_stays_readable() {
        let mut hasher = Hasher::new(DigestAlgorithm::Sha256);
        hasher.update(b"abc");
        let state = hasher.save();
        assert_eq!(state.format, "sha2-0.11");
        // Eight words of state, the number of full blocks, then the block in progress behind its length.
        assert_eq!(state.bytes.len(), 32 + 8 + 64);
        assert_eq!(state.bytes[..4], 0x6a09_e667_u32.to_le_bytes());
        assert_eq!(state.bytes[32..44], [0, 0, 0, 0, 0, 0, 0, 0, 3, b'a', b'b', b'c']);
    }

    #[test]
    fn a_foreign_or_damaged_state_is_not_restored() {
        let good = Hasher::new(DigestAlgorithm::Sha512).save();
        assert!(Hasher::restore(&good).is_some());
        let foreign = HashState { format: "sha2-0.12".to_owned(), ..good.clone() };
        assert!(Hasher::restore(&foreign).is_none());
        let other = HashState { algorithm: DigestAlgorithm::Sha256, ..good.clone() };
        assert!(Hasher::restore(&other).is_none());
        let mut short = good.clone();
        short.bytes.pop();
        assert!(Hasher::restore(&short).is_none());
        let mut impossible = good.clone();
        let length_of_block = impossible.bytes.len() - 128;
        impossible.bytes[length_of_block] = 200;
        assert!(Hasher::restore(&impossible).is_none(), "a block can't be fuller than a block");
        let mut endless = good;
        endless.bytes[79] = 1;
        assert!(Hasher::restore(&endless).is_none(), "finishing it would overflow");
    }

    proptest! {
        #[test]
        fn saving_and_restoring_equals_straight_hashing(
            content in proptest::collection::vec(any::<u8>(), 0..2000), cuts in proptest::collection::vec(0_usize..2000, 0..5)
        ) {
            for algorithm in DigestAlgorithm::ALL {
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (content.len() + 1)).collect();
                cuts.sort_unstable();
                let mut hasher = Hasher::new(algorithm);
                let mut start = 0;
                for cut in cuts.into_iter().chain([content.len()]) {
                    hasher.update(&content[start..cut]);
                    hasher = Hasher::restore(&hasher.save()).unwrap();
                    start = cut;
                }
                prop_assert_eq!(hasher.finish(), Digest::of(algorithm, &content));
            }
        }

        #[test]
        fn restoring_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for algorithm in DigestAlgorithm::ALL {
                let mut fitted = bytes.clone();
                fitted.resize(Hasher::new(algorithm).save().bytes.len(), 7);
                for bytes in [bytes.clone(), fitted] {
                    let state = HashState { algorithm, format: FORMAT.to_owned(), bytes };
                    if let Some(mut hasher) = Hasher::restore(&state) {
                        hasher.update(b"more");
                        let _ = hasher.finish();
                    }
                }
            }
        }
    }
}
