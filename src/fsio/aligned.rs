//! Memory from which the disk can be written without the page cache.

/// What memory, offset and length of a direct write are multiples of; enough for every disk in use.
pub(super) const ALIGNMENT: usize = 4096;

/// Bytes gathered for one large write, in memory that begins at a multiple of 4096.
#[derive(Debug)]
pub struct AlignedBuffer {
    /// The memory and up to a page more, since only the allocator knows where it begins.
    memory: Vec<u8>,
    start: usize,
    capacity: usize,
    len: usize,
}

impl AlignedBuffer {
    /// An empty buffer for so many bytes.
    pub fn new(capacity: usize) -> AlignedBuffer {
        let memory = vec![0; capacity + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        AlignedBuffer { memory, start, capacity, len: 0 }
    }

    /// For how many bytes it was made.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes as much of `bytes` as fits while the whole doesn't pass `limit`, and returns how much that was.
    pub fn append(&mut self, bytes: &[u8], limit: usize) -> usize {
        let taken = bytes.len().min(limit.min(self.capacity).saturating_sub(self.len));
        let end = self.start + self.len;
        self.memory[end..end + taken].copy_from_slice(&bytes[..taken]);
        self.len += taken;
        taken
    }

    /// What was gathered.
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// Forgets what was gathered.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_takes_no_more_than_its_limit() {
        let mut buffer = AlignedBuffer::new(10_000);
        assert_eq!(buffer.append(&[1; 6000], 10_000), 6000);
        assert_eq!(buffer.append(&[2; 6000], 9000), 3000);
        assert_eq!(buffer.append(&[3; 6000], 9000), 0);
        assert_eq!(buffer.append(&[4; 6000], 20_000), 1000);
        assert_eq!(buffer.as_slice().as_ptr().align_offset(ALIGNMENT), 0);
        assert_eq!(buffer.as_slice(), [vec![1; 6000], vec![2; 3000], vec![4; 1000]].concat());
        buffer.clear();
        assert!(buffer.as_slice().is_empty());
    }
}
