//! The memory that answers are made of: one pool, bounded in bytes, shared fairly by all bodies.
//!
//! Each body has a [`Lane`]. What a lane may have outstanding is the pool's limit divided by the number of lanes, so
//! chunks shrink as bodies become many, and a client that reads slowly holds its own share and nobody else's. A lane
//! with nothing outstanding always gets a buffer of the smallest size: every body makes progress, and the limit is
//! exceeded only when more bodies than `limit / SMALLEST` are served at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// The smallest buffer.
pub(super) const SMALLEST: usize = 16 * 1024;
/// The largest buffer, and the length of a chunk while bodies are few.
pub(super) const LARGEST: usize = 256 * 1024;
/// Sizes are powers of two from [`SMALLEST`] to [`LARGEST`].
const SIZES: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;
/// What is kept for the next body while none is being served.
const KEPT_WHEN_IDLE: usize = 2 * 1024 * 1024;
/// What is kept per body being served: one chunk in the socket's queue, one being read.
const KEPT_PER_BODY: usize = 2 * LARGEST;

/// A pool of buffers; clones share it.
#[derive(Debug, Clone)]
pub(super) struct BufferPool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bodies being served.
    lanes: usize,
    /// Bytes of buffers that lanes have taken.
    taken: usize,
    /// Bytes of buffers waiting to be taken again.
    kept: usize,
    free: [Vec<Vec<u8>>; SIZES],
}

impl BufferPool {
    /// A pool that hands out at most `limit` bytes at once (but see the module's page); nothing is allocated yet.
    pub(super) fn new(limit: usize) -> Self {
        Self { inner: Arc::new(Inner { limit: limit.max(LARGEST), state: Mutex::default() }) }
    }

    /// The share of one more body, until it is dropped.
    pub(super) fn lane(&self) -> Lane {
        self.inner.lock().lanes += 1;
        Lane {
            account: Arc::new(Account {
                pool: Arc::clone(&self.inner),
                waker: AtomicWaker::new(),
                outstanding: Mutex::new(0),
            }),
        }
    }

    /// The bytes that lanes have taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.inner.lock().taken
    }

    #[cfg(test)]
    fn taken_and_kept(&self) -> (usize, usize) {
        let state = self.inner.lock();
        (state.taken, state.kept)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every statement that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_target(&self, lanes: usize) -> usize {
        lanes.saturating_mul(KEPT_PER_BODY).clamp(KEPT_WHEN_IDLE, self.limit.max(KEPT_WHEN_IDLE))
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let size = bytes.len();
        let mut state = self.lock();
        state.taken -= size;
        if state.taken + state.kept + size <= self.keep_target(state.lanes) {
            state.kept += size;
            state.free[size_index(size)].push(bytes);
        }
    }
}

impl State {
    fn trim(&mut self, target: usize) {
        while self.taken + self.kept > target {
            let Some(bytes) = self.free.iter_mut().rev().find_map(Vec::pop) else { return };
            self.kept -= bytes.len();
        }
    }
}

fn size_index(size: usize) -> usize {
    (size / SMALLEST).ilog2() as usize
}

/// One body's share of a [`BufferPool`].
#[derive(Debug)]
pub(super) struct Lane {
    account: Arc<Account>,
}

#[derive(Debug)]
struct Account {
    pool: Arc<Inner>,
    /// The body that waits for its own buffers to come back.
    waker: AtomicWaker,
    outstanding: Mutex<usize>,
}

impl Account {
    fn outstanding(&self) -> MutexGuard<'_, usize> {
        self.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// A buffer for up to `wanted` bytes, or `Pending` until a buffer of this lane comes back.
    pub(super) fn poll_take(&self, cx: &Context<'_>, wanted: u64) -> Poll<Buffer> {
        if let Some(buffer) = self.try_take(wanted) {
            return Poll::Ready(buffer);
        }
        self.account.waker.register(cx.waker());
        // A buffer may have come back between the look and the registration.
        self.try_take(wanted).map_or(Poll::Pending, Poll::Ready)
    }

    /// A buffer for up to `wanted` bytes, or `None` when this lane has its share outstanding.
    pub(super) fn try_take(&self, wanted: u64) -> Option<Buffer> {
        let mut outstanding = self.account.outstanding();
        let mut state = self.account.pool.lock();
        let share = self.account.pool.limit / state.lanes.max(1);
        let useful = usize::try_from(wanted).unwrap_or(LARGEST).clamp(SMALLEST, LARGEST).next_power_of_two();
        let fair = (share / 2).clamp(SMALLEST, LARGEST);
        let size = useful.min(1 << fair.ilog2());
        if *outstanding > 0 && *outstanding + size > share {
            return None;
        }
        *outstanding += size;
        state.taken += size;
        let bytes = state.free[size_index(size)].pop();
        if let Some(bytes) = &bytes {
            state.kept -= bytes.len();
        } else {
            let room = self.account.pool.limit.saturating_sub(state.taken);
            if state.kept > room {
                let target = self.account.pool.limit;
                state.trim(target);
            }
        }
        drop(state);
        let bytes = bytes.unwrap_or_else(|| vec![0; size]);
        Some(Buffer { bytes, filled: 0, account: Arc::clone(&self.account) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let pool = &self.account.pool;
        let mut state = pool.lock();
        state.lanes -= 1;
        let target = pool.keep_target(state.lanes);
        state.trim(target);
    }
}

/// A buffer of a pool, which goes back when it is dropped. It shows the bytes that were filled in.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    account: Arc<Account>,
}

impl Buffer {
    /// All of the buffer, to be filled from the front.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Says that the first `len` bytes are filled in.
    pub(super) fn set_filled(&mut self, len: usize) {
        self.filled = len.min(self.bytes.len());
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        *self.account.outstanding() -= bytes.len();
        self.account.pool.give_back(bytes);
        self.account.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn a_lone_body_gets_large_buffers_and_a_small_body_small_ones() {
        let pool = BufferPool::new(32 * MIB);
        let lane = pool.lane();
        assert_eq!(lane.try_take(u64::MAX).map(|mut buffer| buffer.space().len()), Some(LARGEST));
        assert_eq!(lane.try_take(1).map(|mut buffer| buffer.space().len()), Some(SMALLEST));
        assert_eq!(lane.try_take(40_000).map(|mut buffer| buffer.space().len()), Some(65_536));
    }

    #[test]
    fn chunks_shrink_as_bodies_become_many_and_the_limit_holds() {
        let pool = BufferPool::new(4 * MIB);
        let lanes: Vec<Lane> = (0..256).map(|_| pool.lane()).collect();
        let mut buffers = Vec::new();
        for lane in &lanes {
            while let Some(mut buffer) = lane.try_take(u64::MAX) {
                assert_eq!(buffer.space().len(), SMALLEST);
                buffers.push(buffer);
            }
        }
        assert_eq!(pool.taken_and_kept().0, 4 * MIB);
    }

    #[test]
    fn a_lane_with_nothing_outstanding_always_gets_a_buffer() {
        let pool = BufferPool::new(LARGEST);
        let lanes: Vec<Lane> = (0..100).map(|_| pool.lane()).collect();
        let buffers: Vec<Buffer> = lanes.iter().filter_map(|lane| lane.try_take(u64::MAX)).collect();
        assert_eq!(buffers.len(), lanes.len());
        assert!(lanes[0].try_take(1).is_none());
    }

    #[test]
    fn a_body_that_waits_is_woken_when_one_of_its_buffers_comes_back() {
        use std::sync::atomic::{AtomicBool, Ordering};
        struct Flag(AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let pool = BufferPool::new(LARGEST);
        let lane = pool.lane();
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&flag));
        let cx = Context::from_waker(&waker);
        let mut buffers = Vec::new();
        while let Poll::Ready(buffer) = lane.poll_take(&cx, u64::MAX) {
            buffers.push(buffer);
        }
        assert!(!flag.0.load(Ordering::SeqCst));
        buffers.pop();
        assert!(flag.0.load(Ordering::SeqCst));
        assert!(lane.poll_take(&cx, u64::MAX).is_ready());
    }

    #[test]
    fn buffers_are_used_again_and_little_is_kept_when_nobody_reads() {
        let pool = BufferPool::new(32 * MIB);
        let lanes: Vec<Lane> = (0..32).map(|_| pool.lane()).collect();
        let buffers: Vec<Buffer> = lanes
            .iter()
            .flat_map(|lane| [lane.try_take(u64::MAX), lane.try_take(u64::MAX)])
            .flatten()
            .collect();
        assert_eq!(pool.taken_and_kept(), (64 * LARGEST, 0));
        drop(buffers);
        assert_eq!(pool.taken_and_kept(), (0, 64 * LARGEST));
        drop(lanes);
        assert_eq!(pool.taken_and_kept(), (0, KEPT_WHEN_IDLE));
    }

    #[test]
    fn a_buffer_that_outlives_its_lane_goes_back_too() {
        let pool = BufferPool::new(32 * MIB);
        let lane = pool.lane();
        let buffer = lane.try_take(u64::MAX);
        drop(lane);
        drop(buffer);
        assert_eq!(pool.taken_and_kept(), (0, LARGEST));
    }
}
