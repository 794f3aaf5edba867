//! Files as streams.

use std::io;

use super::DiskFile;

/// Writes a file from its beginning to its end.
#[derive(Debug)]
pub struct FileWriter {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl FileWriter {
    /// Begins at the file's beginning.
    pub fn new(file: Box<dyn DiskFile>) -> FileWriter {
        FileWriter { file, offset: 0 }
    }

    /// How much was written.
    pub fn written(&self) -> u64 {
        self.offset
    }
}

impl io::Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a file from its beginning to its end.
#[derive(Debug)]
pub struct FileReader {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl FileReader {
    /// Begins at the file's beginning.
    pub fn new(file: Box<dyn DiskFile>) -> FileReader {
        FileReader { file, offset: 0 }
    }
}

impl io::Read for FileReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
