//! A line between a registry and whoever pulls from it, no faster than a line can be.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use orlop::clock::monotonic;

/// The line; all its connections share what it carries. It ends with the process.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
}

/// When the line is free again.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u32,
    free_at: Mutex<Instant>,
}

impl Pace {
    /// Waits until the line has carried so many bytes more.
    fn carry(&self, bytes: usize) {
        let takes = Duration::from_secs_f64(
            f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / f64::from(self.bytes_per_second),
        );
        let now = monotonic();
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            *free_at = (*free_at).max(now) + takes;
            *free_at
        };
        thread::sleep(until.saturating_duration_since(now));
    }
}

impl Relay {
    /// A line to the registry.
    pub(crate) fn to(registry: SocketAddr, bytes_per_second: u32) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let pace = Arc::new(Pace { bytes_per_second, free_at: Mutex::new(monotonic()) });
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let registry = TcpStream::connect(registry).expect("the registry accepts");
                connect(client, registry, &pace);
            }
        });
        Relay { address }
    }

    /// Where the registry is found through the line.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn connect(client: TcpStream, registry: TcpStream, pace: &Arc<Pace>) {
    let _ = (client.set_nodelay(true), registry.set_nodelay(true));
    let (from_client, from_registry) = (
        client.try_clone().expect("a socket can be shared"),
        registry.try_clone().expect("a socket can be shared"),
    );
    let pace = Arc::clone(pace);
    thread::spawn(move || carry(from_client, registry, |_| {}));
    thread::spawn(move || carry(from_registry, client, |bytes| pace.carry(bytes)));
}

/// Carries bytes one way until an end closes.
fn carry(mut from: TcpStream, mut to: TcpStream, paced: impl Fn(usize)) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        paced(read);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
}
