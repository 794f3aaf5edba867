//! The repositories of another registry, and the tags of each.

use std::cell::Cell;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Peer;
use crate::client::registry::{Error as Refusal, Upstream};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::registry::Registry;
use crate::transfer::copier::{Copier, RepositoryCopy, named};
use crate::transfer::{Error, Options, Report, Skipped, Tell, Told};

/// How many repositories are under way at once, and how many images of each.
const REPOSITORIES: usize = 4;
const IMAGES: usize = 4;

/// How many tags are listed before the first of them is taken. Registries that list all of them at once have to end within so
/// many.
const TAGS: usize = 100_000;

/// The most repositories of one import.
const MOST_REPOSITORIES: usize = 200_000;

/// A repository that the other registry is said to have.
struct Listed {
    name: RepositoryName,
    /// Whether somebody has named it, so that it should be there.
    is_named: bool,
}

/// Imports what another registry has.
pub async fn import(
    registry: &Registry,
    upstream: &Upstream,
    options: &Options,
    tell: &Tell<'_>,
) -> Result<Report, Error> {
    let peer = Peer { upstream, tell, lacks_referrers: Cell::new(false), failures: Cell::new(0) };
    let copier = Copier::new(registry, &peer, options, tell);
    let walk = Walk { registry, peer: &peer, copier: &copier, tell };
    let Some(listed) = walk.repositories().await? else { return Ok(copier.report()) };
    if !walk.count(&listed).await? {
        return Ok(Report { ended_early: true, ..copier.report() });
    }
    let mut running = FuturesUnordered::new();
    for one in listed {
        if copier.is_over() {
            break;
        }
        running.push(walk.repository(one));
        while running.len() >= REPOSITORIES {
            running.next().await.transpose()?;
        }
    }
    while let Some(ended) = running.next().await {
        ended?;
    }
    Ok(copier.report())
}

struct Walk<'w> {
    registry: &'w Registry,
    peer: &'w Peer<'w>,
    copier: &'w Copier<'w, Peer<'w>>,
    tell: &'w Tell<'w>,
}

impl Walk<'_> {
    /// The repositories that are wanted. Those that are named in full are not looked for in the list, which not every registry
    /// has; `None` where nobody wants to know any more.
    async fn repositories(&self) -> Result<Option<Vec<Listed>>, Error> {
        let patterns = &self.copier.options.repositories;
        let named: Vec<RepositoryName> =
            patterns.iter().filter_map(|pattern| pattern.to_string().parse().ok()).collect();
        let is_all_named = !patterns.is_empty() && named.len() == patterns.len();
        let mut listed: Vec<Listed> =
            named.iter().map(|name| Listed { name: name.clone(), is_named: true }).collect();
        if is_all_named {
            return Ok(Some(listed));
        }
        let mut page = None;
        loop {
            let asked = self.peer.ask(|| self.peer.upstream.catalog(page.as_ref())).await;
            let catalog = asked.map_err(|error| no_catalog(&error))?;
            for text in catalog.names {
                let Ok(name) = text.parse::<RepositoryName>() else {
                    let reason = "its name is not one that a repository may have; nothing in it is taken";
                    self.copier.skip(Skipped::new(self.peer.path_of(&text), reason)).await;
                    continue;
                };
                if self.copier.options.wants_repository(name.as_str()) && !named.contains(&name) {
                    listed.push(Listed { name, is_named: false });
                }
            }
            if listed.len() > MOST_REPOSITORIES {
                let reason = format!(
                    "there are more than {MOST_REPOSITORIES} repositories; take some at a time, by --repository"
                );
                return Err(Error::Unusable(reason));
            }
            if (self.tell)(Told::Looking(listed.len() as u64)).await.is_break() || self.copier.is_over() {
                return Ok(None);
            }
            match catalog.next {
                Some(next) => page = Some(next),
                None => return Ok(Some(listed)),
            }
        }
    }

    /// Counts the tags that are to come; `false` where nobody wants to know any more. What is wrong is told of later.
    async fn count(&self, listed: &[Listed]) -> Result<bool, Error> {
        for (at, one) in listed.iter().enumerate() {
            if (self.tell)(Told::Looking(at as u64)).await.is_break() {
                return Ok(false);
            }
            let mut last = None;
            while let Ok((tags, next)) = self.tags(&one.name, last.as_ref()).await {
                let wanted = tags.iter().filter(|tag| self.copier.options.wants_tag(tag));
                self.copier.expect_images(wanted.count() as u64);
                match next {
                    Some(next) => last = Some(next),
                    None => break,
                }
            }
        }
        Ok(true)
    }

    /// Tags of a repository, and the last of them where there are more.
    async fn tags(
        &self,
        name: &RepositoryName,
        last: Option<&Tag>,
    ) -> Result<(Vec<Tag>, Option<Tag>), Refusal> {
        let listed = self.peer.ask(|| self.peer.upstream.list_tags(name, last, TAGS)).await?;
        let is_same = last.is_some_and(|last| listed.tags.contains(last));
        let more = listed.tags.last().filter(|_| !listed.is_complete && !is_same).cloned();
        Ok((listed.tags, more))
    }

    async fn repository(&self, listed: Listed) -> Result<(), Error> {
        let Listed { name, is_named } = listed;
        let path = self.peer.path_of(name.as_str());
        let Some(copy) = self.copier.repository(&name, name.clone(), &path).await? else { return Ok(()) };
        let mut last = None;
        loop {
            let (tags, next) = match self.tags(&name, last.as_ref()).await {
                Ok(found) => found,
                // One without tags is listed too.
                Err(Refusal::NotFound { .. }) if !is_named => return Ok(()),
                Err(error) => return self.copier.failed(self.peer.failure(&path, &error)).await,
            };
            let mut running = FuturesUnordered::new();
            for tag in tags.iter().filter(|tag| self.copier.options.wants_tag(tag)) {
                if self.copier.is_over() {
                    break;
                }
                running.push(self.image(&name, &copy, tag));
                while running.len() >= IMAGES {
                    running.next().await.transpose()?;
                }
            }
            while let Some(ended) = running.next().await {
                ended?;
            }
            match next {
                Some(next) if !self.copier.is_over() => last = Some(next),
                _ => return Ok(()),
            }
        }
    }

    async fn image(
        &self,
        name: &RepositoryName,
        copy: &RepositoryCopy<'_, Peer<'_>>,
        tag: &Tag,
    ) -> Result<(), Error> {
        let path = format!("{}:{tag}", self.peer.path_of(name.as_str()));
        let limit = self.registry.policy().max_manifest_bytes;
        match self.peer.tag(name, tag, limit).await {
            Ok(Some(digest)) => {
                copy.image(&path, &named(digest), Some(tag)).await?;
                if !self.copier.options.tags.is_empty() && !self.copier.is_over() {
                    self.followers(name, copy, &digest, limit).await?;
                }
            }
            // It may have been deleted since it was listed.
            Ok(None) => self.copier.skip(Skipped::new(path, "the tag points to nothing there")).await,
            Err(error) => self.copier.failed(self.peer.failure(&path, &error)).await?,
        }
        self.copier.image_done().await;
        Ok(())
    }

    /// Takes the tags that accompany an image, where only some tags are wanted.
    async fn followers(
        &self,
        name: &RepositoryName,
        copy: &RepositoryCopy<'_, Peer<'_>>,
        subject: &Digest,
        limit: usize,
    ) -> Result<(), Error> {
        for tag in Tag::signatures_of(subject).into_iter().chain([Tag::referrers_of(subject)]) {
            let path = format!("{}:{tag}", self.peer.path_of(name.as_str()));
            match self.peer.tag(name, &tag, limit).await {
                Ok(Some(digest)) => copy.image(&path, &named(digest), Some(&tag)).await?,
                Ok(None) => {}
                Err(error) => self.copier.failed(self.peer.failure(&path, &error)).await?,
            }
        }
        Ok(())
    }
}

fn no_catalog(error: &Refusal) -> Error {
    let has_none =
        matches!(error, Refusal::NotFound { .. } | Refusal::Denied { .. } | Refusal::Invalid { .. });
    if has_none {
        Error::Unusable(format!(
            "it doesn't say which repositories it has: {error}. Name them: --repository team/app --repository team/web"
        ))
    } else {
        Error::Unusable(error.to_string())
    }
}
