//! Links: that a repository has something under a digest. The same code serves layers, manifests and signatures.
//!
//! A link is a row under its repository and digest, and under a name where a repository can have several for one digest.
//! Whoever has to find the repositories of a digest keeps an index from the other side, written and removed with the link.

use super::blobs::{digest_of, repository_of};
use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::repositories::{Cached, RepositoryId};
use super::{Error, Read, Scan, Table, WriteTx};
use crate::oci::Digest;

/// The record of a link; [`Record::TABLE`] holds the links.
pub(super) trait Link: Record {
    /// The index from the digest to the repositories, if there is one: canonical digest, repository → nothing.
    const BY_DIGEST: Option<Table>;
}

/// Where a link lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'n> {
    repository: RepositoryId,
    digest: &'n Digest,
    name: &'n [u8],
}

impl<'n> Place<'n> {
    /// The only link of a digest in a repository.
    pub(super) fn of(repository: RepositoryId, digest: &'n Digest) -> Place<'n> {
        Place { repository, digest, name: b"" }
    }

    /// One of several links of a digest in a repository.
    pub(super) fn named(repository: RepositoryId, digest: &'n Digest, name: &'n [u8]) -> Place<'n> {
        Place { repository, digest, name }
    }

    fn key(&self) -> Key {
        Key::new().number(self.repository.number()).digest(self.digest).bytes(self.name)
    }

    fn by_digest(&self) -> Key {
        Key::new().digest(self.digest).number(self.repository.number())
    }
}

/// The link at a place.
pub(super) fn get<L: Link>(tx: &impl Read, place: Place<'_>) -> Result<Option<L>, Error> {
    tx.get(L::TABLE, place.key(), codec::decode)
}

/// Whether there is a link at a place.
pub(super) fn has<L: Link>(tx: &impl Read, place: Place<'_>) -> Result<bool, Error> {
    tx.has(L::TABLE, place.key())
}

/// Writes a link, replacing what was there.
pub(super) fn put<L: Link>(tx: &WriteTx<'_>, place: Place<'_>, link: &L) -> Result<(), Error> {
    if let Some(index) = L::BY_DIGEST {
        tx.insert(index, place.by_digest(), &[])?;
    }
    change(tx, place, link)
}

/// Writes what a link that is there says now. Its place in the index stays what it is: one page less to write.
pub(super) fn change<L: Link>(tx: &WriteTx<'_>, place: Place<'_>, link: &L) -> Result<(), Error> {
    tx.insert(L::TABLE, place.key(), &codec::encode(link))
}

/// Removes a link; says whether there was one, and writes nothing where there was none.
pub(super) fn remove<L: Link>(tx: &WriteTx<'_>, place: Place<'_>) -> Result<bool, Error> {
    if !has::<L>(tx, place)? {
        return Ok(false);
    }
    if let Some(index) = L::BY_DIGEST {
        tx.remove(index, place.by_digest())?;
    }
    tx.remove(L::TABLE, place.key())
}

/// Brings the index's row of a link in line with whether the link is there; for a repair.
pub(super) fn mend<L: Link>(tx: &WriteTx<'_>, place: Place<'_>) -> Result<(), Error> {
    let Some(index) = L::BY_DIGEST else { return Ok(()) };
    if has::<L>(tx, place)? {
        tx.insert(index, place.by_digest(), &[])
    } else {
        tx.remove(index, place.by_digest()).map(drop)
    }
}

/// Hands every link of a digest in a repository to `row`, with its name, in the order of the names.
pub(super) fn each_of<L: Link>(
    tx: &impl Read,
    repository: RepositoryId,
    digest: &Digest,
    mut row: impl FnMut(&[u8], L) -> Result<Scan, Error>,
) -> Result<(), Error> {
    tx.scan(L::TABLE, Place::of(repository, digest).key().as_ref(), None, |name, value| {
        row(name, codec::decode(value)?)
    })
}

/// Hands every link of a digest in a repository to `row` as it lies there, with its name: also one that can't be read.
pub(super) fn each_unread<L: Link>(
    tx: &impl Read,
    repository: RepositoryId,
    digest: &Digest,
    row: impl FnMut(&[u8], &[u8]) -> Result<Scan, Error>,
) -> Result<(), Error> {
    tx.scan(L::TABLE, Place::of(repository, digest).key().as_ref(), None, row)
}

/// Writes one of several links as it lay elsewhere, without an index.
pub(super) fn put_unread<L: Link>(tx: &WriteTx<'_>, place: Place<'_>, link: &[u8]) -> Result<(), Error> {
    tx.insert(L::TABLE, place.key(), link)
}

/// Up to `limit` links of a repository in the order of their digests, behind `after`.
pub(super) fn list<L: Link>(
    tx: &impl Read,
    repository: RepositoryId,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Vec<(Digest, L)>, Error> {
    let mut links = Vec::new();
    let prefix = Key::new().number(repository.number());
    let after = after.map(|digest| Key::new().digest(digest));
    tx.scan(L::TABLE, prefix.as_ref(), after.as_ref().map(Key::as_ref), |key, value| {
        if links.len() == limit {
            return Ok(Scan::Stop);
        }
        links.push((digest_of(L::TABLE, &mut Parts(key))?, codec::decode(value)?));
        Ok(Scan::Continue)
    })?;
    Ok(links)
}

/// Hands every link of every repository to `row`, with its name.
pub(super) fn each<L: Link>(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, Digest, &[u8], L) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(L::TABLE, b"", None, |key, value| {
        let mut parts = Parts(key);
        let repository = repository_of(L::TABLE, &mut parts)?;
        let digest = digest_of(L::TABLE, &mut parts)?;
        row(repository, digest, parts.0, codec::decode(value)?)?;
        Ok(Scan::Continue)
    })
}

/// Hands the place of every link of every repository to `row`: repository, digest and name, whether or not the link itself
/// can be read.
pub(super) fn each_place<L: Link>(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, Digest, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(L::TABLE, b"", None, |key, _| {
        let mut parts = Parts(key);
        let repository = repository_of(L::TABLE, &mut parts)?;
        row(repository, digest_of(L::TABLE, &mut parts)?, parts.0)?;
        Ok(Scan::Continue)
    })
}

/// Some repository that links the digest, by the index.
pub(super) fn any_repository<L: Link>(
    tx: &impl Read,
    digest: &Digest,
) -> Result<Option<RepositoryId>, Error> {
    Ok(repositories::<L>(tx, digest, 1)?.pop())
}

/// Some of these repositories that links the digest, by the index.
pub(super) fn any_cached<L: Link>(
    tx: &impl Read,
    digest: &Digest,
    cached: Cached,
) -> Result<Option<RepositoryId>, Error> {
    match L::BY_DIGEST {
        Some(index) => any_cached_in(tx, index, digest, cached),
        None => Ok(None),
    }
}

/// Some of these repositories that an index from digests has under one.
pub(super) fn any_cached_in(
    tx: &impl Read,
    index: Table,
    digest: &Digest,
    cached: Cached,
) -> Result<Option<RepositoryId>, Error> {
    let mut found = None;
    let before = Key::new().number(cached.before().number());
    tx.scan(index, Key::new().digest(digest).as_ref(), Some(before.as_ref()), |key, _| {
        found = Some(repository_of(index, &mut Parts(key))?);
        Ok(Scan::Stop)
    })?;
    Ok(found.filter(|found| cached.contains(*found)))
}

/// Up to `limit` repositories that link the digest, by the index, deletions last.
pub(super) fn repositories<L: Link>(
    tx: &impl Read,
    digest: &Digest,
    limit: usize,
) -> Result<Vec<RepositoryId>, Error> {
    let mut found = Vec::new();
    let Some(index) = L::BY_DIGEST else { return Ok(found) };
    tx.scan(index, Key::new().digest(digest).as_ref(), None, |key, _| {
        if found.len() == limit {
            return Ok(Scan::Stop);
        }
        found.push(repository_of(index, &mut Parts(key))?);
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// Hands every row of the index to `row`.
pub(super) fn each_by_digest<L: Link>(
    tx: &impl Read,
    mut row: impl FnMut(Digest, RepositoryId) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(index) = L::BY_DIGEST else { return Ok(()) };
    tx.scan(index, b"", None, |key, _| {
        let mut parts = Parts(key);
        let digest = digest_of(index, &mut parts)?;
        row(digest, repository_of(index, &mut parts)?)?;
        Ok(Scan::Continue)
    })
}
