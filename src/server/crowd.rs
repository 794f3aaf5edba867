//! How many connections one address has open.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::network;
use crate::http::Proxies;

/// The pause between two warnings.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The open connections, by address.
#[derive(Debug)]
pub(super) struct Crowd {
    /// How many one may have; zero for any number.
    limit: usize,
    /// Those who may have any number.
    proxies: Proxies,
    /// Addresses with a connection; so there are never more of them than connections.
    counts: Counts,
    warned: Cell<Option<Instant>>,
}

/// A connection among those of its address, until this is dropped.
#[derive(Debug)]
pub(super) struct CrowdGuard(Option<(Counts, IpAddr)>);

impl Crowd {
    pub(super) fn new(limit: usize, proxies: Proxies) -> Crowd {
        Crowd { limit, proxies, counts: Arc::default(), warned: Cell::new(None) }
    }

    /// Counts a connection; `None` where there are too many from its address.
    pub(super) fn enter(&self, address: Option<IpAddr>) -> Option<CrowdGuard> {
        let address = address.filter(|_| self.limit > 0 && !self.proxies.trusts(address));
        let Some(address) = address.map(network) else { return Some(CrowdGuard(None)) };
        let mut counts = locked(&self.counts);
        let count = counts.entry(address).or_insert(0);
        if *count < self.limit {
            *count += 1;
            return Some(CrowdGuard(Some((Arc::clone(&self.counts), address))));
        }
        drop(counts);
        if self.warned.get().is_none_or(|at| at.elapsed() > WARNING_PAUSE) {
            self.warned.set(Some(Instant::now()));
            tracing::warn!(
                %address,
                connections = self.limit,
                "an address has as many connections as limits.connections_per_address allows; further ones are closed"
            );
        }
        None
    }
}

impl Drop for CrowdGuard {
    fn drop(&mut self) {
        let Some((counts, address)) = &self.0 else { return };
        let mut counts = locked(counts);
        if let Some(count) = counts.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(address);
            }
        }
    }
}

fn locked(counts: &Counts) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let crowd = Crowd::new(2, Proxies::default());
        let first = crowd.enter(address("192.0.2.1")).expect("a place");
        let _second = crowd.enter(address("::ffff:192.0.2.1")).expect("a place");
        assert!(crowd.enter(address("192.0.2.1")).is_none());
        assert!(crowd.enter(address("192.0.2.2")).is_some());
        drop(first);
        assert!(crowd.enter(address("192.0.2.1")).is_some());
    }

    #[test]
    fn a_network_counts_as_one_and_proxies_and_sockets_not_at_all() {
        let proxies =
            Proxies { trusted: vec!["192.0.2.0/24".parse().expect("a network")], ..Proxies::default() };
        let crowd = Crowd::new(1, proxies);
        let _held = crowd.enter(address("2001:db8::1")).expect("a place");
        assert!(crowd.enter(address("2001:db8::2")).is_none());
        let held: Vec<_> = (0..5).map(|_| (crowd.enter(address("192.0.2.9")), crowd.enter(None))).collect();
        assert!(held.iter().all(|(proxy, socket)| proxy.is_some() && socket.is_some()));
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let crowd = Crowd::new(1, Proxies::default());
        drop(crowd.enter(address("192.0.2.1")));
        assert!(locked(&crowd.counts).is_empty());
        let unlimited = Crowd::new(0, Proxies::default());
        let held: Vec<_> = (0..5).map(|_| unlimited.enter(address("192.0.2.1"))).collect();
        assert!(held.iter().all(Option::is_some) && locked(&unlimited.counts).is_empty());
    }
}
