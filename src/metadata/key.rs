//! Keys: the parts one after the other, integers big-endian, so that byte order is the order of the parts.
//!
//! A digest writes its algorithm's tag byte first, which also gives its length. A text is the last part of its key, or
//! is followed by a NUL, which no name or tag contains.

use crate::oci::Digest;

/// The longest key: a repository's name, or an identifier, a tag, its NUL and a sequence number.
const CAPACITY: usize = 280;

/// A key on the stack.
#[derive(Clone)]
pub(super) struct Key {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Key {
    /// The empty key, the smallest one.
    pub(super) fn new() -> Key {
        Key { bytes: [0; CAPACITY], len: 0 }
    }

    /// Appends raw bytes.
    ///
    /// # Panics
    /// Where the parts are longer than any validated name, tag and digest can be.
    pub(super) fn bytes(mut self, part: &[u8]) -> Key {
        let end = self.len + part.len();
        self.bytes[self.len..end].copy_from_slice(part);
        self.len = end;
        self
    }

    /// Appends a number, big-endian.
    pub(super) fn number(self, part: u64) -> Key {
        self.bytes(&part.to_be_bytes())
    }

    /// Appends a digest: its algorithm's tag, then its bytes.
    pub(super) fn digest(self, part: &Digest) -> Key {
        self.bytes(&[part.algorithm().tag()]).bytes(part.as_bytes())
    }

    /// Appends a text that ends the key.
    pub(super) fn text(self, part: &str) -> Key {
        self.bytes(part.as_bytes())
    }

    /// Appends a text that further parts follow.
    pub(super) fn terminated(self, part: &str) -> Key {
        self.bytes(part.as_bytes()).bytes(&[0])
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads a key's parts in their order; `None` where it is too short.
pub(super) struct Parts<'k>(pub(super) &'k [u8]);

impl<'k> Parts<'k> {
    /// The next number.
    pub(super) fn number(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*head))
    }

    /// The next digest.
    pub(super) fn digest(&mut self) -> Option<Digest> {
        let algorithm = crate::oci::DigestAlgorithm::from_tag(*self.0.first()?)?;
        let (head, rest) = self.0.split_at_checked(1 + algorithm.len())?;
        self.0 = rest;
        Digest::from_key(head)
    }

    /// The text that ends the key.
    pub(super) fn text(&mut self) -> Option<&'k str> {
        std::str::from_utf8(std::mem::take(&mut self.0)).ok()
    }
}
