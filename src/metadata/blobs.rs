//! Blobs: global descriptors, the links that say who may read them where, and the other digests that they are known by.

use std::fmt;

use bincode::{Decode, Encode};

use super::candidates::{self, Candidate};
use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::links::{self, Link, Place};
use super::repositories::{Cached, RepositoryId};
use super::sizes::{self, Counted};
use super::{Error, Read, Scan, Table, WriteTx, manifests};
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
    /// From when on it may go, in milliseconds since 1970; `None` while a manifest of the repository needs the blob.
    pub due_at: Option<u64>,
}

impl Record for LinkRecord {
    const TABLE: Table = Table::BlobLinks;
    const VERSION: u8 = 2;
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

/// Records a blob whose bytes are durable at their final path, and which has no row.
pub fn insert(tx: &WriteTx<'_>, digest: &Digest, record: &BlobRecord) -> Result<(), Error> {
    if tx.has(Table::Damaged, Key::new().digest(digest))? {
        // The repositories that link it had counted it all the time.
        tx.remove(Table::Damaged, Key::new().digest(digest))?;
    } else {
        sizes::stored(tx, Counted::Blob, record.size)?;
    }
    tx.insert(Table::Blobs, Key::new().digest(digest), &codec::encode(record))
}

/// A blob whose bytes were found damaged and lie in quarantine. Its links stay, so that a push of the same bytes heals it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DamagedRecord {
    /// The length that it had.
    pub size: u64,
    /// When it was found, in milliseconds since 1970.
    pub found_at: u64,
    /// What was wrong.
    pub reason: String,
}

impl Record for DamagedRecord {
    const TABLE: Table = Table::Damaged;
    const VERSION: u8 = 1;
}

/// What is known of a damaged blob.
pub fn damaged(tx: &impl Read, digest: &Digest) -> Result<Option<DamagedRecord>, Error> {
    tx.get(Table::Damaged, Key::new().digest(digest), codec::decode)
}

/// Takes a blob's row away until its bytes are pushed again; its links stay.
pub fn set_damaged(tx: &WriteTx<'_>, digest: &Digest, record: &DamagedRecord) -> Result<(), Error> {
    tx.remove(Table::Blobs, Key::new().digest(digest))?;
    tx.insert(Table::Damaged, Key::new().digest(digest), &codec::encode(record))
}

/// Hands every damaged blob to `row`.
pub fn each_damaged(
    tx: &impl Read,
    mut row: impl FnMut(Digest, DamagedRecord) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::Damaged, b"", None, |key, value| {
        row(digest_of(Table::Damaged, &mut Parts(key))?, codec::decode(value)?)?;
        Ok(Scan::Continue)
    })
}

/// Removes the row of a blob that no repository links, sound or damaged; returns its size, or `None` where some
/// repository links it or it isn't there. Its file has to be removed after the commit.
pub fn remove_unlinked(tx: &WriteTx<'_>, digest: &Digest) -> Result<Option<u64>, Error> {
    if links::any_repository::<LinkRecord>(tx, digest)?.is_some() {
        return Ok(None);
    }
    let Some(size) = size_of(tx, digest)? else { return Ok(None) };
    for table in [Table::Blobs, Table::Damaged] {
        if tx.has(table, Key::new().digest(digest))? {
            tx.remove(table, Key::new().digest(digest))?;
        }
    }
    sizes::discarded(tx, Counted::Blob, size)?;
    forget_aliases(tx, digest)?;
    Ok(Some(size))
}

/// The size of a blob, sound or damaged.
pub fn size_of(tx: &impl Read, digest: &Digest) -> Result<Option<u64>, Error> {
    if let Some(record) = get(tx, digest)? {
        return Ok(Some(record.size));
    }
    Ok(damaged(tx, digest)?.map(|record| record.size))
}

/// Forgets the other digests of content that is neither a blob nor a manifest.
pub(super) fn forget_aliases(tx: &WriteTx<'_>, canonical: &Digest) -> Result<(), Error> {
    let key = Key::new().digest(canonical);
    if size_of(tx, canonical)?.is_some() || tx.has(Table::ManifestPayloads, &key)? {
        return Ok(());
    }
    let mut aliases = Vec::new();
    tx.scan(Table::AliasesByDigest, key.as_ref(), None, |alias, _| {
        aliases.push(alias.to_vec());
        Ok(Scan::Continue)
    })?;
    for alias in &aliases {
        tx.remove(Table::AliasesByDigest, Key::new().digest(canonical).bytes(alias))?;
        tx.remove(Table::DigestAliases, Key::new().bytes(alias))?;
    }
    Ok(())
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

/// Links a blob into a repository. A link that is there stays as it is, but for its due time, which moves to that of
/// `record` where it is sooner; and a link that a manifest needs has none.
pub fn insert_link(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    record: &LinkRecord,
) -> Result<(), Error> {
    if let Some(present) = link(tx, repository, digest)? {
        return match (present.due_at, record.due_at) {
            (Some(present_due), Some(due)) if present_due < due => {
                set_due(tx, repository, digest, present, Some(due))
            }
            _ => Ok(()),
        };
    }
    manifests::regain(tx, repository, digest)?;
    let is_needed = record.due_at.is_some() && manifests::is_needed(tx, repository, digest)?;
    let record = LinkRecord { due_at: record.due_at.filter(|_| !is_needed), ..record.clone() };
    let size = size_of(tx, digest)?.unwrap_or_default();
    sizes::added(tx, repository, Counted::Blob, Table::LinksByBlob, digest, size)?;
    links::put(tx, Place::of(repository, digest), &record)?;
    match record.due_at {
        Some(due) => candidates::insert(tx, due, &Candidate::Link { repository, digest: *digest }),
        None => Ok(()),
    }
}

/// Takes a blob's link out of a repository; says whether there was one. A blob that no repository links any more may go.
pub fn remove_link(tx: &WriteTx<'_>, repository: RepositoryId, digest: &Digest) -> Result<bool, Error> {
    let Some(record) = link(tx, repository, digest)? else { return Ok(false) };
    if let Some(due) = record.due_at {
        candidates::remove(tx, due, &Candidate::Link { repository, digest: *digest })?;
    }
    links::remove::<LinkRecord>(tx, Place::of(repository, digest))?;
    let size = size_of(tx, digest)?.unwrap_or_default();
    sizes::removed(tx, repository, Counted::Blob, Table::LinksByBlob, digest, size)?;
    if links::any_repository::<LinkRecord>(tx, digest)?.is_none() {
        candidates::insert_unlinked(tx, digest)?;
    }
    Ok(true)
}

/// Brings a link in line with who needs the blob: one that a manifest needs has no due time, and one that none needs has
/// one, `due` if it had none.
pub fn settle_link(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    due: u64,
) -> Result<(), Error> {
    if repository.is_deletion() {
        return Ok(());
    }
    let Some(record) = link(tx, repository, digest)? else { return Ok(()) };
    match (manifests::is_needed(tx, repository, digest)?, record.due_at) {
        (true, Some(_)) => set_due(tx, repository, digest, record, None),
        (false, None) => set_due(tx, repository, digest, record, Some(due)),
        _ => Ok(()),
    }
}

/// Moves a link's due time to `due`; nothing where it has none, or a later one.
pub fn postpone_link(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    due: u64,
) -> Result<(), Error> {
    match link(tx, repository, digest)? {
        Some(record) if record.due_at.is_some_and(|former| former < due) => {
            set_due(tx, repository, digest, record, Some(due))
        }
        _ => Ok(()),
    }
}

/// Moves the due time of a link to `due`, and remembers when its lease had ended before.
pub fn extend_link(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    due: u64,
    since: u64,
) -> Result<(), Error> {
    postpone_link(tx, repository, digest, due)?;
    candidates::insert_since(tx, due, &Candidate::Link { repository, digest: *digest }, since)
}

fn set_due(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    record: LinkRecord,
    due: Option<u64>,
) -> Result<(), Error> {
    let candidate = Candidate::Link { repository, digest: *digest };
    if let Some(former) = record.due_at {
        candidates::remove(tx, former, &candidate)?;
    }
    if let Some(due) = due {
        candidates::insert(tx, due, &candidate)?;
    }
    links::change(tx, Place::of(repository, digest), &LinkRecord { due_at: due, ..record })
}

/// Up to `limit` links of a repository in the order of the blobs' digests, behind `after`.
pub fn list_links(
    tx: &impl Read,
    repository: RepositoryId,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Vec<(Digest, LinkRecord)>, Error> {
    links::list(tx, repository, after, limit)
}

/// Up to `limit` repositories that have the blob, deletions included, in the order of their identifiers.
pub fn repositories_of(tx: &impl Read, digest: &Digest, limit: usize) -> Result<Vec<RepositoryId>, Error> {
    links::repositories::<LinkRecord>(tx, digest, limit)
}

/// Some repository of these that has the blob.
pub fn any_cached(tx: &impl Read, digest: &Digest, cached: Cached) -> Result<Option<RepositoryId>, Error> {
    links::any_cached::<LinkRecord>(tx, digest, cached)
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

/// Up to `limit` repositories that a tarsum is known in; they need not have the archive any more.
pub fn repositories_of_tarsum(
    tx: &impl Read,
    sum: &TarSum,
    limit: usize,
) -> Result<Vec<RepositoryId>, Error> {
    let mut found = Vec::new();
    tx.scan(Table::DigestAliases, &sum.to_key(), None, |key, _| {
        if found.len() == limit {
            return Ok(Scan::Stop);
        }
        found.push(repository_of(Table::DigestAliases, &mut Parts(key))?);
        Ok(Scan::Continue)
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
    tx.insert(Table::AliasesByDigest, Key::new().digest(canonical).bytes(key.as_ref()), &[])?;
    match alias {
        Alias::Digest(digest) => settle_named(tx, &digest, canonical),
        Alias::TarSum(..) => Ok(()),
    }
}

/// Sees to it that what manifests of whichever repository have named by `alias` all the time is no candidate any more.
fn settle_named(tx: &WriteTx<'_>, alias: &Digest, canonical: &Digest) -> Result<(), Error> {
    let mut holders = repositories_of(tx, canonical, usize::MAX)?;
    holders.extend(manifests::repositories_of(tx, canonical, usize::MAX)?);
    for repository in holders {
        if manifests::is_named(tx, repository, alias)? {
            manifests::regain(tx, repository, canonical)?;
            settle_link(tx, repository, canonical, 0)?;
            manifests::settle(tx, repository, canonical, 0, 0)?;
        }
    }
    Ok(())
}

/// Brings the index's row of an alias in line with what the alias stands for; for a repair.
pub fn mend_alias(tx: &WriteTx<'_>, alias: Alias, canonical: &Digest) -> Result<(), Error> {
    let key = alias.key();
    let row = Key::new().digest(canonical).bytes(key.as_ref());
    if tx.get(Table::DigestAliases, &key, codec::decode::<Digest>)? == Some(*canonical) {
        tx.insert(Table::AliasesByDigest, row, &[])
    } else {
        tx.remove(Table::AliasesByDigest, row).map(drop)
    }
}

/// Brings the index's row of a link in line with whether the link is there; for a repair.
pub fn mend_link(tx: &WriteTx<'_>, repository: RepositoryId, digest: &Digest) -> Result<(), Error> {
    links::mend::<LinkRecord>(tx, Place::of(repository, digest))
}

/// Brings a candidate in line with what it is about; for a repair.
pub fn mend_candidate(tx: &WriteTx<'_>, due: u64, candidate: &Candidate) -> Result<(), Error> {
    let is_one = match candidate {
        Candidate::Link { repository, digest } => {
            link(tx, *repository, digest)?.is_some_and(|link| link.due_at == Some(due))
        }
        Candidate::Blob { digest } => any_repository(tx, digest)?.is_none() && size_of(tx, digest)?.is_some(),
        Candidate::Followers { .. } => return Ok(()),
    };
    if is_one { candidates::insert(tx, due, candidate) } else { candidates::remove(tx, due, candidate) }
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
