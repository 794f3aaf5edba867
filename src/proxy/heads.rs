//! What upstreams have said of tags whose manifests are not here yet.
//!
//! Docker and containerd ask for a tag by HEAD and fetch the digest that they are told. What was said is kept for that while,
//! so that the manifest gets its tag when it comes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::registry::ManifestHead;
use crate::clock::Timestamp;
use crate::oci::{Digest, RepositoryName, Tag};

/// The most tags that are remembered.
const MOST: usize = 10_000;

/// How long a manifest may take to come and still get its tag.
const FOLLOWS: Duration = Duration::from_secs(5 * 60);

/// The heads of manifests, by repository and tag.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<HashMap<(RepositoryName, Tag), Told>>);

#[derive(Debug)]
struct Told {
    head: ManifestHead,
    at: Instant,
    asked_at: Timestamp,
}

impl Heads {
    fn told(&self) -> MutexGuard<'_, HashMap<(RepositoryName, Tag), Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was said of a tag when it was asked for at `asked_at`.
    pub(super) fn remember(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        head: ManifestHead,
        now: Instant,
        asked_at: Timestamp,
    ) {
        let mut told = self.told();
        told.remove(&(name.clone(), tag.clone()));
        if told.len() >= MOST {
            told.retain(|_, told| now.saturating_duration_since(told.at) < FOLLOWS);
        }
        if told.len() < MOST {
            told.insert((name.clone(), tag.clone()), Told { head, at: now, asked_at });
        }
    }

    /// What was said of a tag no longer ago than `believed`, and when it was asked for.
    pub(super) fn of(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        now: Instant,
        believed: Duration,
    ) -> Option<(ManifestHead, Timestamp)> {
        let told = self.told();
        let found = told.get(&(name.clone(), tag.clone()))?;
        let is_believed = now.saturating_duration_since(found.at) < believed.min(FOLLOWS);
        is_believed.then(|| (found.head.clone(), found.asked_at))
    }

    /// Forgets what was said of a tag, since the upstream says something else now.
    pub(super) fn forget(&self, name: &RepositoryName, tag: &Tag) {
        self.told().remove(&(name.clone(), tag.clone()));
    }

    /// Takes the tags out that were said to be the manifest's, with the times at which they were asked for.
    pub(super) fn take(&self, name: &RepositoryName, digest: &Digest, now: Instant) -> Vec<(Tag, Timestamp)> {
        let mut taken = Vec::new();
        self.told().retain(|(repository, tag), told| {
            let is_meant = repository == name && told.head.digest.as_ref() == Some(digest);
            if is_meant && now.saturating_duration_since(told.at) < FOLLOWS {
                taken.push((tag.clone(), told.asked_at));
            }
            !is_meant
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::registry::RateLimit;
    use crate::clock::monotonic;
    use crate::oci::DigestAlgorithm;

    fn head(content: &[u8]) -> (Digest, ManifestHead) {
        let digest = Digest::of(DigestAlgorithm::Sha256, content);
        let rate_limit = RateLimit::default();
        (digest, ManifestHead { media_type: None, digest: Some(digest), size: None, rate_limit })
    }

    #[test]
    fn a_manifest_gets_the_tags_that_were_said_to_be_its_own() {
        let (heads, now) = (Heads::default(), monotonic());
        let (one, other) =
            ("docker.io/library/one".parse().unwrap(), "docker.io/library/other".parse().unwrap());
        let (first, second) = (head(b"first"), head(b"second"));
        let at = Timestamp::from_millis(7);
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        heads.remember(&one, &tag("1"), first.1.clone(), now, at);
        heads.remember(&one, &tag("latest"), first.1.clone(), now, at);
        heads.remember(&one, &tag("2"), second.1.clone(), now, at);
        heads.remember(&other, &tag("1"), first.1.clone(), now, at);
        let hour = Duration::from_secs(3600);
        assert_eq!(heads.of(&one, &tag("2"), now, hour), Some((second.1, at)));
        assert_eq!(heads.of(&one, &tag("2"), now, Duration::ZERO), None);
        assert_eq!(heads.of(&one, &tag("2"), now + FOLLOWS, hour), None);
        let mut taken = heads.take(&one, &first.0, now);
        taken.sort();
        assert_eq!(taken, [(tag("1"), at), (tag("latest"), at)]);
        assert!(heads.take(&one, &first.0, now).is_empty(), "once");
        heads.forget(&one, &tag("2"));
        assert_eq!(heads.of(&one, &tag("2"), now, hour), None);
        assert!(heads.take(&other, &first.0, now + FOLLOWS).is_empty(), "that was long ago");
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (heads, now) = (Heads::default(), monotonic());
        let (name, (_, head)) = ("docker.io/library/one".parse().unwrap(), head(b"first"));
        for at in 0..=MOST {
            let tag = format!("t{at}").parse().unwrap();
            heads.remember(&name, &tag, head.clone(), now, Timestamp::from_millis(0));
        }
        assert_eq!(heads.told().len(), MOST);
        let late = now + FOLLOWS;
        heads.remember(&name, &"late".parse().unwrap(), head, late, Timestamp::from_millis(0));
        assert_eq!(heads.told().len(), 1);
    }
}
