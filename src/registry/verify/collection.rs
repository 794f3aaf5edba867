//! The check that what may go is known as such, and nothing else, and that the counters are right.

use std::collections::{BTreeMap, BTreeSet};

use super::super::repair::Fix;
use super::{Tables, VerifyReport};
use crate::metadata::blobs::Alias;
use crate::metadata::candidates::Candidate;
use crate::metadata::manifests::Reference;
use crate::metadata::repositories::{Cached, RepositoryId};
use crate::metadata::sizes::{Counters, SizeRecord};
use crate::oci::Digest;

pub(super) fn check(tables: &Tables, report: &mut VerifyReport) {
    let needed = needed(tables);
    check_links(tables, &needed, report);
    check_manifests(tables, &needed, report);
    check_sizes(tables, report);
}

/// What manifests of each repository need, by its canonical digest.
fn needed(tables: &Tables) -> BTreeSet<(RepositoryId, Digest)> {
    let known: BTreeMap<&Digest, &Digest> = tables
        .aliases
        .iter()
        .filter_map(|(canonical, alias)| match alias {
            Alias::Digest(digest) => Some((digest, canonical)),
            Alias::TarSum(..) => None,
        })
        .collect();
    let canonical = |child: &Digest| known.get(child).map_or(*child, |canonical| **canonical);
    let needs = tables.references.iter().filter(|(_, kind)| **kind == Reference::Needs);
    needs.map(|((repository, child, _), _)| (*repository, canonical(child))).collect()
}

fn check_links(tables: &Tables, needed: &BTreeSet<(RepositoryId, Digest)>, report: &mut VerifyReport) {
    for ((repository, digest), due) in &tables.due {
        let name = tables.name(*repository);
        if tables.is_ending(*repository) {
            continue;
        }
        if repository.is_deletion() {
            if due.is_some() {
                report.problem(format!("the blob {digest} may be collected, and can be undeleted"));
            }
            continue;
        }
        match (needed.contains(&(*repository, *digest)), due) {
            (true, Some(_)) => {
                let problem =
                    format!("the blob {digest} of {name} may be collected, and a manifest needs it");
                report.fixable(Fix::Link(*repository, *digest), problem);
            }
            (false, None) => {
                let problem = format!("the blob {digest} of {name} is never collected, and nothing needs it");
                report.fixable(Fix::Link(*repository, *digest), problem);
            }
            (false, Some(due)) => {
                let candidate = Candidate::Link { repository: *repository, digest: *digest };
                if !tables.candidates.contains(&(*due, candidate)) {
                    let problem = format!("the blob {digest} of {name} is no candidate for collection");
                    report.fixable(Fix::Candidate(*due, candidate), problem);
                }
            }
            (true, None) => {}
        }
    }
    let linked: BTreeSet<&Digest> = tables.due.keys().map(|(_, digest)| digest).collect();
    let candidates: BTreeSet<&Candidate> = tables.candidates.iter().map(|(_, candidate)| candidate).collect();
    for digest in tables.blobs.keys().chain(tables.damaged.keys()) {
        if !linked.contains(digest) && !candidates.contains(&Candidate::Blob { digest: *digest }) {
            let fix = Fix::Candidate(0, Candidate::Blob { digest: *digest });
            report.fixable(fix, format!("the blob {digest} is never collected, and no repository has it"));
        }
    }
    for (due, candidate) in &tables.candidates {
        let Candidate::Link { repository, digest } = candidate else { continue };
        if tables.due.get(&(*repository, *digest)) != Some(&Some(*due)) {
            let name = tables.name(*repository);
            let fix = Fix::Candidate(*due, *candidate);
            report.fixable(fix, format!("{digest} of {name} is a candidate for collection without reason"));
        }
    }
}

fn check_manifests(tables: &Tables, needed: &BTreeSet<(RepositoryId, Digest)>, report: &mut VerifyReport) {
    let tagged: BTreeSet<(RepositoryId, Digest)> =
        tables.tags.iter().map(|((repository, _), digest)| (*repository, *digest)).collect();
    for ((repository, digest), due) in &tables.due_manifests {
        if repository.is_deletion() || tables.is_ending(*repository) {
            continue;
        }
        let key = (*repository, *digest);
        let name = tables.name(*repository);
        let follows = tables.manifests.get(&key).is_some_and(|record| record.subject.is_some());
        let is_named = follows || tagged.contains(&key) || needed.contains(&key);
        if is_named == due.is_some() {
            let fix = Fix::Manifest(*repository, *digest);
            report.fixable(fix, format!("the manifest {digest} of {name} has the wrong due time"));
        }
        if (due.is_some() && !repository.is_cached()) != tables.untagged.contains(&key) {
            let fix = Fix::Untagged(*repository, *digest);
            let problem =
                format!("that the manifest {digest} of {name} is untagged, and its index, disagree");
            report.fixable(fix, problem);
        }
    }
    for (repository, digest) in &tables.untagged {
        if !tables.due_manifests.contains_key(&(*repository, *digest)) {
            let name = tables.name(*repository);
            let problem = format!("the manifest {digest} is listed as untagged, and {name} doesn't have it");
            report.fixable(Fix::Untagged(*repository, *digest), problem);
        }
    }
}

/// Counts again.
fn check_sizes(tables: &Tables, report: &mut VerifyReport) {
    let blob_size = |digest| tables.blobs.get(digest).or_else(|| tables.damaged.get(digest)).copied();
    let mut payloads = BTreeMap::new();
    let mut counted = BTreeMap::<RepositoryId, SizeRecord>::new();
    let mut holders = BTreeMap::<(bool, Digest), Vec<RepositoryId>>::new();
    for (repository, digest) in tables.links.iter().filter(|(id, _)| !id.is_deletion()) {
        let sizes = counted.entry(*repository).or_default();
        sizes.blobs += 1;
        sizes.blob_bytes += blob_size(digest).unwrap_or_default();
        holders.entry((true, *digest)).or_default().push(*repository);
    }
    for ((repository, digest), record) in &tables.manifests {
        payloads.insert(*digest, record.size);
        if !repository.is_deletion() {
            let sizes = counted.entry(*repository).or_default();
            sizes.manifests += 1;
            sizes.manifest_bytes += record.size;
            holders.entry((false, *digest)).or_default().push(*repository);
        }
    }
    for (repository, _) in tables.tags.keys().filter(|(id, _)| !id.is_deletion()) {
        counted.entry(*repository).or_default().tags += 1;
    }
    for ((is_blob, digest), holders) in &holders {
        if let [only] = holders[..] {
            let size = if *is_blob { blob_size(digest) } else { payloads.get(digest).copied() };
            counted.entry(only).or_default().unique_bytes += size.unwrap_or_default();
        }
    }
    let repositories: BTreeSet<_> = counted.keys().chain(tables.sizes.keys()).copied().collect();
    for repository in repositories {
        let expected = counted.get(&repository).copied().unwrap_or_default();
        let found = tables.sizes.get(&repository).copied().unwrap_or_default();
        if expected != found {
            let name = tables.name(repository);
            let problem = format!("the counters of {name} are {found:?}, and should be {expected:?}");
            report.fixable(Fix::Sizes(Counters::Of(repository), expected), problem);
        }
    }
    let expected = SizeRecord {
        blobs: (tables.blobs.len() + tables.damaged.len()) as u64,
        blob_bytes: tables.blobs.values().chain(tables.damaged.values()).sum(),
        manifests: payloads.len() as u64,
        manifest_bytes: payloads.values().sum(),
        ..SizeRecord::default()
    };
    if tables.store != expected {
        let problem = format!("the counters of the store are {:?}, and should be {expected:?}", tables.store);
        report.fixable(Fix::Sizes(Counters::Store, expected), problem);
    }
    check_cached_sizes(tables, &payloads, report);
}

/// Counts what cached repositories have, once for each upstream, and once for all together.
fn check_cached_sizes(tables: &Tables, payloads: &BTreeMap<Digest, u64>, report: &mut VerifyReport) {
    let totals = |repository: &RepositoryId| {
        let upstream = repository.upstream();
        upstream.into_iter().flat_map(|upstream| [Cached::Of(upstream), Cached::All])
    };
    let mut counted = BTreeMap::<Cached, SizeRecord>::new();
    let mut seen = BTreeSet::new();
    for (repository, digest) in &tables.links {
        for cached in totals(repository).filter(|cached| seen.insert((*cached, true, *digest))) {
            let sizes = counted.entry(cached).or_default();
            let size = tables.blobs.get(digest).or_else(|| tables.damaged.get(digest)).copied();
            sizes.blobs += 1;
            sizes.blob_bytes += size.unwrap_or_default();
        }
    }
    for (repository, digest) in tables.manifests.keys() {
        for cached in totals(repository).filter(|cached| seen.insert((*cached, false, *digest))) {
            let sizes = counted.entry(cached).or_default();
            sizes.manifests += 1;
            sizes.manifest_bytes += payloads.get(digest).copied().unwrap_or_default();
        }
    }
    for (repository, _) in tables.tags.keys() {
        for cached in totals(repository) {
            counted.entry(cached).or_default().tags += 1;
        }
    }
    let all: BTreeSet<_> = counted.keys().chain(tables.cached_sizes.keys()).copied().collect();
    for cached in all {
        let expected = counted.get(&cached).copied().unwrap_or_default();
        let found = tables.cached_sizes.get(&cached).copied().unwrap_or_default();
        if expected != found {
            let of = match cached {
                Cached::All => "the whole cache",
                Cached::Of(upstream) => tables.upstreams.get(&upstream).map_or("an upstream", String::as_str),
            };
            let problem = format!("the counters of {of} are {found:?}, and should be {expected:?}");
            report.fixable(Fix::Sizes(Counters::OfCached(cached), expected), problem);
        }
    }
}
