//! Which repositories there are, and which tags.

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, invalid, json};
use super::deletions::repository;
use crate::clock::Timestamp;
use crate::http::routes::parse_name;
use crate::oci::Tag;
use crate::registry::{Error, NamePattern, TagPattern, TagState};

/// A repository in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryEntry {
    /// Its name.
    pub name: String,
    /// How many tags it has.
    pub tags: u64,
    /// How many manifests.
    pub manifests: u64,
    /// The bytes of its blobs and manifests, those that other repositories have too included.
    pub bytes: u64,
    /// When a tag of it was last set; none where it has none.
    pub last_push: Option<String>,
    /// Whether it is a copy of an upstream's.
    pub cached: bool,
}

/// A page of repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoriesPage {
    /// Those of the page that match, in byte order; there may be none.
    pub repositories: Vec<RepositoryEntry>,
    /// What to hand back as `last` for the next page, where there is one.
    pub next: Option<String>,
}

/// A tag in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagListed {
    /// The tag.
    pub tag: String,
    /// The canonical digest of its manifest.
    pub digest: String,
    /// When it was last set.
    pub pushed_at: String,
    /// When it was last pulled, as far as that is known.
    pub pulled_at: Option<String>,
    /// Whether the configuration says that it stays.
    pub immutable: bool,
}

/// A page of tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagsPage {
    /// Those of the page that match, in byte order; there may be none.
    pub tags: Vec<TagListed>,
    /// What to hand back as `last` for the next page, where there is one.
    pub next: Option<String>,
}

/// Lists repositories.
pub(super) async fn list_repositories(call: Call) -> Answer {
    let query = call.query();
    let limit = query.page_length()?.max(1);
    let last = query.first("last").map(String::from);
    let pattern = query.first("match").map(|text| text.parse::<NamePattern>()).transpose();
    let pattern = pattern.map_err(|error| invalid(error.to_string()))?;
    let namespace = call.registry().namespace();
    let look = move || {
        let page = namespace.sizes(last.as_deref(), limit)?;
        let next = page.items.last().filter(|_| page.more).map(|(name, _)| name.to_string());
        let mut repositories = Vec::new();
        for (name, sizes) in page.items {
            if pattern.as_ref().is_some_and(|pattern| !pattern.matches(name.as_str())) {
                continue;
            }
            let repository = namespace.repository(&name);
            repositories.push(RepositoryEntry {
                tags: sizes.tags,
                manifests: sizes.manifests,
                bytes: sizes.bytes,
                last_push: repository.tags().last_set()?.map(Timestamp::to_rfc3339),
                cached: repository.is_cached()?,
                name: name.to_string(),
            });
        }
        Ok::<_, Error>(RepositoriesPage { repositories, next })
    };
    json(&tokio::task::spawn_blocking(look).await.map_err(|_| Error::Unavailable)??)
}

/// Lists the tags of a repository.
pub(super) async fn list_tags(call: Call) -> Answer {
    let query = call.query();
    let limit = query.page_length()?.max(1);
    let last = query.first("last").map(|text| text.parse::<Tag>()).transpose();
    let last = last.map_err(|_| invalid("last is not what a page gave"))?;
    let pattern = query.first("match").map(|text| text.parse::<TagPattern>()).transpose();
    let pattern = pattern.map_err(|error| invalid(error.to_string()))?;
    let name = query.first("repository").ok_or_else(|| invalid("name a repository"))?;
    let repository = repository(&call, &parse_name(&name)?);
    let look = move || {
        if !repository.exists()? {
            return Err(Error::RepositoryUnknown);
        }
        let page = repository.expiry().tags(last.as_ref(), limit)?;
        let next = page.items.last().filter(|_| page.more).map(|state| state.tag.to_string());
        let is_meant = |state: &TagState| pattern.as_ref().is_none_or(|pattern| pattern.matches(&state.tag));
        let tags = page.items.into_iter().filter(is_meant).map(|state| TagListed {
            tag: state.tag.to_string(),
            digest: state.digest.to_string(),
            pushed_at: state.pushed_at.to_rfc3339(),
            pulled_at: state.pulled_at.map(Timestamp::to_rfc3339),
            immutable: state.is_immutable,
        });
        Ok(TagsPage { tags: tags.collect(), next })
    };
    json(&tokio::task::spawn_blocking(look).await.map_err(|_| Error::Unavailable)??)
}
