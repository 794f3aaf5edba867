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

/// The same, with a moment that is remembered: of a link, when its lease ended before uploads extended it; of followers,
/// when their subject was deleted.
pub fn insert_since(tx: &WriteTx<'_>, due: u64, candidate: &Candidate, since: u64) -> Result<(), Error> {
    tx.insert(Table::Candidates, candidate.key(due), &since.to_be_bytes())
}

/// The moment that is remembered with a candidate; its due time where there is none, and `None` where it is no candidate.
pub fn since(tx: &impl Read, due: u64, candidate: &Candidate) -> Result<Option<u64>, Error> {
    tx.get(Table::Candidates, candidate.key(due), |value| match value {
        [] => Ok(due),
        value => Parts(value).number().ok_or_else(|| Error::Damaged {
            table: Table::Candidates.name(),
            reason: "a value is no time".into(),
        }),
    })
}

/// Takes a candidate back.
pub fn remove(tx: &WriteTx<'_>, due: u64, candidate: &Candidate) -> Result<(), Error> {
    tx.remove(Table::Candidates, candidate.key(due)).map(drop)
}

/// Up to `limit` candidates that may go at `now`, those that wait longest first, with their due times; blobs aside, which
/// [`unlinked`] has.
pub fn due(tx: &impl Read, now: u64, limit: usize) -> Result<Vec<(u64, Candidate)>, Error> {
    let mut found = Vec::new();
    let behind_blobs = Key::new().number(0).bytes(&[BLOB, u8::MAX]);
    tx.scan(Table::Candidates, b"", Some(behind_blobs.as_ref()), |key, _| {
        let (due, candidate) = Candidate::of(key)?;
        if due > now || found.len() == limit {
            return Ok(Scan::Stop);
        }
        found.push((due, candidate));
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// Up to `limit` blobs that may have no link, in the order of their digests, behind `after`. They are due at once.
pub fn unlinked(tx: &impl Read, after: Option<&Digest>, limit: usize) -> Result<Vec<Digest>, Error> {
    let mut found = Vec::new();
    let prefix = Key::new().number(0).bytes(&[BLOB]).number(0);
    let after = after.map(|digest| Key::new().digest(digest));
    tx.scan(Table::Candidates, prefix.as_ref(), after.as_ref().map(Key::as_ref), |key, _| {
        if found.len() == limit {
            return Ok(Scan::Stop);
        }
        found.push(digest_of(Table::Candidates, &mut Parts(key))?);
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// Adds a blob that no repository links.
pub fn insert_unlinked(tx: &WriteTx<'_>, digest: &Digest) -> Result<(), Error> {
    insert(tx, 0, &Candidate::Blob { digest: *digest })
}

/// Takes a blob back.
pub fn remove_unlinked(tx: &WriteTx<'_>, digest: &Digest) -> Result<(), Error> {
    remove(tx, 0, &Candidate::Blob { digest: *digest })
}

/// Up to `limit` candidates in the order of their due times, behind `after`, which need not exist.
pub fn page(
    tx: &impl Read,
    after: Option<&(u64, Candidate)>,
    limit: usize,
) -> Result<Vec<(u64, Candidate)>, Error> {
    let mut page = Vec::new();
    let after = after.map(|(due, candidate)| candidate.key(*due));
    tx.scan(Table::Candidates, b"", after.as_ref().map(Key::as_ref), |key, _| {
        if page.len() == limit {
            return Ok(Scan::Stop);
        }
        page.push(Candidate::of(key)?);
        Ok(Scan::Continue)
    })?;
    Ok(page)
}

/// Hands every candidate to `row`, in the order of the due times.
pub fn each(tx: &impl Read, mut row: impl FnMut(u64, Candidate) -> Result<Scan, Error>) -> Result<(), Error> {
    tx.scan(Table::Candidates, b"", None, |key, _| {
        let (due, candidate) = Candidate::of(key)?;
        row(due, candidate)
    })
}
