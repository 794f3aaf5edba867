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

    /// The next byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&head, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(head)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::DigestAlgorithm;

    #[test]
    fn keys_have_the_bytes_of_schema_1_and_read_back() {
        let digest = Digest::of(DigestAlgorithm::Sha256, b"");
        let key = Key::new().number(258).digest(&digest).text("latest");
        let golden = [&[0, 0, 0, 0, 0, 0, 1, 2, 1][..], digest.as_bytes(), b"latest"].concat();
        assert_eq!(key.as_ref(), golden);
        let mut parts = Parts(key.as_ref());
        assert_eq!((parts.number(), parts.digest(), parts.text()), (Some(258), Some(digest), Some("latest")));
        assert_eq!(
            Key::new().number(1).terminated("v1").number(2).as_ref(),
            b"\0\0\0\0\0\0\0\x01v1\0\0\0\0\0\0\0\0\x02"
        );
    }

    #[test]
    fn the_longest_names_fit() {
        let digest = Digest::of(DigestAlgorithm::Sha512, b"");
        Key::new().text(&"n".repeat(255));
        Key::new().number(1).digest(&digest).text(&"t".repeat(128));
        Key::new().number(1).terminated(&"t".repeat(128)).number(1);
        Key::new().number(1).digest(&digest).digest(&digest);
    }

    #[test]
    fn a_tag_that_begins_another_sorts_and_scans_apart() {
        let history =
            |tag: &str, number| Key::new().number(1).terminated(tag).number(number).as_ref().to_vec();
        assert!(history("v1", u64::MAX) < history("v1.0", 0));
    }
}
