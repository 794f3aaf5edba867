//! `metadata.zst`: the rows of all tables, one after the other, compressed.
//!
//! ```text
//! "ORLOPMD1", schema (4 bytes)
//! 1, length of the name (2), name                            a table
//! 2, length of the key (4), length of the value (4), both    a row of it
//! 0, number of rows (8)                                      the end
//! ```
//!
//! Numbers are big-endian. The whole is one zstd frame with its checksum.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use zstd::stream::{read, write};

use super::Error;
use crate::fsio::{Disk, FileError, FileWriter};
use crate::metadata::SCHEMA;

const MAGIC: &[u8; 8] = b"ORLOPMD1";
/// Fast: the database grows while rows are compressed.
const LEVEL: i32 = 1;
const BUFFER: usize = 1 << 20;

/// No key and no value is longer.
const LONGEST: usize = 64 << 20;

/// Writes a copy.
pub(super) struct CopyWriter {
    out: write::Encoder<'static, BufWriter<FileWriter>>,
    path: PathBuf,
    rows: u64,
}

impl CopyWriter {
    pub(super) fn create(disk: &dyn Disk, path: PathBuf, schema: u32) -> Result<CopyWriter, Error> {
        disk.remove(&path)?;
        let file = BufWriter::with_capacity(BUFFER, FileWriter::new(disk.create(&path)?));
        let open = || {
            let mut out = write::Encoder::new(file, LEVEL)?;
            out.include_checksum(true)?;
            out.write_all(MAGIC)?;
            out.write_all(&schema.to_be_bytes())?;
            Ok(out)
        };
        let out = open().map_err(|source: io::Error| FileError::new("write", &path, source))?;
        Ok(CopyWriter { out, path, rows: 0 })
    }

    pub(super) fn table(&mut self, name: &str) -> Result<(), Error> {
        let len = u16::try_from(name.len()).expect("names of tables are short");
        self.write(&[&[1], &len.to_be_bytes(), name.as_bytes()])
    }

    pub(super) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("rows are far shorter").to_be_bytes();
        self.rows += 1;
        self.write(&[&[2], &len(key), &len(value), key, value])
    }

    /// How many rows were written.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn finish(mut self) -> Result<u64, Error> {
        let rows = self.rows;
        self.write(&[&[0], &rows.to_be_bytes()])?;
        let finish = || self.out.finish()?.flush();
        finish().map_err(|source| FileError::new("write", &self.path, source))?;
        Ok(rows)
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let written = parts.iter().try_for_each(|part| self.out.write_all(part));
        Ok(written.map_err(|source| FileError::new("write", &self.path, source))?)
    }
}

/// What a copy has.
#[derive(Debug)]
pub(super) enum Item {
    Table(String),
    Row(Vec<u8>, Vec<u8>),
}

/// Reads a copy.
pub(super) struct CopyReader {
    input: read::Decoder<'static, BufReader<Box<dyn Read + Send>>>,
    path: PathBuf,
    rows: u64,
    is_over: bool,
}

impl CopyReader {
    /// Begins with a file, which messages call `path`.
    pub(super) fn new(file: Box<dyn Read + Send>, path: PathBuf) -> Result<CopyReader, Error> {
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        let decoder = read::Decoder::with_buffer(BufReader::with_capacity(BUFFER, file));
        let input = decoder.map_err(|error| damaged(error.to_string()))?;
        let mut reader = CopyReader { input, path, rows: 0, is_over: false };
        let head: [u8; 12] = reader.bytes()?;
        if !head.starts_with(MAGIC) {
            return Err(reader.damaged("it is no copy of metadata, or one of a later version".to_owned()));
        }
        let [.., a, b, c, d] = head;
        if u32::from_be_bytes([a, b, c, d]) > SCHEMA {
            return Err(Error::NewerSchema(reader.path));
        }
        Ok(reader)
    }

    /// The next item; `None` at the end, which has to be there.
    pub(super) fn next(&mut self) -> Result<Option<Item>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let [kind] = self.bytes()?;
        match kind {
            0 => {
                let rows = u64::from_be_bytes(self.bytes()?);
                if rows != self.rows {
                    return Err(self.damaged(format!("it has {} rows instead of {rows}", self.rows)));
                }
                // Reads the checksum.
                let more = self.input.read(&mut [0]).map_err(|error| self.damaged(error.to_string()))?;
                if more != 0 {
                    return Err(self.damaged("it goes on behind its end".to_owned()));
                }
                self.is_over = true;
                Ok(None)
            }
            1 => {
                let len = u16::from_be_bytes(self.bytes()?);
                let name = String::from_utf8(self.some(len.into())?);
                name.map(|name| Some(Item::Table(name))).map_err(|error| self.damaged(error.to_string()))
            }
            2 => {
                let (key, value) = (u32::from_be_bytes(self.bytes()?), u32::from_be_bytes(self.bytes()?));
                self.rows += 1;
                Ok(Some(Item::Row(self.some(key as usize)?, self.some(value as usize)?)))
            }
            other => Err(self.damaged(format!("a part of it is of the unknown kind {other}"))),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| self.damaged(error.to_string()))?;
        Ok(bytes)
    }

    fn some(&mut self, len: usize) -> Result<Vec<u8>, Error> {
        if len > LONGEST {
            return Err(self.damaged(format!("a row of it claims {len} bytes")));
        }
        let mut bytes = vec![0; len];
        self.input.read_exact(&mut bytes).map_err(|error| self.damaged(error.to_string()))?;
        Ok(bytes)
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Damaged { path: self.path.clone(), reason }
    }
}
