//! The memory in which large uploads are gathered: bounded in bytes, and shared by all of them.
//!
//! While uploads are few, their steps are large; as they become many, steps shrink, and what an upload may have outstanding
//! shrinks with them. An upload with nothing outstanding always gets a step, so that each of them gets on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fsio::AlignedBuffer;

/// What all uploads may have outstanding together, while there aren't more of them than smallest steps in it.
const LIMIT: usize = 8 << 20;

/// The largest step: half as much keeps the disk waiting, twice as much falls out of the processor's cache.
const LARGEST: usize = 1 << 20;

/// The smallest, below which a write costs more than its bytes.
const SMALLEST: usize = 64 << 10;

/// How many steps one upload may have outstanding: one that is gathered, one that is hashed, one that is written, and one
/// for the moments in which these don't go hand in hand.
const STEPS: usize = 4;

/// What is kept for the next upload while there is none.
const KEPT_WHEN_IDLE: usize = 2 << 20;

/// The memory of all uploads of a registry; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct StepMemory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    uploads: usize,
    /// The bytes of steps that uploads have outstanding.
    taken: usize,
    /// The bytes of `free`.
    kept: usize,
    free: Vec<AlignedBuffer>,
}

impl StepMemory {
    /// The share of one more upload, until it is dropped.
    pub(super) fn share(&self) -> StepShare {
        self.lock().uploads += 1;
        StepShare { memory: self.clone(), outstanding: AtomicUsize::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn step(&self) -> usize {
        let fair = LIMIT / STEPS / self.uploads.max(1);
        1 << fair.clamp(SMALLEST, LARGEST).ilog2()
    }

    /// Drops what is kept beyond the limit.
    fn trim(&mut self) {
        let target = (self.uploads * STEPS * self.step()).clamp(KEPT_WHEN_IDLE, LIMIT);
        while self.taken + self.kept > target {
            let Some(buffer) = self.free.pop() else { return };
            self.kept -= buffer.capacity();
        }
    }
}

/// What one upload may have of a [`StepMemory`].
#[derive(Debug)]
pub(super) struct StepShare {
    memory: StepMemory,
    outstanding: AtomicUsize,
}

impl StepShare {
    /// Memory for a step, or `None` while the upload has its share outstanding.
    pub(super) fn try_take(&self) -> Option<AlignedBuffer> {
        let mut state = self.memory.lock();
        let size = state.step();
        let outstanding = self.outstanding.load(Ordering::Relaxed);
        if outstanding > 0 && outstanding + size > STEPS * size {
            return None;
        }
        self.outstanding.fetch_add(size, Ordering::Relaxed);
        state.taken += size;
        let place = state.free.iter().rposition(|buffer| buffer.capacity() == size);
        let free = place.map(|place| state.free.swap_remove(place));
        if free.is_some() {
            state.kept -= size;
        } else {
            state.trim();
        }
        drop(state);
        Some(free.unwrap_or_else(|| AlignedBuffer::new(size)))
    }

    /// Takes a step's memory back.
    pub(super) fn give_back(&self, mut buffer: AlignedBuffer) {
        let size = buffer.capacity();
        buffer.clear();
        let mut state = self.memory.lock();
        self.outstanding.fetch_sub(size, Ordering::Relaxed);
        state.taken -= size;
        state.kept += size;
        state.free.push(buffer);
        state.trim();
    }
}

impl Drop for StepShare {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        state.uploads -= 1;
        // What was still outstanding is gone.
        state.taken -= *self.outstanding.get_mut();
        state.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many uploads that all of them get the smallest steps.
    const MANY: usize = LIMIT / STEPS / SMALLEST;

    /// What is taken, and what is kept.
    fn held(memory: &StepMemory) -> (usize, usize) {
        let state = memory.lock();
        (state.taken, state.kept)
    }

    fn take_all(share: &StepShare) -> Vec<AlignedBuffer> {
        std::iter::from_fn(|| share.try_take()).collect()
    }

    #[test]
    fn a_lone_upload_gets_large_steps_and_no_more_than_its_share() {
        let memory = StepMemory::default();
        let share = memory.share();
        let steps = take_all(&share);
        assert_eq!(steps.iter().map(AlignedBuffer::capacity).collect::<Vec<_>>(), [LARGEST; STEPS]);
        for step in steps {
            share.give_back(step);
        }
        assert_eq!(held(&memory), (0, STEPS * LARGEST));
        drop(share);
        assert_eq!(held(&memory), (0, KEPT_WHEN_IDLE));
    }

    #[test]
    fn steps_shrink_as_uploads_become_many_and_the_limit_holds() {
        let memory = StepMemory::default();
        let shares: Vec<_> = (0..MANY).map(|_| memory.share()).collect();
        let steps: Vec<_> = shares.iter().flat_map(take_all).collect();
        assert!(steps.iter().all(|step| step.capacity() == SMALLEST));
        assert_eq!(held(&memory).0, LIMIT);
    }

    #[test]
    fn an_upload_with_nothing_outstanding_always_gets_a_step() {
        let memory = StepMemory::default();
        let shares: Vec<_> = (0..1000).map(|_| memory.share()).collect();
        assert!(shares.iter().all(|share| share.try_take().is_some()));
    }

    #[test]
    fn large_steps_of_former_days_are_not_kept_when_uploads_have_become_many() {
        let memory = StepMemory::default();
        let first = memory.share();
        let large = take_all(&first);
        let others: Vec<_> = (1..MANY).map(|_| memory.share()).collect();
        for step in large {
            first.give_back(step);
        }
        let steps: Vec<_> = others.iter().flat_map(take_all).collect();
        assert_eq!(steps.len(), (MANY - 1) * STEPS);
        let (taken, kept) = held(&memory);
        assert!(taken + kept <= LIMIT);
    }

    #[test]
    fn what_an_upload_never_gives_back_is_not_counted_when_it_is_over() {
        let memory = StepMemory::default();
        let share = memory.share();
        drop((share.try_take(), share));
        assert_eq!(held(&memory), (0, 0));
        assert_eq!(memory.lock().uploads, 0);
    }
}
