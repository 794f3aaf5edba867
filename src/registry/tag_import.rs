//! Tags of another registry, with what they have pointed to there.

use super::revision::require_listed;
use super::tag_service::point_at;
use super::{Actor, Error, TagService, events, eviction};
use crate::clock::Timestamp;
use crate::metadata::events::Action;
use crate::metadata::{blobs, manifests, tags};
use crate::oci::{Digest, Tag};

/// What a tag pointed to in another registry, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagPast {
    /// The manifest, which need not be here.
    pub digest: Digest,
    /// When the tag was set to it.
    pub at: Timestamp,
}

/// What became of a tag that was to be like another registry's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagImported {
    /// It points there now.
    Set,
    /// It pointed there before.
    Unchanged,
    /// It points to another manifest, which somebody has set here since, and stays.
    Stays(Digest),
}

impl TagService {
    /// Points the tag to `now`, a manifest that the repository has, with `past`, the oldest first, in its history.
    ///
    /// A tag that is here follows where what it points to is in `past` and was set before `now` was; then only what came
    /// after that is added. Any other one stays.
    pub async fn import(
        &self,
        tag: &Tag,
        past: Vec<TagPast>,
        now: TagPast,
        actor: &Actor,
    ) -> Result<TagImported, Error> {
        eviction::make_space(&self.scope().inner, 0).await?;
        let (scope, tag, actor) = (self.scope().by(actor), tag.clone(), actor.clone());
        let clock = scope.inner.clock.now();
        self.scope()
            .write(move |tx| {
                let id = scope.id(tx)?;
                let canonical = blobs::canonical(tx, &now.digest)?.ok_or(Error::ManifestUnknown)?;
                let manifest = manifests::get(tx, id, &canonical)?.ok_or(Error::ManifestUnknown)?;
                let former = tags::get(tx, id, &tag)?;
                let new = match &former {
                    None => &past[..],
                    Some(former) if former.digest == canonical => return Ok(TagImported::Unchanged),
                    Some(former) => {
                        let known = past.iter().rposition(|past| past.digest == former.digest);
                        match known.filter(|_| former.updated_at < now.at.millis()) {
                            Some(known) => &past[known + 1..],
                            None => return Ok(TagImported::Stays(former.digest)),
                        }
                    }
                };
                scope.require_mutable(
                    Some(id),
                    &tag,
                    former.as_ref().map(|tag| &tag.digest),
                    Some(&canonical),
                )?;
                if !tag.lists_referrers() {
                    require_listed(tx, &scope, id, &canonical)?;
                }
                let record = |digest, named, at: Timestamp| tags::TagRecord {
                    digest,
                    named,
                    updated_at: at.min(clock).millis(),
                    actor: actor.as_str().into(),
                };
                for TagPast { digest: named, at } in new {
                    let digest = blobs::canonical(tx, named)?.unwrap_or(*named);
                    tags::add_to_history(tx, id, &tag, &record(digest, *named, *at))?;
                    let is_held = scope.inner.policy.collection.keep_history > 0 && !id.is_cached();
                    if is_held && manifests::exists(tx, id, &digest)? {
                        tags::hold(tx, id, &digest, &tag)?;
                    }
                }
                let record = record(canonical, now.digest, now.at);
                point_at(tx, &scope, id, &tag, &record, clock)?;
                let target = events::manifest(
                    &scope.name,
                    now.digest,
                    &manifest.media_type,
                    manifest.size,
                    Some(&tag),
                );
                scope.tell(tx, id, clock, Action::Push, target)?;
                Ok(TagImported::Set)
            })
            .await
    }
}
