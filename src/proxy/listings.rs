//! Lists of upstreams: tags, and what refers to a manifest.
//!
//! A list of tags is always the upstream's, but for when nobody answers. Lists of referrers are kept in memory for as long as
//! tags are believed; without the upstream, those are listed that are here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::monotonic;
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::registry::{Page, ReferrerPage};

use super::{CachedRepository, Error, Outcome, Source};

/// The most referrers that are taken of one manifest, the most bytes of all of them, and the most pages that they may come in.
const MOST_REFERRERS: usize = 10_000;
const MOST_BYTES: usize = 4 << 20;
const MOST_PAGES: usize = 100;

/// The most JSON that a page holds: containerd reads no index above 4 MiB.
const PAGE_BYTES: usize = MOST_BYTES - (64 << 10);

/// The memory for all lists.
const MEMORY: usize = 16 << 20;

/// Referrers of a manifest.
pub(super) type Referrers = Arc<[Referrer]>;

/// One of them, as the upstream describes it.
#[derive(Debug)]
pub(super) struct Referrer {
    descriptor: Box<RawValue>,
    artifact_type: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(rename = "digest")]
    _digest: Digest,
    artifact_type: Option<String>,
}

/// Lists that were fetched not long ago.
#[derive(Debug, Default)]
pub(super) struct ReferrerLists(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    lists: HashMap<(RepositoryName, Digest), (Instant, Referrers)>,
    bytes: usize,
}

fn bytes_of(list: &Referrers) -> usize {
    // A list of none takes room as well.
    256 + list.iter().map(|referrer| referrer.descriptor.get().len() + 64).sum::<usize>()
}

impl ReferrerLists {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list, and how old it is.
    fn get(&self, name: &RepositoryName, subject: &Digest) -> Option<(Duration, Referrers)> {
        let lists = self.lists();
        let (at, list) = lists.lists.get(&(name.clone(), *subject))?;
        Some((monotonic().saturating_duration_since(*at), list.clone()))
    }

    fn insert(&self, name: &RepositoryName, subject: &Digest, list: &Referrers) {
        let mut lists = self.lists();
        let bytes = bytes_of(list);
        if lists.bytes + bytes > MEMORY {
            *lists = Lists::default();
        }
        let entry = (monotonic(), list.clone());
        if let Some((_, former)) = lists.lists.insert((name.clone(), *subject), entry) {
            lists.bytes -= bytes_of(&former);
        }
        lists.bytes += bytes;
    }
}

impl CachedRepository {
    /// A page of the upstream's tags behind `after`; without the upstream, of those that are here.
    pub async fn tags(&self, after: Option<&str>, limit: usize) -> Result<(Page<Tag>, Outcome), Error> {
        if limit == 0 {
            return Ok((Page { items: Vec::new(), more: false }, Outcome::of(Source::Hit)));
        }
        if self.upstream.settings.is_offline {
            return Ok((self.stored().tags().list(after, limit)?, Outcome::of(Source::Hit)));
        }
        let last: Option<Tag> = after.and_then(|after| after.parse().ok());
        let question = self.upstream.client.list_tags(&self.path, last.as_ref(), limit);
        match self.ask("tags/list", question).await {
            Ok(found) => {
                let page = Page { more: !found.is_complete, items: found.tags };
                Ok((page, Outcome::of(Source::Miss)))
            }
            Err(error) if self.may_do_without(&error) && self.stored().exists()? => {
                let page = self.stored().tags().list(after, limit)?;
                Ok((page, without_upstream("these are the tags that are cached", &error)))
            }
            Err(error) => Err(error),
        }
    }

    /// A page of what refers to `subject`; without the upstream, of what is here and does.
    pub async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&str>,
    ) -> Result<(ReferrerPage, Outcome), Error> {
        let settings = &self.upstream.settings;
        let known = self.cache.referrer_lists().get(&self.name, subject);
        if let Some((_, list)) = known.as_ref().filter(|(age, _)| *age < settings.revalidate_after) {
            return Ok((page(list, artifact_type, after), Outcome::of(Source::Hit)));
        }
        if settings.is_offline {
            let stored = self.stored().referrers().list(subject, artifact_type, after)?;
            return Ok((stored, Outcome::of(Source::Hit)));
        }
        let (own, asked, key) = (self.clone(), *subject, (self.name.clone(), *subject));
        let fetch =
            self.cache.flights().referrers.join(key, || async move { own.all_referrers(&asked).await });
        let fetched = fetch.await.unwrap_or_else(|| Err(super::manifests::panicked()));
        match (fetched, known) {
            (Ok(list), _) => Ok((page(&list, artifact_type, after), Outcome::of(Source::Miss))),
            (Err(error), Some((_, list))) if self.may_do_without(&error) => {
                let outcome = without_upstream("this list may be out of date", &error);
                Ok((page(&list, artifact_type, after), outcome))
            }
            (Err(error), None) if self.may_do_without(&error) => {
                let stored = self.stored().referrers().list(subject, artifact_type, after)?;
                Ok((stored, without_upstream("this lists what is cached", &error)))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The whole list, by the API or under the tag that registries without it have it under. What isn't there has no referrers.
    async fn all_referrers(&self, subject: &Digest) -> Result<Referrers, Error> {
        let mut referrers = Vec::new();
        let (mut next, mut bytes) = (None, 0);
        for _ in 0..MOST_PAGES {
            let question = self.upstream.client.referrers(&self.path, subject, None, next.as_ref());
            let list = match self.upstream.ask(question).await {
                Ok(list) => list,
                Err(Error::NotFound { .. }) if referrers.is_empty() => {
                    self.tagged_referrers(subject, &mut referrers).await?;
                    break;
                }
                Err(error) => return Err(error),
            };
            bytes += list.index.len();
            self.add(&list.index, &mut referrers)?;
            next = list.next;
            if bytes > MOST_BYTES || referrers.len() > MOST_REFERRERS {
                return Err(self.too_many(subject));
            }
            if next.is_none() {
                break;
            }
        }
        if next.is_some() {
            return Err(self.too_many(subject));
        }
        let list: Referrers = referrers.into();
        self.cache.referrer_lists().insert(&self.name, subject, &list);
        Ok(list)
    }

    /// Adds those that are listed under the tag for the subject.
    async fn tagged_referrers(&self, subject: &Digest, referrers: &mut Vec<Referrer>) -> Result<(), Error> {
        let tag = Reference::Tag(Tag::referrers_of(subject));
        match self.manifest(&tag).await {
            Ok(_) => {}
            Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        match self.stored().manifests().get(&tag)? {
            Some((_, index)) => self.add(&index, referrers),
            None => Ok(()),
        }
    }

    fn add(&self, index: &[u8], referrers: &mut Vec<Referrer>) -> Result<(), Error> {
        let invalid =
            |_| Error::Invalid(format!("{} has sent a list of referrers that is none", self.host()));
        let index: Index = serde_json::from_slice(index).map_err(invalid)?;
        for descriptor in index.manifests {
            let Descriptor { artifact_type, .. } = serde_json::from_str(descriptor.get()).map_err(invalid)?;
            referrers.push(Referrer { descriptor, artifact_type });
        }
        Ok(())
    }

    fn too_many(&self, subject: &Digest) -> Error {
        Error::Invalid(format!("{} lists more referrers of {subject} than are taken", self.host()))
    }
}

fn without_upstream(what: &str, error: &Error) -> Outcome {
    Outcome { source: Source::Stale, warning: Some(format!("{what}: {error}")) }
}

/// The page of a list behind `after`.
fn page(list: &Referrers, artifact_type: Option<&str>, after: Option<&str>) -> ReferrerPage {
    let begin = after.and_then(|after| after.parse::<usize>().ok()).unwrap_or_default();
    let (mut page, mut bytes) = (ReferrerPage::default(), 0);
    for (at, referrer) in list.iter().enumerate().skip(begin) {
        if artifact_type.is_some_and(|wanted| referrer.artifact_type.as_deref() != Some(wanted)) {
            continue;
        }
        let descriptor = referrer.descriptor.get().as_bytes();
        bytes += descriptor.len() + 1;
        if bytes > PAGE_BYTES && !page.descriptors.is_empty() {
            page.next = Some(at.to_string());
            break;
        }
        page.descriptors.push(descriptor.to_vec());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::DigestAlgorithm;

    fn referrer(kind: &str, padding: usize) -> Referrer {
        let digest = Digest::of(DigestAlgorithm::Sha256, kind.as_bytes());
        let text =
            format!(r#"{{"digest":"{digest}","artifactType":"{kind}","x":"{}"}}"#, "y".repeat(padding));
        let descriptor = RawValue::from_string(text).unwrap();
        Referrer { descriptor, artifact_type: Some(kind.to_owned()) }
    }

    #[test]
    fn pages_are_filtered_and_end_before_they_are_too_large() {
        let list: Referrers = [("a", 10), ("b", PAGE_BYTES - 500), ("a", 1000), ("a", 10)]
            .map(|(kind, padding)| referrer(kind, padding))
            .into();
        let first = page(&list, None, None);
        assert_eq!((first.descriptors.len(), first.next.as_deref()), (2, Some("2")));
        let second = page(&list, None, first.next.as_deref());
        assert_eq!((second.descriptors.len(), second.next), (2, None));
        assert_eq!(page(&list, Some("a"), None).descriptors.len(), 3);
        assert_eq!(page(&list, Some("c"), None), ReferrerPage::default());
    }

    #[test]
    fn the_memory_for_lists_is_bounded() {
        let lists = ReferrerLists::default();
        let (name, list) = ("docker.io/a".parse().unwrap(), Referrers::from([referrer("a", MOST_BYTES / 2)]));
        for at in 0_u32..100 {
            let subject = Digest::of(DigestAlgorithm::Sha256, &at.to_be_bytes());
            lists.insert(&name, &subject, &list);
            lists.insert(&name, &subject, &list);
            assert!(lists.get(&name, &subject).is_some());
            let kept = lists.lists();
            assert!(kept.bytes <= MEMORY);
            assert_eq!(kept.bytes, kept.lists.values().map(|(_, list)| bytes_of(list)).sum::<usize>());
        }
    }
}
