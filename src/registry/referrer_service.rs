//! What refers to a manifest: the manifests that name it as their subject.

use serde::Serialize;
use std::collections::BTreeMap;

use super::Error;
use super::repository::Scope;
use crate::metadata::manifests::{self, ManifestRecord, ReferrerRecord};
use crate::metadata::{self, Scan, blobs};
use crate::oci::{Digest, Manifest};

/// The most JSON that one page holds. containerd reads no index above 4 MiB, and the rest of it needs a little room.
const PAGE_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;

/// How many rows one page looks at, so that a filter that matches nothing still answers soon.
const PAGE_ROWS: usize = 10_000;

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
        let page = self.scope.read(|tx, id| {
            let mut page = PageBuilder::default();
            for name in names_of(tx, subject)? {
                let behind = match &after {
                    Some(after) if name < after.subject => continue,
                    Some(after) if name == after.subject => Some(&after.referrer),
                    _ => None,
                };
                manifests::each_referrer(tx, id, &name, behind, |referrer, record| {
                    Ok(page.row(name, referrer, record, artifact_type))
                })?;
                if page.page.next.is_some() {
                    break;
                }
            }
            Ok(page.page)
        })?;
        Ok(page.unwrap_or_default())
    }
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

/// The last row that was looked at.
struct Cursor {
    subject: Digest,
    referrer: Digest,
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let (subject, referrer) = text.split_once(',')?;
        Some(Cursor { subject: subject.parse().ok()?, referrer: referrer.parse().ok()? })
    }
}

/// A page in the making.
#[derive(Default)]
struct PageBuilder {
    page: ReferrerPage,
    bytes: usize,
    rows: usize,
    /// The last row that was looked at.
    last: Option<(Digest, Digest)>,
}

impl PageBuilder {
    fn row(
        &mut self,
        subject: Digest,
        referrer: Digest,
        record: ReferrerRecord,
        wanted: Option<&str>,
    ) -> Scan {
        let matches = wanted.is_none_or(|wanted| record.artifact_type.as_deref() == Some(wanted));
        let bytes = if matches { record.descriptor.len() + 1 } else { 0 };
        let full = self.bytes + bytes > PAGE_BYTES && !self.page.descriptors.is_empty();
        if full || self.rows == PAGE_ROWS {
            self.page.next = self.last.map(|(subject, referrer)| format!("{subject},{referrer}"));
            return Scan::Stop;
        }
        self.rows += 1;
        self.bytes += bytes;
        self.last = Some((subject, referrer));
        if matches {
            self.page.descriptors.push(record.descriptor);
        }
        Scan::Continue
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
