//! What a manifest names, brought before it.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Error;
use crate::oci::{Child, ChildRole, Digest, Manifest};

/// How many parts of a manifest are asked for at once.
const AT_ONCE: usize = 8;

/// What became of something that something else needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    /// It is here.
    Here,
    /// The source doesn't have it either.
    Absent,
    /// It can't be taken, which has been told.
    Skipped,
}

/// What came of the things that a manifest names.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// The first that it needs and can't have.
    pub(super) missing: Option<Digest>,
    /// Whether it has to do without some of its manifests.
    pub(super) is_sparse: bool,
}

impl Children {
    /// Takes what the manifest names by `take`, some at once, until all came or `is_over`.
    pub(super) async fn of<'m, F: Future<Output = Result<Took, Error>>>(
        manifest: &'m Manifest,
        is_over: impl Fn() -> bool,
        take: impl Fn(&'m Child) -> F,
    ) -> Result<Children, Error> {
        let mut children = Children::default();
        let mut running = FuturesUnordered::new();
        for child in &manifest.children {
            if is_over() {
                break;
            }
            let taking = take(child);
            running.push(async move { Ok::<_, Error>((child, taking.await?)) });
            while running.len() >= AT_ONCE {
                if let Some(ended) = running.next().await {
                    children.note(ended?);
                }
            }
        }
        while let Some(ended) = running.next().await {
            children.note(ended?);
        }
        Ok(children)
    }

    fn note(&mut self, (child, took): (&Child, Took)) {
        if took == Took::Here {
            return;
        }
        if child.role == ChildRole::Manifest {
            self.is_sparse = true;
        } else if took == Took::Skipped || child.is_distributable() {
            self.missing = self.missing.or(Some(child.descriptor.digest));
        }
    }
}
