//! A tag, with what it has pointed to.

use super::repository::RepositoryImport;
use super::tree::place;
use crate::oci::Tag;
use crate::registry::{TagImported, TagPast};
use crate::transfer::Error;
use crate::transfer::children::Took;

/// The most entries of a tag's history that are taken, the newest.
const HISTORY: usize = 100;

impl RepositoryImport<'_> {
    /// Takes what a tag points to and has pointed to, and then the tag.
    pub(super) async fn tag(&self, name: String) -> Result<(), Error> {
        let import = self.import;
        let below = format!("{}/{name}", self.tags());
        let Ok(tag) = name.parse::<Tag>() else {
            import.skip(import.tree.skip(&below, "its name is not one that a tag may have")).await;
            return Ok(());
        };
        let current = format!("{below}/current/link");
        let now = match import.tree.link(&format!("{below}/current")) {
            Ok(Some(link)) => TagPast { digest: link.digest, at: link.at },
            Ok(None) => {
                import.skip(import.tree.skip(&current, "it is missing, so the tag points to nothing")).await;
                return Ok(());
            }
            Err(skipped) => {
                import.skip(skipped).await;
                return Ok(());
            }
        };
        let past = self.past(&below, &now).await;
        // They stay because the tag pointed to them, where the configuration says so; then they have to be here first.
        for past in past.iter().rev().take(import.registry.policy().collection.keep_history) {
            self.manifest(past.digest, 0, false).await?;
        }
        let took = self.manifest(now.digest, 0, tag.lists_referrers()).await?;
        if import.is_over() {
            return Ok(());
        }
        match took {
            Took::Here => {}
            Took::Absent => {
                let reason = format!("it leads to {}, which the repository doesn't have", now.digest);
                import.skip(import.tree.skip(&current, reason)).await;
                return Ok(());
            }
            Took::Skipped => {
                let reason = format!("it leads to {}, which can't be taken", now.digest);
                import.skip(import.tree.skip(&current, reason)).await;
                return Ok(());
            }
        }
        self.point(&tag, past, now, &current).await
    }

    async fn point(&self, tag: &Tag, past: Vec<TagPast>, now: TagPast, current: &str) -> Result<(), Error> {
        let import = self.import;
        let imported = if import.options.dry_run {
            match self.repository.tags().get(tag)? {
                Some(here) if here.canonical == now.digest => Ok(TagImported::Unchanged),
                Some(_) | None => Ok(TagImported::Set),
            }
        } else {
            self.repository.tags().import(tag, past, now, &import.options.actor).await
        };
        match imported {
            Ok(TagImported::Set) => import.report.borrow_mut().tags += 1,
            Ok(TagImported::Unchanged) => import.report.borrow_mut().known_tags += 1,
            Ok(TagImported::Stays(digest)) => {
                let reason = format!("the tag points to {digest} here, which was set since, and stays");
                import.skip(import.tree.skip(current, reason)).await;
            }
            Err(error) => import.refused(current, error).await?,
        }
        Ok(())
    }

    /// What a tag has pointed to, the oldest first, and at most so much as a history has here.
    async fn past(&self, below: &str, now: &TagPast) -> Vec<TagPast> {
        let tree = self.import.tree;
        let index = format!("{below}/index");
        let mut past = Vec::new();
        for digest in tree.digests(&index) {
            let found = digest.and_then(|digest| {
                let below = format!("{index}/{}", place(&digest));
                match tree.link(&below)? {
                    Some(link) if link.digest == digest => Ok(Some(TagPast { digest, at: link.at })),
                    Some(link) => {
                        let reason = format!("it leads to another manifest: {}", link.digest);
                        Err(tree.skip(&format!("{below}/link"), reason))
                    }
                    None => Ok(None),
                }
            });
            match found {
                Ok(Some(entry)) if entry.digest != now.digest => past.push(entry),
                Ok(_) => {}
                Err(skipped) => self.import.skip(skipped).await,
            }
            if past.len() > 2 * HISTORY {
                newest(&mut past);
            }
        }
        newest(&mut past);
        past
    }
}

/// Orders what a tag has pointed to by time, and drops what is too old.
fn newest(past: &mut Vec<TagPast>) {
    past.sort_by_key(|past| (past.at, past.digest));
    past.drain(..past.len().saturating_sub(HISTORY));
}
