//! What refers to a manifest: the manifests that name it as their subject, and those that a client has listed under the
//! tag for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::Error;
use super::repository::Scope;
use crate::metadata::manifests::{self, ManifestRecord, ReferrerRecord};
use crate::metadata::repositories::RepositoryId;
use crate::metadata::{self, Scan, blobs, tags};
use crate::oci::{Digest, Manifest, ManifestKind, Tag};

/// The most JSON that one page holds. containerd reads no index above 4 MiB, and the rest of it needs a little room.
const PAGE_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;

/// How many rows one page looks at, so that a filter that matches nothing still answers soon.
const PAGE_ROWS: usize = 10_000;

/// The longest list under a tag that is read, since containerd reads no longer one either, and how much one page reads of
/// the manifests that it names.
const LIST_BYTES: u64 = 4 * 1024 * 1024;

/// A page of referrers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReferrerPage {
    /// The descriptors, each as JSON, in the order of the referrers' digests.
    pub descriptors: Vec<Vec<u8>>,
    /// Where the next page begins, where there is one: to be handed back as it is.
    pub next: Option<String>,
}

/// The referrer service of one repository.
#[derive(Debug, Clone)]
pub struct ReferrerService {
    scope: Scope,
}

impl ReferrerService {
    pub(super) fn new(scope: Scope) -> ReferrerService {
        ReferrerService { scope }
    }

    /// A page of the referrers of `subject`, which need not exist, behind `after`; only those of `artifact_type` where one
    /// is given. The page's JSON stays below 4 MiB. An unknown repository has no referrers.
    pub fn list(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&str>,
    ) -> Result<ReferrerPage, Error> {
        let after = after.and_then(Cursor::parse);
        let page = self.scope.list(|tx, id| {
            let names = names_of(tx, subject)?;
            let mut page = PageBuilder::default();
            for name in &names {
                let behind = match &after {
                    Some(Cursor::Listed(_)) => continue,
                    Some(Cursor::Referrer { subject, .. }) if name < subject => continue,
                    Some(Cursor::Referrer { subject, referrer }) if name == subject => Some(referrer),
                    Some(Cursor::Referrer { .. }) | None => None,
                };
                manifests::each_referrer(tx, id, name, behind, |referrer, record| {
                    Ok(page.row(Cursor::Referrer { subject: *name, referrer }, record, artifact_type))
                })?;
                if page.page.next.is_some() {
                    return Ok(page.page);
                }
            }
            let behind = match &after {
                Some(Cursor::Listed(digest)) => Some(digest),
                Some(Cursor::Referrer { .. }) | None => None,
            };
            listed(tx, id, &names, behind, &mut page, artifact_type)?;
            Ok(page.page)
        })?;
        Ok(page.unwrap_or_default())
    }
}

/// Adds the referrers that clients of the time before the referrers API have listed under a tag for the subject, and that
/// name no subject themselves: those that do are found without the list. What is no longer there is left out, and so is a
/// list that no client would read.
fn listed(
    tx: &impl metadata::Read,
    id: RepositoryId,
    names: &[Digest],
    behind: Option<&Digest>,
    page: &mut PageBuilder,
    artifact_type: Option<&str>,
) -> Result<(), metadata::Error> {
    let mut entries = BTreeSet::new();
    for name in names {
        let Some(tag) = tags::get(tx, id, &Tag::referrers_of(name))? else { continue };
        let Some(record) = manifests::get(tx, id, &tag.digest)? else { continue };
        if ManifestKind::of(&record.media_type) != ManifestKind::Index || record.size > LIST_BYTES {
            continue;
        }
        let list = manifests::payload(tx, &tag.digest, |bytes| Manifest::parse(&record.media_type, bytes))?;
        let Some(Ok(list)) = list else { continue };
        for child in list.children {
            entries.extend(blobs::canonical(tx, &child.descriptor.digest)?);
        }
    }
    let mut read = 0;
    for entry in entries {
        if behind.is_some_and(|behind| entry <= *behind) || names.contains(&entry) {
            continue;
        }
        let Some(record) = manifests::get(tx, id, &entry)? else { continue };
        if record.subject.is_some() {
            continue;
        }
        let manifest = manifests::payload(tx, &entry, |bytes| Manifest::parse(&record.media_type, bytes))?;
        let Some(Ok(manifest)) = manifest else { continue };
        read += record.size;
        if page.row(Cursor::Listed(entry), render(&record, &manifest), artifact_type) == Scan::Stop {
            break;
        }
        if read > LIST_BYTES {
            page.stop();
            break;
        }
    }
    Ok(())
}

/// All the digests by which a referrer may name the subject, in order.
fn names_of(tx: &impl metadata::Read, subject: &Digest) -> Result<Vec<Digest>, metadata::Error> {
    let mut names = vec![*subject];
    if let Some(canonical) = blobs::canonical(tx, subject)? {
        names.push(canonical);
        names.extend(blobs::aliases(tx, &canonical)?);
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// A row that was looked at, by which the next page finds its begin.
#[derive(Debug, Clone, Copy)]
enum Cursor {
    /// A referrer, and how it names its subject.
    Referrer { subject: Digest, referrer: Digest },
    /// A manifest that only a list under a tag names.
    Listed(Digest),
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        match text.split_once(',')? {
            ("listed", digest) => Some(Cursor::Listed(digest.parse().ok()?)),
            (subject, referrer) => {
                Some(Cursor::Referrer { subject: subject.parse().ok()?, referrer: referrer.parse().ok()? })
            }
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cursor::Referrer { subject, referrer } => write!(f, "{subject},{referrer}"),
            Cursor::Listed(digest) => write!(f, "listed,{digest}"),
        }
    }
}

/// A page in the making.
#[derive(Default)]
struct PageBuilder {
    page: ReferrerPage,
    bytes: usize,
    rows: usize,
    /// The last row that was looked at.
    last: Option<Cursor>,
}

impl PageBuilder {
    fn row(&mut self, row: Cursor, record: ReferrerRecord, wanted: Option<&str>) -> Scan {
        let matches = wanted.is_none_or(|wanted| record.artifact_type.as_deref() == Some(wanted));
        let bytes = if matches { record.descriptor.len() + 1 } else { 0 };
        let full = self.bytes + bytes > PAGE_BYTES && !self.page.descriptors.is_empty();
        if full || self.rows == PAGE_ROWS {
            self.stop();
            return Scan::Stop;
        }
        self.rows += 1;
        self.bytes += bytes;
        self.last = Some(row);
        if matches {
            self.page.descriptors.push(record.descriptor);
        }
        Scan::Continue
    }

    /// The next page goes on behind the last row.
    fn stop(&mut self) {
        self.page.next = self.last.map(|last| last.to_string());
    }
}

/// A referrer's descriptor as a listing shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rendered<'m> {
    media_type: &'m str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'m str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'m BTreeMap<String, String>,
}

/// The row of a referrer. Annotations that would not fit on a page are left out.
pub(super) fn render(record: &ManifestRecord, manifest: &Manifest) -> ReferrerRecord {
    let none = BTreeMap::new();
    let json = |annotations| {
        serde_json::to_vec(&Rendered {
            media_type: record.media_type.as_str(),
            digest: record.pushed_as.to_string(),
            size: record.size,
            artifact_type: manifest.artifact_type.as_deref(),
            annotations,
        })
        .expect("strings and numbers always serialise")
    };
    let mut descriptor = json(&manifest.annotations);
    if descriptor.len() > PAGE_BYTES {
        descriptor = json(&none);
    }
    ReferrerRecord { artifact_type: manifest.artifact_type.clone(), descriptor }
}
