//! Reproducible choices, and content without two equal blobs.

/// A generator of choices.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (splitmix64).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of `items`, if there are any.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let at = self.below(items.len().max(1) as u64);
        items.get(usize::try_from(at).unwrap())
    }
}

/// Bytes that can be made again from a few numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    seed: u64,
    len: usize,
}

impl Content {
    /// Content of `len` bytes, unlike any other of another seed if it is at least eight bytes long.
    pub(crate) fn new(seed: u64, len: usize) -> Self {
        Self { seed, len }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(4096);
        let mut random = Random::new(self.seed);
        while block.len() < 4096.min(self.len) {
            block.extend_from_slice(&random.next().to_le_bytes());
        }
        // Each block differs from the one before by its number, so that a piece in the wrong place is noticed.
        let mut bytes = Vec::with_capacity(self.len + 4096);
        let mut number = 0_u64;
        while bytes.len() < self.len {
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&block);
            number += 1;
        }
        // The seed has to be within the first bytes of the shortest content.
        let head = self.seed.to_le_bytes();
        let n = head.len().min(bytes.len());
        bytes[..n].copy_from_slice(&head[..n]);
        bytes.truncate(self.len);
        bytes
    }
}
