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
        if saved.format != FORMAT {
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
