//! `SHA256SUMS`: what the small files of a snapshot have to be.

use std::io::Read;
use std::path::Path;

use super::Error;
use crate::fsio::{Access, Disk, FileError, FileReader, read_small};
use crate::oci::{Digest, DigestAlgorithm, Hasher};

pub(super) const NAME: &str = "SHA256SUMS";

/// The files that have a line, in their order.
const FILES: [&str; 5] = ["absent.jsonl", "index.json", "metadata.zst", "oci-layout", "snapshot.json"];

/// The bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// The digest and the length of a file; `None` where there is none.
pub(super) fn digest_of(disk: &dyn Disk, path: &Path) -> Result<Option<(Digest, u64)>, FileError> {
    let Some(file) = disk.open(path, Access::Read)? else { return Ok(None) };
    let (mut reader, mut hasher, mut len) = (FileReader::new(file), Hasher::new(DigestAlgorithm::Sha256), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let read = reader.read(&mut piece).map_err(|source| FileError::new("read", path, source))?;
        if read == 0 {
            return Ok(Some((hasher.finish(), len)));
        }
        hasher.update(&piece[..read]);
        len += read as u64;
    }
}

/// The content that the file has to have, of the files in `dir` as they are.
pub(super) fn of(disk: &dyn Disk, dir: &Path) -> Result<String, Error> {
    let mut sums = String::new();
    for name in FILES {
        let path = dir.join(name);
        let digest = digest_of(disk, &path)?;
        let (digest, _) =
            digest.ok_or_else(|| Error::Damaged { path, reason: "it isn't there".to_owned() })?;
        sums.extend([digest.hex().as_str(), "  ", name, "\n"]);
    }
    Ok(sums)
}

/// What of the small files of a snapshot isn't as it was written: each file with a reason.
pub(super) fn check(disk: &dyn Disk, dir: &Path) -> Result<Vec<(String, String)>, Error> {
    let written = read_small(disk, &dir.join(NAME), 4096)?;
    let written = written.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let mut lines = written.split_inclusive('\n');
    let mut wrong = Vec::new();
    for name in FILES {
        let Some((digest, _)) = digest_of(disk, &dir.join(name))? else {
            wrong.push((name.to_owned(), "it isn't there".to_owned()));
            lines.next();
            continue;
        };
        if lines.next() != Some(&format!("{}  {name}\n", digest.hex())) {
            wrong.push((name.to_owned(), format!("it isn't what {NAME} says")));
        }
    }
    if lines.next().is_some() {
        wrong.push((NAME.to_owned(), "it has more lines than there are files".to_owned()));
    }
    Ok(wrong)
}
