//! Blobs: global descriptors, the links that say who may read them where, and the other digests that they are known by.

use std::fmt;

use bincode::{Decode, Encode};

use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::links::{self, Link, Place};
use super::repositories::RepositoryId;
use super::{Error, Read, Scan, Table, WriteTx};
use crate::oci::tarsum::TarSum;
use crate::oci::{Digest, DigestAlgorithm, MediaType, ProvisionalDigest};

/// The global descriptor of a blob whose bytes lie in the blob directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct BlobRecord {
    /// Its length in bytes.
    pub size: u64,
    /// When it was published, in milliseconds since 1970.
    pub created_at: u64,
}

impl Record for BlobRecord {
    const TABLE: Table = Table::Blobs;
    const VERSION: u8 = 1;
}

/// That a repository has a blob.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LinkRecord {
    /// The media type under which the repository serves it.
    pub media_type: MediaType,
    /// When the link came, in milliseconds since 1970.
    pub created_at: u64,
    /// Who brought it.
    pub actor: String,
}

impl Record for LinkRecord {
    const TABLE: Table = Table::BlobLinks;
    const VERSION: u8 = 1;
}

impl Link for LinkRecord {
    const BY_DIGEST: Option<Table> = Some(Table::LinksByBlob);
}

impl Record for Digest {
    const TABLE: Table = Table::DigestAliases;
    const VERSION: u8 = 1;
}

/// The descriptor of the blob with the canonical digest `digest`.
pub fn get(tx: &impl Read, digest: &Digest) -> Result<Option<BlobRecord>, Error> {
    tx.get(Table::Blobs, Key::new().digest(digest), codec::decode)
}

/// Records a blob whose bytes are durable at their final path.
pub fn insert(tx: &WriteTx<'_>, digest: &Digest, record: &BlobRecord) -> Result<(), Error> {
    tx.insert(Table::Blobs, Key::new().digest(digest), &codec::encode(record))
}

/// Hands every blob to `row`, in the order of their digests.
pub fn each(
    tx: &impl Read,
    mut row: impl FnMut(Digest, BlobRecord) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::Blobs, b"", None, |key, value| {
        row(digest_of(Table::Blobs, &mut Parts(key))?, codec::decode(value)?)?;
        Ok(Scan::Continue)
    })
}

/// Up to `limit` blobs in the order of their digests, behind `after`.
pub fn page(
    tx: &impl Read,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Vec<(Digest, BlobRecord)>, Error> {
    let mut page = Vec::new();
    let after = after.map(|digest| Key::new().digest(digest));
    tx.scan(Table::Blobs, b"", after.as_ref().map(Key::as_ref), |key, value| {
        if page.len() == limit {
            return Ok(Scan::Stop);
        }
        page.push((digest_of(Table::Blobs, &mut Parts(key))?, codec::decode(value)?));
        Ok(Scan::Continue)
    })?;
    Ok(page)
}

/// The link of a blob in a repository.
pub fn link(tx: &impl Read, repository: RepositoryId, digest: &Digest) -> Result<Option<LinkRecord>, Error> {
    links::get(tx, Place::of(repository, digest))
}

/// Links a blob into a repository; an existing link stays as it is.
pub fn insert_link(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    record: &LinkRecord,
) -> Result<(), Error> {
    let place = Place::of(repository, digest);
    if links::has::<LinkRecord>(tx, place)? { Ok(()) } else { links::put(tx, place, record) }
}

/// Takes a blob's link out of a repository; says whether there was one.
pub fn remove_link(tx: &WriteTx<'_>, repository: RepositoryId, digest: &Digest) -> Result<bool, Error> {
    links::remove::<LinkRecord>(tx, Place::of(repository, digest))
}

/// Some repository that has the blob.
pub fn any_repository(tx: &impl Read, digest: &Digest) -> Result<Option<RepositoryId>, Error> {
    links::any_repository::<LinkRecord>(tx, digest)
}

/// Hands every link to `row`.
pub fn each_link(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, Digest, LinkRecord) -> Result<(), Error>,
) -> Result<(), Error> {
    links::each(tx, |repository, digest, _, link| row(repository, digest, link))
}

/// Hands every row of the index from blobs to the repositories that link them to `row`.
pub fn each_by_blob(
    tx: &impl Read,
    row: impl FnMut(Digest, RepositoryId) -> Result<(), Error>,
) -> Result<(), Error> {
    links::each_by_digest::<LinkRecord>(tx, row)
}

/// The canonical digest of content that is known as `digest`; a canonical digest is its own, known or not.
pub fn canonical(tx: &impl Read, digest: &Digest) -> Result<Option<Digest>, Error> {
    if digest.algorithm() == DigestAlgorithm::CANONICAL {
        return Ok(Some(*digest));
    }
    tx.get(Table::DigestAliases, Key::new().digest(digest), codec::decode)
}

/// The canonical digest that content of the repository has under a digest of any domain. Whether the repository has it is
/// for the caller to see.
///
/// A tarsum stands for what is in an archive, and archives of different bytes may have the same one. So it is known in the
/// repository that it came to, and says nothing of anybody else's archives.
pub fn resolve(
    tx: &impl Read,
    repository: RepositoryId,
    digest: &ProvisionalDigest,
) -> Result<Option<Digest>, Error> {
    match digest {
        ProvisionalDigest::Digest(digest) => canonical(tx, digest),
        ProvisionalDigest::TarSum(sum) => {
            let alias = Alias::TarSum(*sum, repository);
            tx.get(Table::DigestAliases, alias.key(), codec::decode)
        }
    }
}

/// Some repository that a tarsum is known in; it need not have the archive any more.
pub fn repository_of_tarsum(tx: &impl Read, sum: &TarSum) -> Result<Option<RepositoryId>, Error> {
    let mut found = None;
    tx.scan(Table::DigestAliases, &sum.to_key(), None, |key, _| {
        found = Some(repository_of(Table::DigestAliases, &mut Parts(key))?);
        Ok(Scan::Stop)
    })?;
    Ok(found)
}

/// What content is known by beside its canonical digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alias {
    /// A digest of the bytes, of another algorithm.
    Digest(Digest),
    /// A tarsum, in one repository.
    TarSum(TarSum, RepositoryId),
}

impl Alias {
    /// What the repository knows content by.
    pub fn of(digest: ProvisionalDigest, repository: RepositoryId) -> Alias {
        match digest {
            ProvisionalDigest::Digest(digest) => Alias::Digest(digest),
            ProvisionalDigest::TarSum(sum) => Alias::TarSum(sum, repository),
        }
    }

    fn key(&self) -> Key {
        match self {
            Alias::Digest(digest) => Key::new().digest(digest),
            Alias::TarSum(sum, repository) => Key::new().bytes(&sum.to_key()).number(repository.number()),
        }
    }

    /// Reads the whole rest of a key of `table`.
    fn read(table: Table, rest: &[u8]) -> Result<Alias, Error> {
        if let Some(digest) = Digest::from_key(rest) {
            return Ok(Alias::Digest(digest));
        }
        let sum = rest.split_at_checked(TarSum::KEY_LEN);
        let sum = sum.and_then(|(sum, repository)| Some((TarSum::from_key(sum)?, repository)));
        let (sum, repository) = sum.ok_or_else(|| damaged_key(table, "digest"))?;
        Ok(Alias::TarSum(sum, repository_of(table, &mut Parts(repository))?))
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alias::Digest(digest) => fmt::Display::fmt(digest, f),
            Alias::TarSum(sum, _) => fmt::Display::fmt(sum, f),
        }
    }
}

/// Records what content is also known by, in place of what that stood for; nothing where it is the canonical digest itself.
pub fn insert_alias(tx: &WriteTx<'_>, alias: Alias, canonical: &Digest) -> Result<(), Error> {
    if alias == Alias::Digest(*canonical) {
        return Ok(());
    }
    let key = alias.key();
    let former: Option<Digest> = tx.get(Table::DigestAliases, &key, codec::decode)?;
    if former == Some(*canonical) {
        return Ok(());
    }
    if let Some(former) = former {
        tx.remove(Table::AliasesByDigest, Key::new().digest(&former).bytes(key.as_ref()))?;
    }
    tx.insert(Table::DigestAliases, &key, &codec::encode(canonical))?;
    tx.insert(Table::AliasesByDigest, Key::new().digest(canonical).bytes(key.as_ref()), &[])
}

/// The digests of other algorithms under which the content with the canonical digest is known.
pub fn aliases(tx: &impl Read, canonical: &Digest) -> Result<Vec<Digest>, Error> {
    let mut aliases = Vec::new();
    tx.scan(Table::AliasesByDigest, Key::new().digest(canonical).as_ref(), None, |key, _| {
        if let Alias::Digest(alias) = Alias::read(Table::AliasesByDigest, key)? {
            aliases.push(alias);
        }
        Ok(Scan::Continue)
    })?;
    Ok(aliases)
}

/// Hands everything that content is also known by to `row`, with the canonical digest.
pub fn each_alias(
    tx: &impl Read,
    mut row: impl FnMut(Alias, Digest) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::DigestAliases, b"", None, |key, value| {
        row(Alias::read(Table::DigestAliases, key)?, codec::decode(value)?)?;
        Ok(Scan::Continue)
    })
}

/// Hands every row of the index from canonical digests to what their content is also known by to `row`.
pub fn each_alias_by_digest(
    tx: &impl Read,
    mut row: impl FnMut(Digest, Alias) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::AliasesByDigest, b"", None, |key, _| {
        let mut parts = Parts(key);
        let canonical = digest_of(Table::AliasesByDigest, &mut parts)?;
        row(canonical, Alias::read(Table::AliasesByDigest, parts.0)?)?;
        Ok(Scan::Continue)
    })
}

/// The next part of a key of `table` as a digest.
pub(super) fn digest_of(table: Table, parts: &mut Parts<'_>) -> Result<Digest, Error> {
    parts.digest().ok_or_else(|| damaged_key(table, "digest"))
}

/// The next part of a key of `table` as a repository.
pub(super) fn repository_of(table: Table, parts: &mut Parts<'_>) -> Result<RepositoryId, Error> {
    parts.number().map(RepositoryId::from_number).ok_or_else(|| damaged_key(table, "repository"))
}

/// That a key lacks a part.
pub(super) fn damaged_key(table: Table, part: &str) -> Error {
    Error::Damaged { table: table.name(), reason: format!("a key has no {part}") }
}
