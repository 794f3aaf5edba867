//! The check that rows agree with each other, all as of one transaction.

mod accounts;
mod collection;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, TryLockError};

use super::quarantine::{self, DamagedBlob};
use super::repair::{self, Fix};
use super::scrub::{self, Treatment, VerifyOptions, VerifyProgress};
use super::{Error, Inner, Policy};
use crate::metadata::candidates::Candidate;
use crate::metadata::manifests::ManifestRecord;
use crate::metadata::repositories::{Cached, RepositoryId, UpstreamNumber};
use crate::metadata::sizes::SizeRecord;
use crate::metadata::{
    self, Read, Scan, blobs, candidates, deletions, events, freshness, manifests, repositories, signatures,
    sizes, tags,
};
use crate::oci::schema1::SignedManifest;
use crate::oci::{Digest, DigestAlgorithm, Manifest, MediaType};

/// The most problems, and the most left-over files, that a report lists; further ones are counted.
const MAX_LISTED: usize = 1000;

/// The most fixes that one round of a repair makes.
const MAX_FIXES: usize = 1_000_000;

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
    /// How many problems there are beyond those that are listed.
    pub unlisted_problems: u64,
    /// Files that nothing names: left by a crash, harmless.
    pub orphans: Vec<String>,
    /// How many such files there are beyond those that are listed.
    pub unlisted_orphans: u64,
    /// The damaged blobs, and the images that need them.
    pub damaged: Vec<DamagedBlob>,
    /// How many such blobs there are beyond those that are listed.
    pub unlisted_damaged: u64,
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
    /// What was wrong and has been mended.
    pub repaired: Vec<String>,
    /// How much was mended beyond that.
    pub unlisted_repaired: u64,
    /// What would mend problems, with the problems.
    pub(super) fixes: Vec<(Fix, String)>,
}

impl VerifyReport {
    /// Whether nothing is wrong. Orphans are not wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn problem(&mut self, problem: impl Into<String>) {
        if self.problems.len() < MAX_LISTED {
            self.problems.push(problem.into());
        } else {
            self.unlisted_problems += 1;
        }
    }

    /// Notes a problem, and what would mend it.
    pub(super) fn fixable(&mut self, fix: Fix, problem: String) {
        if self.fixes.len() < MAX_FIXES {
            self.fixes.push((fix, problem.clone()));
        }
        self.problem(problem);
    }

    /// Notes a problem of the index from manifests to tags.
    fn tag(&mut self, repository: RepositoryId, digest: &Digest, tag: &str, problem: String) {
        match tag.parse() {
            Ok(tag) => self.fixable(Fix::TagIndex(repository, *digest, tag), problem),
            Err(_) => self.problem(problem),
        }
    }

    pub(super) fn repaired(&mut self, repaired: String) {
        if self.repaired.len() < MAX_LISTED {
            self.repaired.push(repaired);
        } else {
            self.unlisted_repaired += 1;
        }
    }

    pub(super) fn orphan(&mut self, orphan: impl Into<String>) {
        if self.orphans.len() < MAX_LISTED {
            self.orphans.push(orphan.into());
        } else {
            self.unlisted_orphans += 1;
        }
    }
}

/// Everything that the tables say, as of one transaction.
#[derive(Default)]
struct Tables {
    /// Deletions, and whether each can still come back: what can't is being taken apart.
    deletions: BTreeMap<RepositoryId, bool>,
    /// The due times of links and of revisions.
    due: BTreeMap<(RepositoryId, Digest), Option<u64>>,
    due_manifests: BTreeMap<(RepositoryId, Digest), Option<u64>>,
    candidates: BTreeSet<(u64, Candidate)>,
    untagged: BTreeSet<(RepositoryId, Digest)>,
    sizes: BTreeMap<RepositoryId, SizeRecord>,
    store: SizeRecord,
    damaged: BTreeMap<Digest, u64>,
    /// The folders of upstreams, and what is counted for each and for all.
    upstreams: BTreeMap<UpstreamNumber, String>,
    cached_sizes: BTreeMap<Cached, SizeRecord>,
    /// What is known of the freshness of tags, and of whole repositories.
    freshness: BTreeSet<(RepositoryId, String)>,
    names: BTreeMap<RepositoryId, String>,
    blobs: BTreeMap<Digest, u64>,
    links: BTreeSet<(RepositoryId, Digest)>,
    links_by_blob: BTreeSet<(RepositoryId, Digest)>,
    manifests: BTreeMap<(RepositoryId, Digest), ManifestRecord>,
    repositories_by_manifest: BTreeSet<(RepositoryId, Digest)>,
    signatures: BTreeSet<(RepositoryId, Digest)>,
    references: BTreeMap<(RepositoryId, Digest, Digest), manifests::Reference>,
    referrers: BTreeSet<(RepositoryId, Digest, Digest)>,
    tags: BTreeMap<(RepositoryId, String), Digest>,
    tags_by_manifest: BTreeSet<(RepositoryId, Digest, String)>,
    /// Canonical digest, and what its content is also known by: as the aliases say, and as their index says.
    aliases: BTreeSet<(Digest, blobs::Alias)>,
    aliases_by_digest: BTreeSet<(Digest, blobs::Alias)>,
}

/// Checks the whole store: first the rows, then the files.
pub(super) fn verify(
    inner: &Arc<Inner>,
    options: &VerifyOptions,
    progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
) -> Result<VerifyReport, Error> {
    let _only = match inner.verifying.try_lock() {
        Ok(only) => only,
        // Nothing is behind the lock that a panic could have left half done.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(Error::VerifyRunning),
    };
    if options.depth == Depth::Full
        && options.is_alone
        && let Some(damage) = inner.metadata.damage()?
    {
        let mut report = VerifyReport::default();
        report.problem(format!("metadata.redb is damaged ({damage}); put it back from a backup"));
        return Ok(report);
    }
    let is_repair = options.treatment == Treatment::Repair;
    let repaired = if is_repair { repair::rows(inner)? } else { Vec::new() };
    let now = inner.clock.now().millis();
    let mut report = match inner.metadata.read(|tx| Ok(check_rows(tx, &inner.policy, options.depth, now)))? {
        // The files can be held against the rows of blobs all the same.
        Err(Error::Metadata(damage @ metadata::Error::Damaged { .. })) => {
            let mut report = VerifyReport::default();
            report.problem(format!("{damage}; not all rows were checked"));
            report
        }
        report => report?,
    };
    report.fixes = Vec::new();
    for problem in repaired {
        report.repaired(problem);
    }
    let found = scrub::check_files(inner, options, progress, &mut report)?;
    (report.damaged, report.unlisted_damaged) = quarantine::damaged(inner, MAX_LISTED)?;
    for (digest, record) in found {
        if report.damaged.len() < MAX_LISTED {
            report.damaged.push(quarantine::describe(inner, digest, record)?);
        } else {
            report.unlisted_damaged += 1;
        }
    }
    Ok(report)
}

/// Checks everything that can be said of the rows alone.
pub(super) fn check_rows(
    tx: &impl Read,
    policy: &Policy,
    depth: Depth,
    now: u64,
) -> Result<VerifyReport, Error> {
    let tables = read_tables(tx, now)?;
    let mut report = VerifyReport {
        repositories: tables.names.len() as u64,
        manifests: tables.manifests.keys().filter(|(id, _)| !id.is_deletion()).count() as u64,
        tags: tables.tags.keys().filter(|(id, _)| !id.is_deletion()).count() as u64,
        ..VerifyReport::default()
    };
    check_links(&tables, &mut report);
    collection::check(&tables, &mut report);
    check_manifests(tx, policy, &tables, &mut report)?;
    check_signatures(tx, &tables, depth, &mut report)?;
    check_tags(&tables, &mut report);
    check_cached(tx, &tables, &mut report)?;
    check_events(tx, &mut report)?;
    accounts::check(tx, &mut report)?;
    Ok(report)
}

/// Checks that the log of events has no gap, and that nobody has taken what never was.
fn check_events(tx: &impl Read, report: &mut VerifyReport) -> Result<(), Error> {
    let mut former = None;
    events::each(tx, |number, _| {
        if former.is_some_and(|former| former + 1 != number) {
            report.problem(format!("the log of events has a gap before the number {number}"));
        }
        former = Some(number);
        Ok(())
    })?;
    let last = events::last(tx)?;
    for (listener, taken) in events::cursors(tx)?.into_iter().filter(|(_, taken)| *taken > last) {
        report.problem(format!("the endpoint {listener} has taken event {taken}, and there are only {last}"));
    }
    Ok(())
}

fn read_tables(tx: &impl Read, now: u64) -> Result<Tables, Error> {
    let mut tables = Tables { store: sizes::of_store(tx)?, ..Tables::default() };
    repositories::each_upstream(tx, |folder, upstream| {
        tables.upstreams.insert(upstream, folder.to_owned());
        Ok(Scan::Continue)
    })?;
    freshness::each(tx, |repository, tag| {
        tables.freshness.insert((repository, tag.to_owned()));
        Ok(())
    })?;
    deletions::each(tx, None, |id, record| {
        tables.deletions.insert(id, record.expires_at > now);
        Ok(Scan::Continue)
    })?;
    candidates::each(tx, |due, candidate| {
        tables.candidates.insert((due, candidate));
        Ok(Scan::Continue)
    })?;
    manifests::each_untagged(tx, None, |repository, digest, _| {
        tables.untagged.insert((repository, digest));
        Ok(Scan::Continue)
    })?;
    sizes::each(tx, |repository, sizes| {
        tables.sizes.insert(repository, sizes);
        Ok(Scan::Continue)
    })?;
    sizes::each_cached(tx, |cached, sizes| {
        tables.cached_sizes.insert(cached, sizes);
        Ok(())
    })?;
    blobs::each_damaged(tx, |digest, record| {
        tables.damaged.insert(digest, record.size);
        Ok(())
    })?;
    for (name, id) in repositories::list(tx, None, usize::MAX)? {
        tables.names.insert(id, name.to_string());
    }
    blobs::each(tx, |digest, record| {
        tables.blobs.insert(digest, record.size);
        Ok(())
    })?;
    blobs::each_link(tx, |repository, digest, link| {
        tables.links.insert((repository, digest));
        tables.due.insert((repository, digest), link.due_at);
        Ok(())
    })?;
    blobs::each_by_blob(tx, |digest, repository| {
        tables.links_by_blob.insert((repository, digest));
        Ok(())
    })?;
    manifests::each_by_digest(tx, |digest, repository| {
        tables.repositories_by_manifest.insert((repository, digest));
        Ok(())
    })?;
    signatures::each_manifest(tx, |repository, manifest| {
        tables.signatures.insert((repository, manifest));
        Ok(())
    })?;
    manifests::each(tx, |repository, digest, record| {
        tables.due_manifests.insert((repository, digest), record.due_at);
        tables.manifests.insert((repository, digest), record);
        Ok(())
    })?;
    manifests::each_reference(tx, |repository, child, parent, kind| {
        tables.references.insert((repository, child, parent), kind);
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
    blobs::each_alias(tx, |alias, canonical| {
        tables.aliases.insert((canonical, alias));
        Ok(())
    })?;
    blobs::each_alias_by_digest(tx, |canonical, alias| {
        tables.aliases_by_digest.insert((canonical, alias));
        Ok(())
    })?;
    Ok(tables)
}

fn check_links(tables: &Tables, report: &mut VerifyReport) {
    for (repository, digest) in &tables.links {
        if !tables.names.contains_key(repository) && !tables.deletions.contains_key(repository) {
            report.problem(format!("the blob {digest} is linked into a repository that doesn't exist"));
        }
        if tables.damaged.contains_key(digest) {
            let name = tables.name(*repository);
            report
                .problem(format!("the blob {digest} of {name} is damaged and in quarantine; push it again"));
        } else if !tables.blobs.contains_key(digest) {
            report.problem(format!("{} links the unknown blob {digest}", tables.name(*repository)));
        }
    }
    for (canonical, alias) in tables.aliases.symmetric_difference(&tables.aliases_by_digest) {
        let fix = Fix::AliasIndex(*alias, *canonical);
        report.fixable(fix, format!("that {canonical} is also {alias}, and its index, disagree"));
    }
    let revisions: BTreeSet<&Digest> = tables.manifests.keys().map(|(_, digest)| digest).collect();
    for (canonical, alias) in &tables.aliases {
        let is_there = tables.blobs.contains_key(canonical)
            || tables.damaged.contains_key(canonical)
            || revisions.contains(canonical);
        if !is_there {
            report.problem(format!("{alias} stands for {canonical}, which is not there"));
        }
    }
    for (repository, digest) in tables.links.symmetric_difference(&tables.links_by_blob) {
        let name = tables.name(*repository);
        let fix = Fix::LinkIndex(*repository, *digest);
        report.fixable(fix, format!("the link of {digest} in {name} and its index disagree"));
    }
    let manifests: BTreeSet<_> = tables.manifests.keys().copied().collect();
    for (repository, digest) in manifests.symmetric_difference(&tables.repositories_by_manifest) {
        let name = tables.name(*repository);
        let fix = Fix::ManifestIndex(*repository, *digest);
        report.fixable(fix, format!("the manifest {digest} of {name} and its index disagree"));
    }
}

/// Holds signatures against the manifests that they are of: with [`Depth::Full`] each is verified.
fn check_signatures(
    tx: &impl Read,
    tables: &Tables,
    depth: Depth,
    report: &mut VerifyReport,
) -> Result<(), Error> {
    let is_signed = |record: &ManifestRecord| record.media_type == MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED;
    let signed = tables.manifests.iter().filter(|(_, record)| is_signed(record)).map(|(place, _)| *place);
    let places: BTreeSet<_> = signed.chain(tables.signatures.iter().copied()).collect();
    for (repository, manifest) in &places {
        let name = tables.name(*repository);
        match tables.manifests.get(&(*repository, *manifest)) {
            None if tables.is_ending(*repository) => continue,
            None => {
                report.problem(format!("signatures are of {manifest}, which {name} doesn't have"));
                continue;
            }
            Some(record) if !is_signed(record) => {
                let media_type = &record.media_type;
                report.problem(format!("signatures are of {manifest} of {name}, which is {media_type}"));
            }
            Some(_) => {}
        }
        match super::signatures::merged(tx, *repository, manifest) {
            Ok(Some(merged)) if depth == Depth::Full => {
                if let Err(error) = SignedManifest::parse(&merged.document) {
                    report.problem(format!("the signatures of {manifest} of {name}: {error}"));
                }
            }
            Ok(_) => {}
            Err(error @ metadata::Error::Damaged { .. }) => report.problem(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn check_manifests(
    tx: &impl Read,
    policy: &Policy,
    tables: &Tables,
    report: &mut VerifyReport,
) -> Result<(), Error> {
    let mut expected_references = BTreeSet::new();
    let mut expected_referrers = BTreeSet::new();
    for ((repository, digest), record) in &tables.manifests {
        if tables.is_ending(*repository) {
            continue;
        }
        let name = tables.name(*repository);
        let Some(payload) = manifests::payload(tx, digest, <[u8]>::to_vec)? else {
            report.problem(format!("the payload of the manifest {digest} of {name} is missing"));
            continue;
        };
        if Digest::of(DigestAlgorithm::CANONICAL, &payload) != *digest || payload.len() as u64 != record.size
        {
            report.problem(format!("the payload of the manifest {digest} of {name} is damaged"));
            continue;
        }
        for alias in tables.aliases_of(digest) {
            if Digest::of(alias.algorithm(), &payload) != alias {
                report
                    .problem(format!("the manifest {digest} of {name} is known as {alias}, which it is not"));
            }
        }
        let Ok(manifest) = Manifest::parse(&record.media_type, &payload) else {
            report.problem(format!("the manifest {digest} of {name} can't be read as {}", record.media_type));
            continue;
        };
        for child in &manifest.children {
            let named = child.descriptor.digest;
            let key = blobs::canonical(tx, &named)?.unwrap_or(named);
            let present = tables.manifests.contains_key(&(*repository, key))
                || tables.links.contains(&(*repository, key));
            let mut kind = None;
            for by in [named, key] {
                expected_references.insert((*repository, by, *digest));
                let reference = tables.references.get(&(*repository, by, *digest)).copied();
                kind = kind.max(reference);
                if present && reference == Some(manifests::Reference::Misses) {
                    let problem =
                        format!("the manifest {digest} of {name} names {named}, and doesn't keep it");
                    report.fixable(Fix::Reference(*repository, by, *digest), problem);
                }
            }
            let may_miss = !child.is_distributable()
                || repository.is_cached()
                || policy.allow_sparse_indexes
                || matches!(kind, Some(manifests::Reference::Lists | manifests::Reference::Misses));
            if !present && !may_miss {
                report.problem(format!("the manifest {digest} of {name} names {named}, which is not there"));
            }
            if kind.is_none() {
                let fix = Fix::Reference(*repository, key, *digest);
                report.fixable(
                    fix,
                    format!("that the manifest {digest} of {name} names {named} is not indexed"),
                );
            }
        }
        if let Some(subject) = &record.subject {
            expected_referrers.insert((*repository, *subject, *digest));
        }
    }
    for (repository, child, parent) in tables.references.keys() {
        if expected_references.contains(&(*repository, *child, *parent)) || tables.is_ending(*repository) {
            continue;
        }
        let name = tables.name(*repository);
        let fix = Fix::Reference(*repository, *child, *parent);
        report.fixable(fix, format!("the index says without reason that {parent} of {name} names {child}"));
    }
    for (repository, subject, referrer) in tables.referrers.symmetric_difference(&expected_referrers) {
        if tables.is_ending(*repository) {
            continue;
        }
        let name = tables.name(*repository);
        let fix = Fix::Referrer(*repository, *subject, *referrer);
        report.fixable(fix, format!("the referrers of {subject} of {name} are wrong about {referrer}"));
    }
    Ok(())
}

fn check_tags(tables: &Tables, report: &mut VerifyReport) {
    for ((repository, tag), digest) in &tables.tags {
        let name = tables.name(*repository);
        if !tables.manifests.contains_key(&(*repository, *digest)) && !tables.is_ending(*repository) {
            report.problem(format!("the tag {name}:{tag} points to {digest}, which is not there"));
        }
        if !tables.tags_by_manifest.contains(&(*repository, *digest, tag.clone())) {
            let problem = format!("the tag {name}:{tag} is not indexed by its manifest");
            report.tag(*repository, digest, tag, problem);
        }
    }
    for (repository, digest, tag) in &tables.tags_by_manifest {
        if tables.tags.get(&(*repository, tag.clone())) != Some(digest) {
            let name = tables.name(*repository);
            let problem = format!("the index says without reason that {name}:{tag} points to {digest}");
            report.tag(*repository, digest, tag, problem);
        }
    }
}

/// Checks that identifiers say what is cached of whom, and that freshness is known of what is there.
fn check_cached(tx: &impl Read, tables: &Tables, report: &mut VerifyReport) -> Result<(), Error> {
    repositories::each(tx, |id, record| {
        let folder = id.upstream().map(|upstream| tables.upstreams.get(&upstream).map(String::as_str));
        if folder != record.upstream.as_deref().map(Some) {
            let (name, upstream) = (&record.name, record.upstream.as_deref().unwrap_or("nobody"));
            report.problem(format!("the repository {name} caches {upstream}, and its number says otherwise"));
        }
        Ok(Scan::Continue)
    })?;
    for (repository, tag) in &tables.freshness {
        let has_tag = tag.is_empty() || tables.tags.contains_key(&(*repository, tag.clone()));
        if (has_tag && repository.is_cached()) || tables.is_ending(*repository) {
            continue;
        }
        let name = tables.name(*repository);
        let problem = format!("when the upstream of {name}:{tag} was asked is known without reason");
        match tag.parse().map(Some).or(if tag.is_empty() { Ok(None) } else { Err(()) }) {
            Ok(tag) => report.fixable(Fix::Freshness(*repository, tag), problem),
            Err(()) => report.problem(problem),
        }
    }
    Ok(())
}

impl Tables {
    /// The digests of other algorithms under which the content is known.
    fn aliases_of(&self, canonical: &Digest) -> Vec<Digest> {
        // Digests order by algorithm, of which the canonical one is the first.
        let known = self.aliases_by_digest.range((*canonical, blobs::Alias::Digest(*canonical))..);
        let digests = known.take_while(|(of, _)| of == canonical).filter_map(|(_, alias)| match alias {
            blobs::Alias::Digest(digest) => Some(*digest),
            blobs::Alias::TarSum(..) => None,
        });
        digests.collect()
    }

    fn name(&self, repository: RepositoryId) -> &str {
        let nameless = if self.deletions.contains_key(&repository) {
            "what was deleted"
        } else {
            "a repository that doesn't exist"
        };
        self.names.get(&repository).map_or(nameless, String::as_str)
    }

    /// Whether the repository can't come back, and may be taken apart already.
    fn is_ending(&self, repository: RepositoryId) -> bool {
        self.deletions.get(&repository) == Some(&false)
    }
}
