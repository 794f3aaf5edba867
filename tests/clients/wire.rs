//! A stretch of wire between a client and the server that can be listened to, and cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The head of a request as the client sent it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method, target and version.
    pub(crate) line: String,
    /// Names and values, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Forwards connections to the server, keeping the head of every request.
#[derive(Debug)]
pub(crate) struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    requests: Mutex<Vec<Request>>,
    downloaded: AtomicU64,
    download: Trip,
    upload: Trip,
    cuts: AtomicU64,
    /// From how many bytes on downloads are slow; negative when none is.
    slow_after: AtomicI64,
    closed: AtomicBool,
}

/// What a slow download brings at once, and the pause after that: 2 MiB a second.
const SLOW: (usize, Duration) = (64 << 10, Duration::from_millis(32));

/// What happens, once, to the connection that first carries a number of bytes one way.
#[derive(Debug)]
struct Trip {
    /// The number; negative when nothing is to happen.
    after: AtomicI64,
    /// Who wants to be told; the connection is cut when nobody does.
    notice: Mutex<Option<Sender<()>>>,
}

impl Trip {
    fn new() -> Trip {
        Trip { after: AtomicI64::new(-1), notice: Mutex::new(None) }
    }

    fn arm(&self, bytes: u32, notice: Option<Sender<()>>) {
        *self.notice.lock().expect("no holder panics") = notice;
        self.after.store(bytes.into(), Ordering::SeqCst);
    }

    /// Whether a connection that has carried so many bytes is to be cut.
    fn cuts(&self, carried: i64) -> bool {
        let after = self.after.load(Ordering::SeqCst);
        let due = after >= 0 && carried > after;
        if !due || self.after.compare_exchange(after, -1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return false;
        }
        match self.notice.lock().expect("no holder panics").take() {
            Some(notice) => {
                let _ = notice.send(());
                false
            }
            None => true,
        }
    }
}

impl Wire {
    /// A wire to the server.
    pub(crate) fn to(server: SocketAddr) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            requests: Mutex::default(),
            downloaded: AtomicU64::new(0),
            download: Trip::new(),
            upload: Trip::new(),
            cuts: AtomicU64::new(0),
            slow_after: AtomicI64::new(-1),
            closed: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                if let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) {
                    connect(client, server, &shared);
                }
            }
        });
        Wire { address, state }
    }

    /// Where clients find the server through this wire.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name of an image in the registry, reached through this wire.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().expect("no holder panics").clone()
    }

    /// How many bytes clients have received so far.
    pub(crate) fn downloaded(&self) -> u64 {
        self.state.downloaded.load(Ordering::SeqCst)
    }

    /// Cuts the next connection that has carried this many bytes to the client.
    pub(crate) fn cut_download_after(&self, bytes: u32) {
        self.state.download.arm(bytes, None);
    }

    /// Slows connections down once they have carried this many bytes to the client.
    pub(crate) fn slow_down_after(&self, bytes: u32) {
        self.state.slow_after.store(bytes.into(), Ordering::SeqCst);
    }

    /// Lets everything pass as fast as it comes again.
    pub(crate) fn speed_up(&self) {
        self.state.slow_after.store(-1, Ordering::SeqCst);
    }

    /// Tells when a connection has carried this many bytes to the client, and lets it go on.
    pub(crate) fn notice_download_after(&self, bytes: u32) -> Receiver<()> {
        let (sender, receiver) = mpsc::channel();
        self.state.download.arm(bytes, Some(sender));
        receiver
    }

    /// Cuts the next connection that has carried this many bytes to the server.
    pub(crate) fn cut_upload_after(&self, bytes: u32) {
        self.state.upload.arm(bytes, None);
    }

    /// Tells when a connection has carried this many bytes to the server, and lets it go on.
    pub(crate) fn notice_upload_after(&self, bytes: u32) -> Receiver<()> {
        let (sender, receiver) = mpsc::channel();
        self.state.upload.arm(bytes, Some(sender));
        receiver
    }

    /// How many connections were cut.
    pub(crate) fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(client: TcpStream, server: TcpStream, state: &Arc<State>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(client_reader), Ok(server_reader)) = (client.try_clone(), server.try_clone()) else { return };
    let (up, down) = (Arc::clone(state), Arc::clone(state));
    thread::spawn(move || {
        let mut heads = Heads::default();
        carry(client_reader, server, &up, &up.upload, |bytes| {
            let found = heads.read(bytes);
            up.requests.lock().expect("no holder panics").extend(found);
        });
    });
    thread::spawn(move || {
        let mut carried = 0;
        carry(server_reader, client, &down, &down.download, |bytes| {
            down.downloaded.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            carried += bytes.len();
            let slow_after = usize::try_from(down.slow_after.load(Ordering::SeqCst));
            if slow_after.is_ok_and(|after| carried > after) {
                thread::sleep(SLOW.1);
            }
        });
    });
}

/// Carries bytes one way until an end closes, or the wire is cut.
fn carry(mut from: TcpStream, mut to: TcpStream, state: &State, trip: &Trip, mut seen: impl FnMut(&[u8])) {
    let mut buffer = vec![0; SLOW.0];
    let mut carried: i64 = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        seen(&buffer[..read]);
        carried += i64::try_from(read).unwrap_or(i64::MAX);
        if trip.cuts(carried) {
            state.cuts.fetch_add(1, Ordering::SeqCst);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

/// Finds the heads in a stream of requests.
#[derive(Debug, Default)]
struct Heads {
    pending: Vec<u8>,
    body: Body,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Body {
    /// Between requests.
    #[default]
    None,
    /// So many bytes of a body are still to come.
    Sized(u64),
    /// A chunk's line of size is to come.
    ChunkSize,
    /// So many bytes of a chunk and its line end are still to come.
    Chunk(u64),
}

impl Heads {
    fn read(&mut self, bytes: &[u8]) -> Vec<Request> {
        self.pending.extend_from_slice(bytes);
        let mut found = Vec::new();
        loop {
            match self.body {
                Body::Sized(left) | Body::Chunk(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(self.pending.len());
                    self.pending.drain(..taken);
                    let left = left - taken as u64;
                    self.body = match (left, &self.body) {
                        (0, Body::Chunk(_)) => Body::ChunkSize,
                        (0, _) => Body::None,
                        (left, Body::Chunk(_)) => Body::Chunk(left),
                        (left, _) => Body::Sized(left),
                    };
                    if left > 0 {
                        return found;
                    }
                }
                Body::ChunkSize => {
                    let Some(line) = self.take_until(b"\r\n") else { return found };
                    let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                        .unwrap_or(0);
                    // The last chunk is followed by trailers, of which clients send none, and an empty line.
                    self.body = if size == 0 { Body::Sized(2) } else { Body::Chunk(size + 2) };
                }
                Body::None => {
                    let Some(head) = self.take_until(b"\r\n\r\n") else { return found };
                    let request = parse(&head);
                    let length =
                        request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
                    let chunked =
                        request.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
                    self.body = match (chunked, length) {
                        (true, _) => Body::ChunkSize,
                        (false, 0) => Body::None,
                        (false, length) => Body::Sized(length),
                    };
                    found.push(request);
                }
            }
        }
    }

    fn take_until(&mut self, end: &[u8]) -> Option<String> {
        let at = self.pending.windows(end.len()).position(|window| window == end)?;
        let taken: Vec<u8> = self.pending.drain(..at + end.len()).collect();
        Some(String::from_utf8_lossy(&taken[..at]).into_owned())
    }
}

fn parse(head: &str) -> Request {
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Request { line, headers }
}

#[test]
fn heads_are_found_between_bodies() {
    let mut heads = Heads::default();
    let stream = b"PATCH /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
                   PUT /b HTTP/1.1\r\ncontent-length: 4\r\n\r\nGET GET /c HTTP/1.1\r\nRange: bytes=1-\r\n\r\n";
    let mut found = Vec::new();
    for byte in stream.chunks(3) {
        found.extend(heads.read(byte));
    }
    let lines: Vec<&str> = found.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, ["PATCH /a HTTP/1.1", "PUT /b HTTP/1.1", "GET /c HTTP/1.1"]);
    assert_eq!(found[2].header("range"), Some("bytes=1-"));
}
