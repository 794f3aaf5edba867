//! Repositories: renamed, deleted, measured; and the tags of one.

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, invalid, json};
use super::deletions::repository;
use crate::http::routes::parse_name;
use crate::oci::{RepositoryName, Tag};
use crate::registry::{Error, Repository, Sizes};

/// The body of `POST repositories/rename`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The present name.
    pub from: RepositoryName,
    /// The new one, which no repository has.
    pub to: RepositoryName,
}

/// The body of `POST repositories/delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteRepository {
    /// Which one.
    pub repository: RepositoryName,
}

/// That something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// How much something holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Distinct blobs.
    pub blobs: u64,
    /// Manifests.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// The bytes of the blobs and manifests.
    pub bytes: u64,
    /// The bytes that nothing else has.
    pub unique: u64,
    /// The bytes that something else has too.
    pub shared: u64,
}

impl From<Sizes> for Size {
    fn from(sizes: Sizes) -> Size {
        Size {
            blobs: sizes.blobs,
            manifests: sizes.manifests,
            tags: sizes.tags,
            bytes: sizes.bytes,
            unique: sizes.unique,
            shared: sizes.shared(),
        }
    }
}

/// What has a size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sized {
    /// The repository, or the tag of the repository that was asked for.
    pub name: String,
    /// How much it holds.
    #[serde(flatten)]
    pub size: Size,
}

/// A page of sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizesPage {
    /// How much the store holds, what can be undeleted included; or the repository that was asked for.
    pub total: Size,
    /// Its repositories, or its tags, in byte order.
    pub parts: Vec<Sized>,
    /// What to hand back as `last` for the next page, where there is one.
    pub next: Option<String>,
}

/// The body of `POST tags/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// The entry of its history; without, the one before its last change.
    #[serde(default)]
    pub number: Option<u64>,
}

/// What a tag points or pointed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagEntry {
    /// Its place in the history.
    pub number: u64,
    /// The manifest's canonical digest.
    pub digest: String,
    /// When the tag was set to it.
    pub at: String,
    /// Who set it.
    pub actor: String,
    /// Whether the repository still has the manifest, so that the tag can go back to it.
    pub exists: bool,
}

/// The history of a tag, the newest entry first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagHistory {
    /// At most a hundred entries.
    pub history: Vec<TagEntry>,
}

/// Gives a repository another name.
pub(super) async fn rename(mut call: Call) -> Answer {
    let Rename { from, to } = call.json().await?;
    repository(&call, &from).deletions().rename(&to).await?;
    json(&Done {})
}

/// Deletes a repository.
pub(super) async fn delete(mut call: Call) -> Answer {
    let DeleteRepository { repository: name } = call.json().await?;
    if repository(&call, &name).deletions().delete_repository().await? {
        json(&Done {})
    } else {
        Err(Error::RepositoryUnknown.into())
    }
}

/// Says how much the repositories hold, or the tags of one, or one tag.
pub(super) async fn sizes(call: Call) -> Answer {
    let query = call.query();
    let limit = query.page_length()?;
    let last = query.first("last");
    let Some(name) = query.first("repository") else {
        let page = call.registry().namespace().sizes(last.as_deref(), limit)?;
        let next = if page.more { page.items.last().map(|(name, _)| name.to_string()) } else { None };
        let parts = page.items.into_iter();
        return json(&SizesPage {
            total: call.registry().sizes()?.into(),
            parts: parts.map(|(name, sizes)| Sized { name: name.to_string(), size: sizes.into() }).collect(),
            next,
        });
    };
    let repository = repository(&call, &parse_name(&name)?);
    let total = repository.sizes()?.ok_or(Error::RepositoryUnknown)?.into();
    let (tags, more) = if let Some(tag) = query.first("tag") {
        (vec![tag.parse().map_err(|_| invalid("that is no tag"))?], false)
    } else {
        let page = repository.tags().list(last.as_deref(), limit)?;
        (page.items, page.more)
    };
    let next = if more { tags.last().map(Tag::to_string) } else { None };
    let measure = move || {
        let mut parts = Vec::with_capacity(tags.len());
        for tag in tags {
            let size = repository.sizes_of_tag(&tag)?.ok_or(Error::ManifestUnknown)?;
            parts.push(Sized { name: tag.to_string(), size: size.into() });
        }
        Ok::<_, Error>(parts)
    };
    let parts = tokio::task::spawn_blocking(measure).await.map_err(|_| Error::Unavailable)??;
    json(&SizesPage { total, parts, next })
}

/// Lists what a tag has pointed to.
pub(super) fn tag_history(call: &Call) -> Answer {
    let query = call.query();
    let name = query.first("repository").ok_or_else(|| invalid("name a repository"))?;
    let tag = query.first("tag").and_then(|tag| tag.parse::<Tag>().ok());
    let tag = tag.ok_or_else(|| invalid("name a tag"))?;
    let repository = repository(call, &parse_name(&name)?);
    let history = history(&repository, &tag, usize::MAX)?;
    if history.is_empty() {
        return Err(Error::HistoryUnknown.into());
    }
    json(&TagHistory { history })
}

/// Up to `limit` manifests that a tag has pointed to, the newest first.
pub(super) fn history(repository: &Repository, tag: &Tag, limit: usize) -> Result<Vec<TagEntry>, Error> {
    let entries = repository.tags().history(tag, None, limit)?.items;
    let mut history = Vec::with_capacity(entries.len());
    for entry in entries {
        history.push(TagEntry {
            number: entry.number,
            digest: entry.digest.to_string(),
            at: entry.at.to_rfc3339(),
            actor: entry.actor,
            exists: repository.manifests().exists(&entry.digest)?,
        });
    }
    Ok(history)
}

/// Points a tag back to what it pointed to before.
pub(super) async fn rollback(mut call: Call) -> Answer {
    let Rollback { repository: name, tag, number } = call.json().await?;
    let actor = call.actor();
    let entry = repository(&call, &name).tags().rollback(&tag, number, &actor).await?;
    json(&TagEntry {
        number: entry.number,
        digest: entry.digest.to_string(),
        at: entry.at.to_rfc3339(),
        actor: entry.actor,
        exists: true,
    })
}
