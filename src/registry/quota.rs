//! How much repositories, and all of them together, may hold.

use super::{Error, Inner, NameScope};
use crate::metadata::repositories::{self, RepositoryId};
use crate::metadata::{Read, sizes};
use crate::oci::RepositoryName;

/// What errors call all repositories together, which is no repository's name.
const STORE: &str = "this registry";

/// The quotas of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quotas {
    /// What all repositories together may hold, in bytes, each blob counted once.
    pub store_bytes: Option<u64>,
    /// What single repositories of one's own may hold. The first that is about a repository counts.
    pub repositories: Vec<Quota>,
}

/// A quota of each of some repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The repositories.
    pub repositories: NameScope,
    /// What each of them may hold, in bytes, blobs that it shares with others counted in full.
    pub max_bytes: u64,
}

impl Quotas {
    /// What the repository may hold, in bytes; `None` where no quota is about it.
    pub fn of_repository(&self, name: &RepositoryName) -> Option<u64> {
        self.repositories.iter().find(|quota| quota.repositories.contains(name)).map(|quota| quota.max_bytes)
    }
}

/// Content that a repository is about to get, and what of it is new.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addition {
    /// The bytes that the repository doesn't have yet.
    pub(super) to_repository: u64,
    /// The bytes that the store doesn't have yet.
    pub(super) to_store: u64,
}

impl Addition {
    /// Content that nobody has.
    pub(super) fn new(bytes: u64) -> Addition {
        Addition { to_repository: bytes, to_store: bytes }
    }
}

/// Refuses what would make the repository, or the store, larger than it may be. `id` is the repository's identifier, if it
/// exists yet.
pub(super) fn require(
    tx: &impl Read,
    inner: &Inner,
    name: &RepositoryName,
    id: Option<RepositoryId>,
    addition: Addition,
) -> Result<(), Error> {
    let quotas = &inner.policy.quotas;
    let is_cached = id.map_or(inner.policy.upstream_of(name).is_some(), RepositoryId::is_cached);
    if let Some(quota) = quotas.of_repository(name).filter(|_| addition.to_repository > 0 && !is_cached) {
        let used = match id {
            Some(id) => sizes::of(tx, id)?.bytes(),
            None => 0,
        };
        if used.saturating_add(addition.to_repository) > quota {
            return Err(Error::QuotaExceeded {
                of: name.to_string(),
                quota,
                used,
                more: addition.to_repository,
            });
        }
    }
    if let Some(quota) = quotas.store_bytes.filter(|_| addition.to_store > 0) {
        let used = sizes::of_store(tx)?.bytes();
        if used.saturating_add(addition.to_store) > quota {
            return Err(Error::QuotaExceeded { of: STORE.to_owned(), quota, used, more: addition.to_store });
        }
    }
    Ok(())
}

impl Error {
    /// The bytes that were to come, where it is all repositories together that would hold too much.
    pub(super) fn lacks_in_store(&self) -> Option<u64> {
        match self {
            Error::QuotaExceeded { of, more, .. } if of == STORE => Some(*more),
            _ => None,
        }
    }
}

impl Inner {
    /// Refuses bytes on their way that nobody has yet as far as is known, before they are taken.
    pub(super) fn require_quota(&self, name: &RepositoryName, bytes: u64) -> Result<(), Error> {
        let quotas = &self.policy.quotas;
        if quotas.store_bytes.is_none() && quotas.repositories.is_empty() {
            return Ok(());
        }
        self.metadata.read(|tx| {
            let id = repositories::id_of(tx, name)?;
            match require(tx, self, name, id, Addition::new(bytes)) {
                Err(Error::Metadata(error)) => Err(error),
                result => Ok(result),
            }
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_quota_that_is_about_a_repository_counts() {
        let quota = |pattern: &str, max_bytes| Quota {
            repositories: NameScope::new(vec![pattern.parse().unwrap()]),
            max_bytes,
        };
        let repositories = vec![quota("team/big", 100), quota("team/**", 10)];
        let quotas = Quotas { store_bytes: None, repositories };
        for (name, bytes) in [("team/big", Some(100)), ("team/a", Some(10)), ("other", None)] {
            assert_eq!(quotas.of_repository(&name.parse().unwrap()), bytes, "{name}");
        }
    }
}
