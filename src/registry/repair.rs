//! The repair of what can be derived: indexes, due times and counters, from the rows that they are about.
//!
//! The check finds what is wrong, and says of each problem that has one what would mend it. All of it is mended in one
//! transaction, in which the check runs again until it finds nothing more: writes wait meanwhile.

use std::sync::Arc;

use super::verify::{Depth, check_rows};
use super::{Error, Inner, referrer_service};
use crate::clock::Timestamp;
use crate::metadata::blobs::Alias;
use crate::metadata::candidates::Candidate;
use crate::metadata::manifests::Reference;
use crate::metadata::repositories::RepositoryId;
use crate::metadata::sizes::{Counters, SizeRecord};
use crate::metadata::{self, Read, WriteTx, blobs, freshness, manifests, sizes, tags};
use crate::oci::{ChildRole, Digest, Manifest, ManifestKind, Tag};

/// How often the rows are checked again. Mending references may change due times, and these candidates.
const ROUNDS: usize = 5;

/// What mends a problem. Each brings rows in line with others, whatever these say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fix {
    /// `links_by_blob`.
    LinkIndex(RepositoryId, Digest),
    /// `repositories_by_manifest`.
    ManifestIndex(RepositoryId, Digest),
    /// `tags_by_manifest`.
    TagIndex(RepositoryId, Digest, Tag),
    /// `aliases_by_digest`.
    AliasIndex(Alias, Digest),
    /// `references_by_child`: repository, child, parent.
    Reference(RepositoryId, Digest, Digest),
    /// `referrers_by_subject`: repository, subject, referrer.
    Referrer(RepositoryId, Digest, Digest),
    /// The due time of a blob's link.
    Link(RepositoryId, Digest),
    /// The due time of a manifest.
    Manifest(RepositoryId, Digest),
    /// `untagged`.
    Untagged(RepositoryId, Digest),
    /// `candidates`.
    Candidate(u64, Candidate),
    /// `repository_sizes`.
    Sizes(Counters, SizeRecord),
    /// `freshness`: repository, tag.
    Freshness(RepositoryId, Option<Tag>),
}

/// Mends what can be derived; returns what was wrong. Blocks.
pub(super) fn rows(inner: &Arc<Inner>) -> Result<Vec<String>, Error> {
    let worker = Arc::clone(inner);
    inner.metadata.write_blocking(move |tx| mend(tx, &worker))
}

fn mend(tx: &WriteTx<'_>, inner: &Inner) -> Result<Vec<String>, Error> {
    let now = inner.clock.now();
    let mut mended = Vec::new();
    for _ in 0..ROUNDS {
        let mut report = check_rows(tx, &inner.policy, Depth::Quick, now.millis())?;
        let fixes = std::mem::take(&mut report.fixes);
        // Counters are of rows that other fixes may still change.
        let is_counter = |fix: &Fix| matches!(fix, Fix::Sizes(..));
        let only_counters = fixes.iter().all(|(fix, _)| is_counter(fix));
        if fixes.is_empty() {
            break;
        }
        for (fix, problem) in fixes.into_iter().filter(|(fix, _)| only_counters || !is_counter(fix)) {
            apply(tx, inner, now, &fix)?;
            mended.push(problem);
        }
    }
    Ok(mended)
}

fn apply(tx: &WriteTx<'_>, inner: &Inner, now: Timestamp, fix: &Fix) -> Result<(), metadata::Error> {
    match fix {
        Fix::LinkIndex(repository, digest) => blobs::mend_link(tx, *repository, digest),
        Fix::ManifestIndex(repository, digest) => manifests::mend(tx, *repository, digest),
        Fix::TagIndex(repository, digest, tag) => tags::mend(tx, *repository, digest, tag),
        Fix::AliasIndex(alias, canonical) => blobs::mend_alias(tx, *alias, canonical),
        Fix::Reference(repository, child, parent) => match role(tx, *repository, child, parent)? {
            Some(kind) => manifests::insert_reference(tx, *repository, child, parent, kind),
            None => manifests::remove_reference(tx, *repository, child, parent),
        },
        Fix::Referrer(repository, subject, referrer) => {
            let record = manifests::get(tx, *repository, referrer)?;
            let record = record.filter(|record| record.subject == Some(*subject));
            let manifest = read(tx, *repository, referrer)?;
            match record.zip(manifest) {
                Some((record, manifest)) => {
                    let row = referrer_service::render(&record, &manifest);
                    manifests::insert_referrer(tx, *repository, subject, referrer, &row)
                }
                None => manifests::remove_referrer(tx, *repository, subject, referrer),
            }
        }
        Fix::Link(repository, digest) => {
            blobs::settle_link(tx, *repository, digest, inner.lease_end(*repository, now))
        }
        Fix::Manifest(repository, digest) => {
            manifests::settle(tx, *repository, digest, now.millis(), inner.lease_end(*repository, now))
        }
        Fix::Untagged(repository, digest) => manifests::mend_untagged(tx, *repository, digest, now.millis()),
        Fix::Candidate(due, candidate) => blobs::mend_candidate(tx, *due, candidate),
        Fix::Sizes(counters, sizes) => sizes::repair(tx, *counters, sizes),
        Fix::Freshness(repository, tag) => freshness::mend(tx, *repository, tag.as_ref()),
    }
}

/// A manifest of a repository, where its bytes can be understood.
fn read(
    tx: &impl Read,
    repository: RepositoryId,
    digest: &Digest,
) -> Result<Option<Manifest>, metadata::Error> {
    let Some(record) = manifests::get(tx, repository, digest)? else { return Ok(None) };
    let parsed = manifests::payload(tx, digest, |payload| Manifest::parse(&record.media_type, payload).ok())?;
    Ok(parsed.flatten())
}

/// How `parent` names `child`, if it does. What isn't there is missed, as after a deletion by force; a list of referrers
/// under its tag lists everything.
fn role(
    tx: &impl Read,
    repository: RepositoryId,
    child: &Digest,
    parent: &Digest,
) -> Result<Option<Reference>, metadata::Error> {
    let Some(manifest) = read(tx, repository, parent)? else { return Ok(None) };
    let mut named = None;
    for candidate in &manifest.children {
        let digest = candidate.descriptor.digest;
        if digest == *child || blobs::canonical(tx, &digest)? == Some(*child) {
            named = Some(candidate.role);
        }
    }
    let Some(role) = named else { return Ok(None) };
    let tags = tags::of_manifest(tx, repository, parent)?;
    let is_list =
        manifest.kind == ManifestKind::Index && !tags.is_empty() && tags.iter().all(Tag::lists_referrers);
    let child = blobs::canonical(tx, child)?.unwrap_or(*child);
    let is_there =
        manifests::exists(tx, repository, &child)? || blobs::link(tx, repository, &child)?.is_some();
    Ok(Some(match role {
        ChildRole::Manifest if is_list => Reference::Lists,
        ChildRole::Manifest | ChildRole::Config | ChildRole::Layer if is_there => Reference::Needs,
        ChildRole::Manifest | ChildRole::Config | ChildRole::Layer => Reference::Misses,
    }))
}
