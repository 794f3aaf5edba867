//! Candidates: what nothing names any more, in the order of the times from which on it may go.
//!
//! A row is written by the commit that took the last name away, and removed by the one that gives a name again. Whoever
//! collects looks again, in the transaction that removes.

use super::blobs::{damaged_key, digest_of, repository_of};
use super::key::{Key, Parts};
use super::repositories::RepositoryId;
use super::{Error, Read, Scan, Table, WriteTx};
use crate::oci::Digest;

/// Something that may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Candidate {
    /// The link of a blob that no manifest of the repository needs.
    Link {
        /// The repository.
        repository: RepositoryId,
        /// The blob's canonical digest.
        digest: Digest,
    },
    /// A blob that no repository links, and that no client can see therefore.
    Blob {
        /// Its canonical digest.
        digest: Digest,
    },
    /// What follows a manifest that has gone: its referrers, and the tags that are for it.
    Followers {
        /// The repository.
        repository: RepositoryId,
        /// The canonical digest of the manifest.
        digest: Digest,
    },
}

const LINK: u8 = 1;
const BLOB: u8 = 2;
const FOLLOWERS: u8 = 3;

impl Candidate {
    fn key(&self, due: u64) -> Key {
        let (kind, repository, digest) = match self {
            Candidate::Link { repository, digest } => (LINK, repository.number(), digest),
            Candidate::Blob { digest } => (BLOB, 0, digest),
            Candidate::Followers { repository, digest } => (FOLLOWERS, repository.number(), digest),
        };
        Key::new().number(due).bytes(&[kind]).number(repository).digest(digest)
    }

    fn of(key: &[u8]) -> Result<(u64, Candidate), Error> {
        let mut parts = Parts(key);
        let due = parts.number().ok_or_else(|| damaged_key(Table::Candidates, "due time"))?;
        let kind = parts.byte().ok_or_else(|| damaged_key(Table::Candidates, "kind"))?;
        let repository = repository_of(Table::Candidates, &mut parts)?;
        let digest = digest_of(Table::Candidates, &mut parts)?;
        let candidate = match kind {
            LINK => Candidate::Link { repository, digest },
            BLOB => Candidate::Blob { digest },
            FOLLOWERS => Candidate::Followers { repository, digest },
            _ => return Err(damaged_key(Table::Candidates, "kind that is known")),
        };
        Ok((due, candidate))
    }
}

/// Adds a candidate that may go from `due` on, in milliseconds since 1970.
pub fn insert(tx: &WriteTx<'_>, due: u64, candidate: &Candidate) -> Result<(), Error> {
    tx.insert(Table::Candidates, candidate.key(due), &[])
}

/// Takes a candidate back.
pub fn remove(tx: &WriteTx<'_>, due: u64, candidate: &Candidate) -> Result<(), Error> {
    tx.remove(Table::Candidates, candidate.key(due)).map(drop)
}

/// Whether something is a candidate from `due` on.
pub fn has(tx: &impl Read, due: u64, candidate: &Candidate) -> Result<bool, Error> {
    tx.has(Table::Candidates, candidate.key(due))
}

/// Up to `limit` candidates that may go at `now`, those that wait longest first, with their due times.
pub fn due(tx: &impl Read, now: u64, limit: usize) -> Result<Vec<(u64, Candidate)>, Error> {
    let mut found = Vec::new();
    tx.scan(Table::Candidates, b"", None, |key, _| {
        let (due, candidate) = Candidate::of(key)?;
        if due > now || found.len() == limit {
            return Ok(Scan::Stop);
        }
        found.push((due, candidate));
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// Hands every candidate to `row`, in the order of the due times.
pub fn each(tx: &impl Read, mut row: impl FnMut(u64, Candidate) -> Result<Scan, Error>) -> Result<(), Error> {
    tx.scan(Table::Candidates, b"", None, |key, _| {
        let (due, candidate) = Candidate::of(key)?;
        row(due, candidate)
    })
}
