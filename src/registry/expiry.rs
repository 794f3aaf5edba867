//! What policies take away: tags and manifests without tags, each only where it still is as it was when it was decided.

use super::repository::Scope;
use super::revision::delete;
use super::tag_service::untag;
use super::{Actor, Error, Inner, Page, Usage, collection};
use crate::clock::Timestamp;
use crate::metadata::{manifests, tags};
use crate::oci::{Digest, Tag};

/// A tag as a policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagState {
    /// The tag.
    pub tag: Tag,
    /// The canonical digest of the manifest that it points to.
    pub digest: Digest,
    /// When it was last set.
    pub pushed_at: Timestamp,
    /// When it was last pulled, or asked for by HEAD, as far as that is known.
    pub pulled_at: Option<Timestamp>,
    /// Whether the configuration says that it stays.
    pub is_immutable: bool,
}

/// A manifest that nothing names, as a policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UntaggedState {
    /// Its canonical digest.
    pub digest: Digest,
    /// Since when nothing names it.
    pub since: Timestamp,
    /// When it was last pulled, or asked for by HEAD, as far as that is known.
    pub pulled_at: Option<Timestamp>,
    /// Until when it stays whatever a policy says, since a push may be about to name it.
    pub held_until: Timestamp,
    /// Whether it is among the last that a tag pointed to, as many as the configuration keeps.
    pub is_in_history: bool,
}

/// The service for policies of one repository. It is bound by no switch of the configuration: those are about clients.
#[derive(Debug, Clone)]
pub struct ExpiryService {
    scope: Scope,
}

impl ExpiryService {
    pub(super) fn new(scope: Scope) -> ExpiryService {
        ExpiryService { scope }
    }

    /// The time, as the registry has it.
    pub fn now(&self) -> Timestamp {
        self.scope.inner.clock.now()
    }

    /// Since when pulls are noted, if they are; what was pulled before isn't known.
    pub fn pulls_noted_since(&self) -> Result<Option<Timestamp>, Error> {
        let inner = &self.scope.inner;
        Ok(Some(inner.metadata.read(|tx| inner.pulls.since(tx))?))
    }

    /// Up to `limit` tags in byte order, behind `after`, which need not exist.
    pub fn tags(&self, after: Option<&Tag>, limit: usize) -> Result<Page<TagState>, Error> {
        let Inner { policy, pulls, metadata, .. } = self.scope.inner.as_ref();
        let found = self.scope.read(|tx, id| {
            Ok((id, tags::list_records(tx, id, after.map(Tag::as_str), limit.saturating_add(1))?))
        })?;
        let Some((id, records)) = found else { return Ok(Page::of(Vec::new(), limit)) };
        let named: Vec<_> =
            records.iter().map(|(tag, record)| (id, record.digest, Some(tag.clone()))).collect();
        let usages = pulls.usages(metadata, &named)?;
        let state = |((tag, record), usage): ((Tag, tags::TagRecord), Usage)| TagState {
            is_immutable: !id.is_cached() && policy.immutable.contains(&self.scope.name, &tag),
            tag,
            digest: record.digest,
            pushed_at: Timestamp::from_millis(record.updated_at),
            pulled_at: usage.used_at,
        };
        Ok(Page::of(records.into_iter().zip(usages).map(state).collect(), limit))
    }

    /// Up to `limit` manifests that no tag and no manifest names and that are about no other, in the order of their digests,
    /// behind `after`.
    pub fn untagged(&self, after: Option<&Digest>, limit: usize) -> Result<Page<UntaggedState>, Error> {
        let inner = &self.scope.inner;
        let found = self.scope.read(|tx, id| {
            let mut states = Vec::new();
            for (digest, since) in manifests::untagged(tx, id, after, limit.saturating_add(1))? {
                let record = manifests::get(tx, id, &digest)?;
                let held_until = record.and_then(|record| record.due_at).unwrap_or_default();
                states.push(UntaggedState {
                    digest,
                    since: Timestamp::from_millis(since),
                    pulled_at: None,
                    held_until: Timestamp::from_millis(held_until),
                    is_in_history: collection::history_holder(tx, inner, id, &digest)?.is_some(),
                });
            }
            Ok((id, states))
        })?;
        let Some((id, mut states)) = found else { return Ok(Page::of(Vec::new(), limit)) };
        let named: Vec<_> = states.iter().map(|state| (id, state.digest, None)).collect();
        for (state, usage) in states.iter_mut().zip(inner.pulls.usages(&inner.metadata, &named)?) {
            state.pulled_at = usage.used_at;
        }
        Ok(Page::of(states, limit))
    }

    /// Removes a tag as [`TagService::untag`](super::TagService::untag) does, for a reason; says whether it did. A tag that was
    /// set since stays.
    pub async fn expire_tag(&self, state: &TagState, actor: &Actor, reason: &str) -> Result<bool, Error> {
        let (scope, state, reason) = (self.scope.by(actor), state.clone(), reason.to_owned());
        let now = scope.inner.clock.now();
        self.scope
            .write(move |tx| {
                let id = scope.id(tx)?;
                let Some(record) = tags::get(tx, id, &state.tag)? else { return Ok(false) };
                let is_same = record.digest == state.digest && record.updated_at == state.pushed_at.millis();
                if !is_same
                    || id.is_cached()
                    || scope.inner.policy.immutable.contains(&scope.name, &state.tag)
                {
                    return Ok(false);
                }
                untag(tx, &scope, id, now, &state.tag, &record, Some(&reason))?;
                Ok(true)
            })
            .await
    }

    /// Removes a manifest that nothing names, which can come back like any that is deleted; says whether it did. One that was
    /// named or pushed again since stays, and so does one that the history of a tag holds.
    pub async fn expire_untagged(
        &self,
        state: &UntaggedState,
        actor: &Actor,
        reason: &str,
    ) -> Result<bool, Error> {
        let (scope, state, reason) = (self.scope.by(actor), *state, reason.to_owned());
        let now = scope.inner.clock.now();
        self.scope
            .write(move |tx| {
                let id = scope.id(tx)?;
                let digest = state.digest;
                let since = manifests::untagged_since(tx, id, &digest)?;
                let Some(record) = manifests::get(tx, id, &digest)? else { return Ok(false) };
                let is_due = record.due_at.is_some_and(|due| due <= now.millis());
                if since != Some(state.since.millis())
                    || !is_due
                    || collection::is_held_by_history(tx, &scope.inner, id, &digest)?
                {
                    return Ok(false);
                }
                delete(tx, &scope, id, now, &digest, &digest, Some(&reason))?;
                Ok(true)
            })
            .await
    }
}
