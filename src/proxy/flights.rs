//! Work that several wait for and that is done once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

/// The work that is under way, each by its key.
#[derive(Debug)]
pub(super) struct Flights<K, T: Clone>(Arc<Mutex<HashMap<K, Flight<T>>>>);

type Flight<T> = Shared<BoxFuture<'static, Option<T>>>;

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Flights(Arc::default())
    }
}

impl<K, T> Flights<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Whether work of this key is under way.
    pub(super) fn has(&self, key: &K) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Waits for the work of this key that is under way, or begins it. It goes on when everybody has stopped waiting.
    /// `None` where it has panicked.
    pub(super) async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let flight = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            flights.get(&key).cloned().unwrap_or_else(|| {
                let (work, landing) = (work(), Landing { flights: self.0.clone(), key: key.clone() });
                let task = tokio::spawn(async move {
                    let _landing = landing;
                    work.await
                });
                let flight = task.map(Result::ok).boxed().shared();
                flights.insert(key, flight.clone());
                flight
            })
        };
        flight.await
    }
}

/// Takes the work off the list when it is done, or has panicked.
struct Landing<K: Hash + Eq, T: Clone> {
    flights: Arc<Mutex<HashMap<K, Flight<T>>>>,
    key: K,
}

impl<K: Hash + Eq, T: Clone> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn many_wait_for_one_and_the_next_begins_anew() {
        let (flights, begun) = (Flights::<&str, u32>::default(), Arc::new(AtomicU32::new(0)));
        let (let_go, gate) = oneshot::channel::<()>();
        let gate = gate.shared();
        let work = || {
            let number = begun.fetch_add(1, Ordering::SeqCst);
            let gate = gate.clone();
            async move {
                // An error means that the gate is open, too.
                let _ = gate.await;
                number
            }
        };
        let all = futures_util::future::join_all((0..10).map(|_| flights.join("a", work)));
        let open = async {
            tokio::task::yield_now().await;
            let_go.send(()).unwrap();
        };
        let (all, ()) = tokio::join!(all, open);
        assert_eq!(all, [Some(0); 10]);
        assert_eq!(flights.join("a", work).await, Some(1));
    }

    #[tokio::test]
    async fn it_goes_on_when_nobody_waits_and_ends_by_panics() {
        let flights = Flights::<&str, u32>::default();
        let (tell, told) = oneshot::channel();
        let waiting = flights.join("a", || async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            tell.send(()).unwrap();
            1
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
        told.await.unwrap();
        assert_eq!(flights.join("b", || async { panic!("as told") }).await, None);
        assert_eq!(flights.join("b", || async { 2 }).await, Some(2));
    }
}
