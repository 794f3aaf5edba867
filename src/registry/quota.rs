//! How much repositories, and all of them together, may hold.

use super::NameScope;
use crate::oci::RepositoryName;

/// The quotas of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quotas {
    /// What all repositories together may hold, in bytes, each blob counted once.
    pub store_bytes: Option<u64>,
    /// What single repositories may hold. The first that is about a repository counts.
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
