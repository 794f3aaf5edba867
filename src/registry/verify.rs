//! The check that rows, references and files agree.

use std::collections::{BTreeMap, BTreeSet};

use super::{Error, Inner};
use crate::metadata::manifests::ManifestRecord;
use crate::metadata::repositories::RepositoryId;
use crate::metadata::{ReadTx, blobs, manifests, repositories, tags, uploads};
use crate::oci::{Digest, DigestAlgorithm, Hasher, Manifest};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Rows, references, and the presence and size of files.
    Quick,
    /// Also the digest of every byte.
    Full,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// What is wrong, each a sentence.
    pub problems: Vec<String>,
    /// Files that nothing names: left by a crash, harmless.
    pub orphans: Vec<String>,
    /// How many repositories there are.
    pub repositories: u64,
    /// How many blobs there are.
    pub blobs: u64,
    /// How many revisions there are, counted in each repository.
    pub manifests: u64,
    /// How many tags there are.
    pub tags: u64,
    /// The bytes of all blobs.
    pub bytes: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong. Orphans are not wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }
}

/// Everything that the tables say, as of one transaction.
#[derive(Default)]
struct Tables {
    names: BTreeMap<RepositoryId, String>,
    blobs: BTreeMap<Digest, u64>,
    links: Vec<(RepositoryId, Digest, bool)>,
    manifests: BTreeMap<(RepositoryId, Digest), ManifestRecord>,
    references: BTreeSet<(RepositoryId, Digest, Digest)>,
    referrers: BTreeSet<(RepositoryId, Digest, Digest)>,
    tags: BTreeMap<(RepositoryId, String), Digest>,
    tags_by_manifest: BTreeSet<(RepositoryId, Digest, String)>,
    uploads: BTreeMap<[u8; 16], u64>,
}

/// Checks the whole store.
pub(super) fn verify(inner: &Inner, depth: Depth) -> Result<VerifyReport, Error> {
    let mut report = VerifyReport::default();
    if depth == Depth::Full
        && let Some(damage) = inner.metadata.damage()?
    {
        report.problem(format!("metadata.redb is damaged ({damage}); put it back from a backup"));
        return Ok(report);
    }
    let tables = inner.metadata.read(|tx| Ok(read_tables(tx)))??;
    report.repositories = tables.names.len() as u64;
    report.blobs = tables.blobs.len() as u64;
    report.manifests = tables.manifests.len() as u64;
    report.tags = tables.tags.len() as u64;
    report.bytes = tables.blobs.values().sum();
    check_blobs(inner, &tables, depth, &mut report)?;
    check_links(&tables, &mut report);
    check_manifests(inner, &tables, &mut report)?;
    check_tags(&tables, &mut report);
    check_uploads(inner, &tables, &mut report)?;
    Ok(report)
}

fn read_tables(tx: &ReadTx) -> Result<Tables, Error> {
    let mut tables = Tables::default();
    for name in repositories::list(tx, None, usize::MAX)? {
        let id = repositories::id_of(tx, &name)?.ok_or(Error::RepositoryUnknown)?;
        tables.names.insert(id, name.to_string());
    }
    blobs::each(tx, |digest, record| {
        tables.blobs.insert(digest, record.size);
        Ok(())
    })?;
    blobs::each_link(tx, |repository, digest, _| {
        tables.links.push((repository, digest, blobs::has_reverse_link(tx, repository, &digest)?));
        Ok(())
    })?;
    manifests::each(tx, |repository, digest, record| {
        tables.manifests.insert((repository, digest), record);
        Ok(())
    })?;
    manifests::each_reference(tx, |repository, child, parent| {
        tables.references.insert((repository, child, parent));
        Ok(())
    })?;
    manifests::each_referrer_row(tx, |repository, subject, referrer| {
        tables.referrers.insert((repository, subject, referrer));
        Ok(())
    })?;
    tags::each(tx, |repository, tag, record| {
        tables.tags.insert((repository, tag.to_string()), record.digest);
        Ok(())
    })?;
    tags::each_by_manifest(tx, |repository, digest, tag| {
        tables.tags_by_manifest.insert((repository, digest, tag.to_string()));
        Ok(())
    })?;
    uploads::each(tx, |id, record| {
        tables.uploads.insert(id, record.durable_len);
        Ok(())
    })?;
    Ok(tables)
}

fn check_blobs(inner: &Inner, tables: &Tables, depth: Depth, report: &mut VerifyReport) -> Result<(), Error> {
    for (digest, &size) in &tables.blobs {
        match inner.blobs.blob_len(digest)? {
            None => report.problem(format!("the file of the blob {digest} is missing")),
            Some(len) if len != size => {
                report.problem(format!("the file of the blob {digest} has {len} bytes instead of {size}"));
            }
            Some(_) if depth == Depth::Full => {
                let computed = hash_blob(inner, digest)?;
                if computed != Some(*digest) {
                    report.problem(format!("the bytes of the blob {digest} are damaged"));
                }
            }
            Some(_) => {}
        }
    }
    for entry in inner.blobs.walk() {
        let (digest, _) = entry?;
        if !tables.blobs.contains_key(&digest) {
            report.orphans.push(format!("the file of {digest}, which no row names"));
        }
    }
    Ok(())
}

fn hash_blob(inner: &Inner, digest: &Digest) -> Result<Option<Digest>, Error> {
    let Some(file) = inner.blobs.open_blob(digest)? else { return Ok(None) };
    let mut hasher = Hasher::new(DigestAlgorithm::CANONICAL);
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset).map_err(Error::Io)? {
            0 => return Ok(Some(hasher.finish())),
            read => {
                hasher.update(&buffer[..read]);
                offset += read as u64;
            }
        }
    }
}

fn check_links(tables: &Tables, report: &mut VerifyReport) {
    for (repository, digest, has_reverse) in &tables.links {
        if !tables.names.contains_key(repository) {
            report.problem(format!("the blob {digest} is linked into a repository that doesn't exist"));
        }
        if !tables.blobs.contains_key(digest) {
            report.problem(format!("{} links the unknown blob {digest}", tables.name(*repository)));
        }
        if !has_reverse {
            report.problem(format!("the link of {digest} in {} is not indexed", tables.name(*repository)));
        }
    }
}

fn check_manifests(inner: &Inner, tables: &Tables, report: &mut VerifyReport) -> Result<(), Error> {
    let links: BTreeSet<_> =
        tables.links.iter().map(|(repository, digest, _)| (*repository, *digest)).collect();
    let mut expected_references = BTreeSet::new();
    let mut expected_referrers = BTreeSet::new();
    for ((repository, digest), record) in &tables.manifests {
        let name = tables.name(*repository);
        let found = inner.metadata.read(|tx| manifests::payload(tx, digest, <[u8]>::to_vec))?;
        let Some(payload) = found else {
            report.problem(format!("the payload of the manifest {digest} of {name} is missing"));
            continue;
        };
        if Digest::of(DigestAlgorithm::CANONICAL, &payload) != *digest || payload.len() as u64 != record.size
        {
            report.problem(format!("the payload of the manifest {digest} of {name} is damaged"));
            continue;
        }
        let Ok(manifest) = Manifest::parse(&record.media_type, &payload) else {
            report.problem(format!("the manifest {digest} of {name} can't be read as {}", record.media_type));
            continue;
        };
        for child in &manifest.children {
            let named = child.descriptor.digest;
            let canonical = inner.metadata.read(|tx| blobs::canonical(tx, &named))?;
            let key = canonical.unwrap_or(named);
            let present =
                tables.manifests.contains_key(&(*repository, key)) || links.contains(&(*repository, key));
            let may_miss = !child.is_distributable() || inner.policy.allow_sparse_indexes;
            if !present && !may_miss {
                report.problem(format!("the manifest {digest} of {name} names {named}, which is not there"));
            }
            // Under its canonical digest, if that was known when the manifest came; under both, if it came again later.
            let rows = [(*repository, named, *digest), (*repository, key, *digest)];
            expected_references.extend(rows);
            if !rows.iter().any(|row| tables.references.contains(row)) {
                report.problem(format!("that the manifest {digest} of {name} names {named} is not indexed"));
            }
        }
        if let Some(subject) = &record.subject {
            expected_referrers.insert((*repository, *subject, *digest));
        }
    }
    for (repository, child, parent) in tables.references.difference(&expected_references) {
        let name = tables.name(*repository);
        report.problem(format!("the index says without reason that {parent} of {name} names {child}"));
    }
    for (repository, subject, referrer) in tables.referrers.symmetric_difference(&expected_referrers) {
        let name = tables.name(*repository);
        report.problem(format!("the referrers of {subject} of {name} are wrong about {referrer}"));
    }
    Ok(())
}

fn check_tags(tables: &Tables, report: &mut VerifyReport) {
    for ((repository, tag), digest) in &tables.tags {
        let name = tables.name(*repository);
        if !tables.manifests.contains_key(&(*repository, *digest)) {
            report.problem(format!("the tag {name}:{tag} points to {digest}, which is not there"));
        }
        if !tables.tags_by_manifest.contains(&(*repository, *digest, tag.clone())) {
            report.problem(format!("the tag {name}:{tag} is not indexed by its manifest"));
        }
    }
    for (repository, digest, tag) in &tables.tags_by_manifest {
        if tables.tags.get(&(*repository, tag.clone())) != Some(digest) {
            let name = tables.name(*repository);
            report.problem(format!("the index says without reason that {name}:{tag} points to {digest}"));
        }
    }
}

fn check_uploads(inner: &Inner, tables: &Tables, report: &mut VerifyReport) -> Result<(), Error> {
    for id in inner.blobs.staged_ids()? {
        if !tables.uploads.contains_key(id.as_bytes()) {
            report.orphans.push(format!("the file of the upload {id}, which no row names"));
        }
    }
    Ok(())
}

impl Tables {
    fn name(&self, repository: RepositoryId) -> &str {
        self.names.get(&repository).map_or("a repository that doesn't exist", String::as_str)
    }
}
