//! The client of large bodies: a socket, and no more work than a client must do, which is to read what it is sent.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The size of reads and writes.
const PIECE: usize = 256 << 10;

/// The media type of blobs.
pub(crate) const BYTES: &str = "application/octet-stream";

/// The manifests that are understood.
const MANIFESTS: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// What requests go over: a socket, or TLS on one.
pub(crate) trait Wire: Read + Write + Debug {}

impl<T: Read + Write + Debug> Wire for T {}

/// How a request says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// By its length.
    Known(u64),
    /// By its last chunk.
    Unknown,
}

/// A connection that has sent a request and read the head of its answer.
#[derive(Debug)]
pub(crate) struct Answer {
    stream: Box<dyn Wire>,
    /// Status line and headers.
    head: String,
    length: u64,
    body_read: u64,
    buffer: Vec<u8>,
}

/// Sends a request without a body.
pub(crate) fn request(to: SocketAddr, method: &str, target: &str) -> Answer {
    request_over(Box::new(connect(to)), method, target, "")
}

/// Sends a request with more headers, each with its line's end, over a connection that is there.
pub(crate) fn request_over(mut stream: Box<dyn Wire>, method: &str, target: &str, headers: &str) -> Answer {
    send_head(&mut stream, method, target, BYTES, Body::Known(0), headers);
    read_head(stream)
}

/// Sends a request with a body of `repeat` times the same bytes after the `first` ones.
pub(crate) fn send(
    to: SocketAddr,
    method: &str,
    target: &str,
    media_type: &str,
    first: &[u8],
    piece: &[u8],
    repeat: usize,
) -> Answer {
    let mut stream: Box<dyn Wire> = Box::new(connect(to));
    let length = first.len() + piece.len() * repeat;
    send_head(&mut stream, method, target, media_type, Body::Known(length as u64), "");
    stream.write_all(first).expect("the server reads");
    for _ in 0..repeat {
        for part in piece.chunks(PIECE) {
            stream.write_all(part).expect("the server reads");
        }
    }
    read_head(stream)
}

/// Sends a request with a body of these pieces, and with more headers, each with its line's end.
pub(crate) fn send_body<'b>(
    to: SocketAddr,
    method: &str,
    target: &str,
    headers: &str,
    body: Body,
    pieces: impl Iterator<Item = &'b [u8]>,
) -> Answer {
    let mut stream: Box<dyn Wire> = Box::new(connect(to));
    send_head(&mut stream, method, target, BYTES, body, headers);
    for part in pieces.flat_map(|piece| piece.chunks(PIECE)) {
        if body == Body::Unknown {
            stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).expect("the server reads");
        }
        stream.write_all(part).expect("the server reads");
        if body == Body::Unknown {
            stream.write_all(b"\r\n").expect("the server reads");
        }
    }
    if body == Body::Unknown {
        stream.write_all(b"0\r\n\r\n").expect("the server reads");
    }
    read_head(stream)
}

impl Answer {
    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(':'));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Reads the body to its end, and says how long it was.
    pub(crate) fn read(mut self) -> u64 {
        while self.read_some() {}
        self.body_read
    }

    /// Reads more of the body, and says whether there was more.
    pub(crate) fn read_some(&mut self) -> bool {
        if self.body_read >= self.length {
            return false;
        }
        let read = self.stream.read(&mut self.buffer).expect("the server writes");
        self.body_read += read as u64;
        read > 0
    }
}

/// Connects.
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("the server accepts");
    stream.set_nodelay(true).expect("an option can be set");
    stream
}

fn send_head(
    stream: &mut impl Write,
    method: &str,
    target: &str,
    media_type: &str,
    body: Body,
    headers: &str,
) {
    let framing = match body {
        Body::Known(length) => format!("Content-Length: {length}"),
        Body::Unknown => "Transfer-Encoding: chunked".to_owned(),
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\
         Accept: {MANIFESTS}\r\nContent-Type: {media_type}\r\n{framing}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the server reads");
}

fn read_head(mut stream: Box<dyn Wire>) -> Answer {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let body_read = (bytes.len() - end - 4) as u64;
            let mut answer = Answer { stream, head, length: 0, body_read, buffer: vec![0; PIECE] };
            answer.length =
                answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            return answer;
        }
        let read = stream.read(&mut buffer).expect("the server answers");
        assert!(read > 0, "the server closed the connection");
        bytes.extend_from_slice(&buffer[..read]);
    }
}
