//! What was deleted: listed, brought back, or ended.

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, invalid, json};
use crate::http::errors::ApiError;
use crate::http::routes::parse_name;
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::registry::{DeletedKind, DeletedName, Deletion, Error, Force, Origin, Page, Repository};

/// What is meant: a repository, or a tag, a manifest or a blob of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    #[serde(default)]
    pub tag: Option<Tag>,
    /// The manifest or the blob, by any of its digests.
    #[serde(default)]
    pub digest: Option<Digest>,
}

/// The body of `POST purge`: one target, or everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purge {
    /// What was deleted last under a name.
    Target(Target),
    /// All that can be undeleted.
    All {},
}

/// Something that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// `tag`, `manifest`, `blob` or `repository`.
    pub kind: String,
    /// The repository's name then.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// The canonical digest of the manifest or the blob; of a tag, what it pointed to.
    pub digest: Option<String>,
    /// When it was deleted.
    pub deleted_at: String,
    /// Until when it can come back.
    pub expires_at: String,
    /// Who deleted it.
    pub actor: String,
    /// The rule of a policy that did.
    pub reason: Option<String>,
}

/// The body of `POST delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delete {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag; it goes alone, and its manifest stays until its grace is over.
    #[serde(default)]
    pub tag: Option<Tag>,
    /// The manifest, by any of its digests; it goes with all its tags.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// Also a manifest that an index names.
    #[serde(default)]
    pub force: bool,
    /// Delete nothing, and say what would go.
    #[serde(default)]
    pub dry_run: bool,
}

/// What went, or would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteAnswer {
    /// Whether nothing was deleted.
    pub dry_run: bool,
    /// `repository`, `manifest` or `tag`.
    pub kind: String,
    /// How many tags go.
    pub tags: u64,
    /// How many manifests.
    pub manifests: u64,
    /// What a repository holds, in bytes, or a manifest itself has.
    pub bytes: u64,
}

/// A page of what was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletions {
    /// The deletions.
    pub deletions: Vec<Deleted>,
    /// What to hand back as `last` for the next page, where there is one.
    pub next: Option<String>,
}

/// How much can't come back any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// How many deletions.
    pub purged: u64,
}

impl From<Deletion> for Deleted {
    fn from(deletion: Deletion) -> Deleted {
        let kind = match deletion.kind {
            DeletedKind::Tag => "tag",
            DeletedKind::Manifest => "manifest",
            DeletedKind::Blob => "blob",
            DeletedKind::Repository => "repository",
        };
        Deleted {
            kind: kind.to_owned(),
            repository: deletion.repository.to_string(),
            tag: deletion.tag.map(|tag| tag.to_string()),
            digest: deletion.digest.map(|digest| digest.to_string()),
            deleted_at: deletion.deleted_at.to_rfc3339(),
            expires_at: deletion.expires_at.to_rfc3339(),
            actor: deletion.actor,
            reason: deletion.reason,
        }
    }
}

impl Target {
    /// The name of what is meant, within its repository.
    fn name(&self) -> Result<DeletedName, ApiError> {
        match (&self.tag, &self.digest) {
            (None, None) => Ok(DeletedName::Repository),
            (Some(tag), None) => Ok(DeletedName::Tag(tag.clone())),
            (None, Some(digest)) => Ok(DeletedName::Digest(*digest)),
            (Some(_), Some(_)) => Err(invalid("name a tag or a digest, not both")),
        }
    }
}

/// The repository, used on behalf of whoever asks.
pub(super) fn repository(call: &Call, name: &RepositoryName) -> Repository {
    call.registry().namespace().repository(name).on_behalf_of(Origin::of(call.actor()))
}

/// Lists what can come back: of one repository the last first, else everything.
pub(super) fn list_deletions(call: &Call) -> Answer {
    let query = call.query();
    let limit = query.page_length()?;
    let last = match query.first("last") {
        Some(last) => Some(last.parse::<u64>().map_err(|_| invalid("last is not what a page gave"))?),
        None => None,
    };
    let Page { items, more } = match query.first("repository") {
        Some(name) => repository(call, &parse_name(&name)?).deletions().list(last, limit)?,
        None => call.registry().deletions(last, limit)?,
    };
    let next = if more { items.last().map(|deletion| deletion.id.to_string()) } else { None };
    json(&Deletions { deletions: items.into_iter().map(Deleted::from).collect(), next })
}

/// Deletes a repository, a manifest or a tag, as the API for clients does, or says what would go.
pub(super) async fn delete(mut call: Call) -> Answer {
    let Delete { repository: name, tag, digest, force, dry_run } = call.json().await?;
    let repository = repository(&call, &name);
    if !repository.exists()? {
        return Err(Error::RepositoryUnknown.into());
    }
    let (kind, tags, manifests, bytes) = match (&tag, &digest) {
        (Some(_), Some(_)) => return Err(invalid("name a tag or a digest, not both")),
        (Some(tag), None) => {
            repository.tags().get(tag)?.ok_or(Error::ManifestUnknown)?;
            ("tag", 1, 0, 0)
        }
        (None, Some(digest)) => {
            let found = repository.manifests().stat(&Reference::Digest(*digest))?;
            let found = found.ok_or(Error::ManifestUnknown)?;
            let tags = repository.tags().lookup(digest, None, usize::MAX)?.items.len() as u64;
            ("manifest", tags, 1, found.size)
        }
        (None, None) => {
            let sizes = repository.sizes()?.ok_or(Error::RepositoryUnknown)?;
            ("repository", sizes.tags, sizes.manifests, sizes.bytes)
        }
    };
    if !dry_run {
        let is_gone = match (&tag, &digest) {
            (Some(tag), _) => repository.tags().untag(tag).await?,
            (None, Some(digest)) => {
                let force = if force { Force::Yes } else { Force::No };
                repository.manifests().delete_with(digest, force).await?.is_some()
            }
            (None, None) => repository.deletions().delete_repository().await?,
        };
        if !is_gone {
            return Err(Error::ManifestUnknown.into());
        }
    }
    json(&DeleteAnswer { dry_run, kind: kind.to_owned(), tags, manifests, bytes })
}

/// Brings back what was deleted last under a name.
pub(super) async fn undelete(mut call: Call) -> Answer {
    let target: Target = call.json().await?;
    let deletions = repository(&call, &target.repository).deletions();
    let back = deletions.undelete(&target.name()?, &call.actor()).await?;
    json(&Deleted::from(back))
}

/// Ends the time in which something can come back.
pub(super) async fn purge(mut call: Call) -> Answer {
    let purged = match call.json().await? {
        Purge::Target(target) => {
            repository(&call, &target.repository).deletions().purge(&target.name()?).await?;
            1
        }
        Purge::All {} => call.registry().purge_deletions().await?,
    };
    json(&Purged { purged })
}
