//! Schema 3: what may go and when, what was deleted and can come back, how much each repository holds, and which caches an
//! upstream.
//!
//! A link and a revision remember from when on they may go, where nothing names them; what a store of schema 2 has of those
//! gets a lease from the moment of the migration. The counters are counted here once, and kept from then on.

use std::collections::HashMap;

use bincode::{Decode, Encode};
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

/// The tables that schema 3 adds.
const TABLES: [&str; 13] = [
    "candidates",
    "untagged",
    "deletions",
    "deletions_by_expiry",
    "deletions_by_repository",
    "deleted_names",
    "repository_sizes",
    "usage",
    "former_names",
    "held_by_history",
    "damaged",
    "freshness",
    "fetches",
];

/// How long something that nothing names stays.
const LEASE_MILLIS: u64 = 60 * 60 * 1000;

/// The bytes of a digest in a key: its algorithm, then its bytes.
const SHA256_KEY: usize = 33;

type Rows<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// The counters of a repository, or of the whole store under the key 0.
#[derive(Default, Encode, Decode)]
struct Sizes {
    blobs: u64,
    blob_bytes: u64,
    manifests: u64,
    manifest_bytes: u64,
    tags: u64,
    unique_bytes: u64,
}

fn open<'t>(transaction: &'t WriteTransaction, name: &'static str) -> Result<Rows<'t>, redb::Error> {
    Ok(transaction.open_table(TableDefinition::<&[u8], &[u8]>::new(name))?)
}

fn damaged(what: &str) -> redb::Error {
    redb::Error::Corrupted(format!("{what} can't be read"))
}

/// Creates the tables, and fills those that say what the others hold. `now` is in milliseconds since 1970.
pub(super) fn apply(transaction: &WriteTransaction, now: u64) -> Result<(), redb::Error> {
    for name in TABLES {
        open(transaction, name)?;
    }
    say_that_repositories_are_own(transaction)?;
    give_tarsums_repositories(transaction)?;
    let mut counters = Counters::default();
    give_links_due_times(transaction, now, &mut counters)?;
    give_manifests_due_times(transaction, now, &mut counters)?;
    for row in open(transaction, "tags")?.iter()? {
        counters.of(repository_of(row?.0.value())?).tags += 1;
    }
    counters.write(&mut open(transaction, "repository_sizes")?)
}

/// Makes the records of repositories version 2, which has the upstream that a repository caches behind what version 1 has.
fn say_that_repositories_are_own(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let mut repositories = open(transaction, "repositories_by_id")?;
    let mut records = Vec::new();
    for row in repositories.iter()? {
        let (key, value) = row?;
        let body = value.value().strip_prefix(&[1]).ok_or_else(|| damaged("a repository"))?;
        records.push((key.value().to_vec(), [&[2], body, &[0]].concat()));
    }
    for (key, value) in &records {
        repositories.insert(key.as_slice(), value.as_slice())?;
    }
    Ok(())
}

/// A tarsum leads to the archives of the repository that it came to, and not to anybody else's: its row becomes one for
/// each repository that has the archive. What content that is gone was known by is forgotten.
fn give_tarsums_repositories(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let by_blob = open(transaction, "links_by_blob")?;
    let mut aliases = open(transaction, "digest_aliases")?;
    let mut by_digest = open(transaction, "aliases_by_digest")?;
    let (blobs, payloads) = (open(transaction, "blobs")?, open(transaction, "manifest_payloads")?);
    let (mut tarsums, mut gone) = (Vec::new(), Vec::new());
    for row in aliases.iter()? {
        let (alias, value) = row?;
        let canonical = value.value().get(2..).ok_or_else(|| damaged("a digest"))?;
        if blobs.get(canonical)?.is_none() && payloads.get(canonical)?.is_none() {
            gone.push((alias.value().to_vec(), canonical.to_vec()));
            continue;
        }
        // The digest algorithms are 1 to 3.
        if alias.value().first().is_some_and(|&kind| kind > 3) {
            tarsums.push((alias.value().to_vec(), value.value().to_vec(), canonical.to_vec()));
        }
    }
    for (alias, canonical) in gone {
        aliases.remove(alias.as_slice())?;
        by_digest.remove([&canonical[..], &alias].concat().as_slice())?;
    }
    for (alias, value, canonical) in tarsums {
        aliases.remove(alias.as_slice())?;
        by_digest.remove([&canonical[..], &alias].concat().as_slice())?;
        for repository in repositories_of(&by_blob, &canonical)? {
            let alias = [&alias[..], &repository.to_be_bytes()].concat();
            aliases.insert(alias.as_slice(), value.as_slice())?;
            by_digest.insert([&canonical[..], &alias].concat().as_slice(), &[][..])?;
        }
    }
    Ok(())
}

fn give_links_due_times(
    transaction: &WriteTransaction,
    now: u64,
    counters: &mut Counters,
) -> Result<(), redb::Error> {
    let blobs = open(transaction, "blobs")?;
    let references = References::open(transaction)?;
    let by_blob = open(transaction, "links_by_blob")?;
    let mut links = open(transaction, "blob_links")?;
    let mut candidates = open(transaction, "candidates")?;
    let due = now.saturating_add(LEASE_MILLIS);
    for row in blobs.iter()? {
        let (digest, record) = row?;
        let size = first_number(record.value())?;
        counters.store.blobs += 1;
        counters.store.blob_bytes += size;
        let repositories = repositories_of(&by_blob, digest.value())?;
        if repositories.is_empty() {
            candidates.insert(candidate(0, 2, 0, digest.value()).as_slice(), &[][..])?;
        }
        for &repository in &repositories {
            let sizes = counters.of(repository);
            sizes.blobs += 1;
            sizes.blob_bytes += size;
            if repositories.len() == 1 {
                sizes.unique_bytes += size;
            }
            let key = [&repository.to_be_bytes(), digest.value()].concat();
            let needed = references.needed(repository, digest.value())?;
            let due = (!needed).then_some(due);
            if let Some(due) = due {
                candidates.insert(candidate(due, 1, repository, digest.value()).as_slice(), &[][..])?;
            }
            append_due(&mut links, &key, due)?;
        }
    }
    Ok(())
}

fn give_manifests_due_times(
    transaction: &WriteTransaction,
    now: u64,
    counters: &mut Counters,
) -> Result<(), redb::Error> {
    let payloads = open(transaction, "manifest_payloads")?;
    let references = References::open(transaction)?;
    let by_manifest = open(transaction, "repositories_by_manifest")?;
    let tags = open(transaction, "tags_by_manifest")?;
    let mut manifests = open(transaction, "manifests")?;
    let mut untagged = open(transaction, "untagged")?;
    let due = now.saturating_add(LEASE_MILLIS);
    for row in payloads.iter()? {
        let (digest, payload) = row?;
        let size = payload.value().len() as u64;
        counters.store.manifests += 1;
        counters.store.manifest_bytes += size;
        let repositories = repositories_of(&by_manifest, digest.value())?;
        for &repository in &repositories {
            let sizes = counters.of(repository);
            sizes.manifests += 1;
            sizes.manifest_bytes += size;
            if repositories.len() == 1 {
                sizes.unique_bytes += size;
            }
            let key = [&repository.to_be_bytes(), digest.value()].concat();
            let has_subject = manifests.get(key.as_slice())?.map(|row| has_subject(row.value()));
            let Some(has_subject) = has_subject.transpose()? else { continue };
            let named = has_subject
                || any_with_prefix(&tags, &key)?
                || references.needed(repository, digest.value())?;
            if !named {
                untagged.insert(key.as_slice(), [&[1][..], &encode(&now)?].concat().as_slice())?;
            }
            append_due(&mut manifests, &key, (!named).then_some(due))?;
        }
    }
    Ok(())
}

/// Makes a record of version 1 one of version 2, which has a due time behind what version 1 has.
fn append_due(table: &mut Rows<'_>, key: &[u8], due: Option<u64>) -> Result<(), redb::Error> {
    let Some(former) = table.get(key)?.map(|row| row.value().to_vec()) else { return Ok(()) };
    let body = former.strip_prefix(&[1]).ok_or_else(|| damaged("a record"))?;
    table.insert(key, [&[2][..], body, &encode(&due)?].concat().as_slice())?;
    Ok(())
}

/// Who names what.
struct References<'t> {
    by_child: Rows<'t>,
    aliases: Rows<'t>,
}

impl<'t> References<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<References<'t>, redb::Error> {
        Ok(References {
            by_child: open(transaction, "references_by_child")?,
            aliases: open(transaction, "aliases_by_digest")?,
        })
    }

    /// Whether a manifest of the repository needs the content, by whichever of its digests.
    fn needed(&self, repository: u64, digest: &[u8]) -> Result<bool, redb::Error> {
        let mut names = vec![digest.to_vec()];
        for row in with_prefix(&self.aliases, digest)? {
            names.push(row?.0.value()[digest.len()..].to_vec());
        }
        for name in names {
            let prefix = [&repository.to_be_bytes()[..], &name].concat();
            for row in with_prefix(&self.by_child, &prefix)? {
                if row?.1.value().is_empty() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

#[derive(Default)]
struct Counters {
    store: Sizes,
    repositories: HashMap<u64, Sizes>,
}

impl Counters {
    fn of(&mut self, repository: u64) -> &mut Sizes {
        self.repositories.entry(repository).or_default()
    }

    fn write(mut self, table: &mut Rows<'_>) -> Result<(), redb::Error> {
        self.repositories.insert(0, self.store);
        for (repository, sizes) in self.repositories {
            let value = [&[1][..], &encode(&sizes)?].concat();
            table.insert(repository.to_be_bytes().as_slice(), value.as_slice())?;
        }
        Ok(())
    }
}

type Range<'t> = redb::Range<'t, &'static [u8], &'static [u8]>;

/// The rows whose key begins with `prefix`, which doesn't end in bytes of ones alone.
fn with_prefix<'t>(table: &'t Rows<'_>, prefix: &[u8]) -> Result<Range<'t>, redb::Error> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX).ok_or_else(|| damaged("a key"))?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Ok(table.range::<&[u8]>(prefix..end.as_slice())?)
}

fn any_with_prefix(table: &Rows<'_>, prefix: &[u8]) -> Result<bool, redb::Error> {
    Ok(with_prefix(table, prefix)?.next().transpose()?.is_some())
}

/// The repositories that an index has under a digest.
fn repositories_of(index: &Rows<'_>, digest: &[u8]) -> Result<Vec<u64>, redb::Error> {
    let mut found = Vec::new();
    for row in with_prefix(index, digest)? {
        found.push(repository_of(&row?.0.value()[digest.len()..])?);
    }
    Ok(found)
}

fn repository_of(key: &[u8]) -> Result<u64, redb::Error> {
    let number = key.first_chunk::<8>().ok_or_else(|| damaged("a key"))?;
    Ok(u64::from_be_bytes(*number))
}

fn candidate(due: u64, kind: u8, repository: u64, digest: &[u8]) -> Vec<u8> {
    [&due.to_be_bytes()[..], &[kind], &repository.to_be_bytes(), digest].concat()
}

fn encode(value: &impl Encode) -> Result<Vec<u8>, redb::Error> {
    bincode::encode_to_vec(value, bincode::config::standard()).map_err(|_| damaged("a number"))
}

/// The number that a record of version 1 begins with.
fn first_number(record: &[u8]) -> Result<u64, redb::Error> {
    let body = record.strip_prefix(&[1]).ok_or_else(|| damaged("a blob"))?;
    let read = bincode::decode_from_slice::<u64, _>(body, bincode::config::standard());
    read.map(|(number, _)| number).map_err(|_| damaged("a blob"))
}

/// A revision as version 1 has it, its texts and digests as strings of bytes.
type Revision = (Vec<u8>, u64, u64, String, Vec<u8>, Option<Vec<u8>>);

/// Whether a revision of version 1 names a subject.
fn has_subject(record: &[u8]) -> Result<bool, redb::Error> {
    let body = record.strip_prefix(&[1]).ok_or_else(|| damaged("a revision"))?;
    let read = bincode::decode_from_slice::<Revision, _>(body, bincode::config::standard());
    let ((.., pushed_as, subject), _) = read.map_err(|_| damaged("a revision"))?;
    if pushed_as.len() < SHA256_KEY { Err(damaged("a revision")) } else { Ok(subject.is_some()) }
}
