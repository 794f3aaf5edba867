//! Which repositories are pushed to: what an upload's client was told before it began stays until it has ended, and for a
//! lease after that.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::oci::RepositoryName;

/// So many times finer than the lease are the times that are remembered, which bounds how many there are.
const FINER: u32 = 16;

/// The uploads that have ended, or are recorded only, as long as they matter: for each repository the start of the earliest
/// of those that were active until some time.
#[derive(Debug)]
pub(super) struct Pushes {
    lease: Duration,
    ended: Mutex<HashMap<RepositoryName, BTreeMap<u64, u64>>>,
}

impl Pushes {
    pub(super) fn new(lease: Duration) -> Pushes {
        Pushes { lease, ended: Mutex::default() }
    }

    fn ended(&self) -> MutexGuard<'_, HashMap<RepositoryName, BTreeMap<u64, u64>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an upload from `started` to `active`, and forgets those before the lease.
    pub(super) fn remember(&self, repository: &RepositoryName, started: Timestamp, active: Timestamp) {
        let finest = u64::try_from((self.lease / FINER).as_millis()).unwrap_or(u64::MAX).max(1);
        // Rather a little too long than too short.
        let until = active.millis().div_ceil(finest).saturating_mul(finest);
        let mut ended = self.ended();
        let starts = ended.entry(repository.clone()).or_default();
        let start = starts.entry(until).or_insert(started.millis());
        *start = (*start).min(started.millis());
        let since = active.saturating_sub(self.lease).millis();
        *starts = starts.split_off(&since);
    }

    /// When the earliest upload began of those to each repository that were active at `since` or later.
    pub(super) fn earliest(&self, since: Timestamp) -> HashMap<RepositoryName, u64> {
        let mut ended = self.ended();
        ended.retain(|_, starts| {
            *starts = starts.split_off(&since.millis());
            !starts.is_empty()
        });
        let earliest = |starts: &BTreeMap<u64, u64>| starts.values().min().copied();
        ended.iter().filter_map(|(name, starts)| Some((name.clone(), earliest(starts)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_counts_for_a_lease_after_its_end() {
        let pushes = Pushes::new(Duration::from_millis(1600));
        let (one, two): (RepositoryName, RepositoryName) = ("one".parse().unwrap(), "two".parse().unwrap());
        let at = Timestamp::from_millis;
        pushes.remember(&one, at(5_000), at(9_000));
        pushes.remember(&one, at(8_000), at(9_500));
        pushes.remember(&two, at(9_100), at(9_200));
        let earliest = pushes.earliest(at(9_000));
        assert_eq!((earliest[&one], earliest[&two]), (5_000, 9_100));
        let earliest = pushes.earliest(at(9_450));
        assert_eq!((earliest.get(&one), earliest.get(&two)), (Some(&8_000), None));
        assert!(pushes.earliest(at(9_501)).is_empty());
    }

    #[test]
    fn many_uploads_are_remembered_by_few_times() {
        let pushes = Pushes::new(Duration::from_secs(1));
        let name: RepositoryName = "app".parse().unwrap();
        for millis in 0..100_000 {
            pushes.remember(&name, Timestamp::from_millis(millis), Timestamp::from_millis(millis + 3));
        }
        assert!(pushes.ended()[&name].len() <= 18);
    }
}
