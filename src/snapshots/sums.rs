//! `SHA256SUMS`: what the small files of a snapshot have to be.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use super::backup::{Backup, file_name};
use super::form::Form;
use super::{Error, SnapshotName};
use crate::fsio::{Access, Disk, FileError, FileReader};
use crate::metadata::Content;
use crate::oci::{Digest, DigestAlgorithm, Hasher};

pub(super) const NAME: &str = "SHA256SUMS";

/// The list of the content of a snapshot that is encrypted, which says no names and isn't encrypted itself: whoever checks and prunes
/// needs no identity.
pub(super) const CONTENTS: &str = "contents.txt";

/// The files that have a line, in their order.
pub(super) fn files(form: &Form) -> Vec<String> {
    let own = ["absent.jsonl", "index.json", "metadata.zst"].map(|name| form.name(name));
    let more = if form.is_sealed() { [CONTENTS, "snapshot.json"] } else { ["oci-layout", "snapshot.json"] };
    let mut files: Vec<String> = own.into_iter().chain(more.map(str::to_owned)).collect();
    files.sort_unstable();
    files
}

/// Hands what such a list, which messages call `path`, has to `take`; of manifests it says so.
pub(super) fn each_listed(
    list: impl Read,
    path: &Path,
    take: &mut dyn FnMut(Content, bool) -> Result<(), Error>,
) -> Result<(), Error> {
    let damaged = |reason: &str| Error::Damaged { path: path.to_owned(), reason: reason.to_owned() };
    for line in BufReader::with_capacity(PIECE, list).lines() {
        let line = line.map_err(|error| match error.kind() {
            ErrorKind::InvalidData => damaged("it has bytes that are no text"),
            _ => FileError::new("read", path, error).into(),
        })?;
        let mut words = line.split(' ');
        let (digest, of, kind) = (words.next(), words.next(), words.next());
        let is_manifest = kind == Some("manifest");
        let digest = digest.and_then(|digest| digest.parse().ok());
        let of = of.and_then(|of| of.parse().map(Ok).or_else(|_| of.parse().map(Err)).ok());
        match (digest, of) {
            (Some(digest), Some(Ok(len))) => take(Content::Canonical(digest, len), is_manifest)?,
            (Some(alias), Some(Err(canonical))) => take(Content::Alias(alias, canonical), is_manifest)?,
            _ => return Err(damaged("it has a line that is none of a list of content")),
        }
    }
    Ok(())
}

/// It has no more bytes.
const LONGEST: u64 = 4096;

/// The bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// The digest and the length of a file, which messages call `path`.
pub(super) fn digest_of(file: &mut dyn Read, path: &Path) -> Result<(Digest, u64), FileError> {
    let (mut hasher, mut len) = (Hasher::new(DigestAlgorithm::Sha256), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(|source| FileError::new("read", path, source))?;
        if read == 0 {
            return Ok((hasher.finish(), len));
        }
        hasher.update(&piece[..read]);
        len += read as u64;
    }
}

/// The content that the file has to have, of the files in `dir` as they are.
pub(super) fn of(disk: &dyn Disk, form: &Form, dir: &Path) -> Result<String, Error> {
    let mut sums = String::new();
    for name in files(form) {
        let path = dir.join(&name);
        let damaged = || Error::Damaged { path: path.clone(), reason: "it isn't there".to_owned() };
        let file = disk.open(&path, Access::Read)?.ok_or_else(damaged)?;
        let (digest, _) = digest_of(&mut FileReader::new(file), &path)?;
        sums.extend([digest.hex().as_str(), "  ", &name, "\n"]);
    }
    Ok(sums)
}

/// What of the small files of a snapshot isn't as it was written: each file with a reason.
pub(super) fn check(backup: &Backup, snapshot: &SnapshotName) -> Result<Vec<(String, String)>, Error> {
    let written = backup.read(&file_name(snapshot, NAME), LONGEST)?;
    let written = written.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let mut lines = written.split_inclusive('\n');
    let mut wrong = Vec::new();
    for name in files(backup.form()) {
        let file = file_name(snapshot, &name);
        let Some(mut reader) = backup.open_file(&file)? else {
            wrong.push((name, "it isn't there".to_owned()));
            lines.next();
            continue;
        };
        let (digest, _) = digest_of(&mut reader, &backup.path(&file))?;
        if lines.next() != Some(&format!("{}  {name}\n", digest.hex())) {
            wrong.push((name, format!("it isn't what {NAME} says")));
        }
    }
    if lines.next().is_some() {
        wrong.push((NAME.to_owned(), "it has more lines than there are files".to_owned()));
    }
    Ok(wrong)
}
