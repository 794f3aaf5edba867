//! Hashing all content of a backup, in the order of its names, so that an interrupted run can be gone on with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backup::Backup;
use super::create::say;
use super::verify::Verified;
use super::{Error, Step, Tell};
use crate::clock::{Clock, SystemClock};
use crate::oci::DigestAlgorithm;

/// The file that says how far a run has come; it goes when the run ends.
const NOTE: &str = "verify.json";

/// The longest one.
const NOTE_BYTES: u64 = 1 << 20;

/// So many names are held in memory at once.
const PAGE: usize = 100_000;

/// After so many files, or bytes, it is noted how far the run has come.
const NOTED_FILES: u64 = 1_000;
const NOTED_BYTES: u64 = 128 << 20;

/// A run that began longer ago is begun again: what it has read may have changed since.
const VALID: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// More damaged files are not noted, and neither is anything else: then there is no point in going on.
const DAMAGED: usize = 1_000;

/// How far a run has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Note {
    /// When it began, in milliseconds since 1970.
    begun_at: u64,
    /// The last file that it has read.
    after: String,
    /// How many files it has read.
    files: u64,
    /// Their bytes.
    bytes: u64,
    /// Those that were wrong, which are read again.
    damaged: Vec<String>,
}

/// Hashes every file of content.
pub(super) fn hash_all(backup: &Backup, verified: &mut Verified, tell: Tell<'_>) -> Result<(), Error> {
    let folder = format!("blobs/{}", DigestAlgorithm::CANONICAL);
    let now = SystemClock.now().millis();
    let found = note_of(backup, now)?;
    let mut run = Hashing {
        backup,
        folder: &folder,
        total: total(backup, &folder)?,
        note: found.clone().unwrap_or(Note { begun_at: now, ..Note::default() }),
        unnoted: (0, 0),
        can_note: true,
    };
    if let Some(Note { files, bytes, damaged, .. }) = found {
        verified.resumed = true;
        (verified.hashed_files, verified.hashed_bytes) = (files, bytes);
        run.note.damaged.clear();
        for name in damaged {
            run.file(&name, verified)?;
        }
    }
    loop {
        let page = backup.store().list_after(&folder, &run.note.after, PAGE)?;
        for entry in &page {
            run.file(&entry.name, verified)?;
            verified.hashed_files += 1;
            verified.hashed_bytes += entry.len;
            run.passed(&entry.name, entry.len)?;
            let told = say(&mut *tell, Step::Hashing, verified.hashed_bytes, Some(run.total));
            if told.is_err() {
                run.write()?;
            }
            told?;
        }
        if page.len() < PAGE {
            break;
        }
    }
    verified.resumable = run.write()?;
    if verified.resumable {
        backup.store().remove(NOTE)?;
    }
    Ok(())
}

/// What an interrupted run has left, if that is of use.
fn note_of(backup: &Backup, now: u64) -> Result<Option<Note>, Error> {
    let bytes = match backup.read(NOTE, NOTE_BYTES) {
        Err(Error::Damaged { .. }) => None,
        read => read?,
    };
    let note = bytes.and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok());
    let valid = u64::try_from(VALID.as_millis()).unwrap_or(u64::MAX);
    Ok(note.filter(|note| (note.begun_at..=note.begun_at.saturating_add(valid)).contains(&now)))
}

/// How many bytes there are.
fn total(backup: &Backup, folder: &str) -> Result<u64, Error> {
    let (mut total, mut after) = (0, String::new());
    loop {
        let page = backup.store().list_after(folder, &after, PAGE)?;
        total += page.iter().map(|entry| entry.len).sum::<u64>();
        match page.into_iter().last() {
            Some(last) => after = last.name,
            None => return Ok(total),
        }
    }
}

/// A run under way.
struct Hashing<'a> {
    backup: &'a Backup,
    folder: &'a str,
    total: u64,
    note: Note,
    /// The files and the bytes since it was noted last.
    unnoted: (u64, u64),
    can_note: bool,
}

impl Hashing<'_> {
    /// Compares a file with its name.
    fn file(&mut self, name: &str, verified: &mut Verified) -> Result<(), Error> {
        let path = self.backup.path(&format!("{}/{name}", self.folder));
        let algorithm = DigestAlgorithm::CANONICAL.to_string();
        let Some(digest) = self.backup.form().digest(&algorithm, name) else {
            verified.wrong(path, "it is no content");
            return Ok(());
        };
        let reason = match self.backup.hash(&digest) {
            Ok(Some((found, _))) if found != digest => format!("its bytes are {found}"),
            Ok(Some(_) | None) => return Ok(()),
            Err(Error::Damaged { reason, .. }) => reason,
            // This one can't be read, and others can.
            Err(error @ (Error::File(_) | Error::Remote { .. })) if self.backup.answers() => {
                error.to_string()
            }
            Err(error) => return Err(error),
        };
        verified.wrong(path, reason);
        if self.note.damaged.len() < DAMAGED {
            self.note.damaged.push(name.to_owned());
        } else {
            self.can_note = false;
        }
        Ok(())
    }

    /// Notes from time to time that all files up to this one are read.
    fn passed(&mut self, name: &str, len: u64) -> Result<(), Error> {
        name.clone_into(&mut self.note.after);
        self.note.files += 1;
        self.note.bytes += len;
        self.unnoted = (self.unnoted.0 + 1, self.unnoted.1 + len);
        if self.unnoted.0 >= NOTED_FILES || self.unnoted.1 >= NOTED_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Says whether it can be noted here.
    fn write(&mut self) -> Result<bool, Error> {
        self.unnoted = (0, 0);
        if self.can_note {
            let text = serde_json::to_vec(&self.note).expect("it has nothing that JSON hasn't");
            self.can_note = self.backup.store().keep(NOTE, &text)?;
        }
        Ok(self.can_note)
    }
}
