//! An HTTP client that reports every step to the killer.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::killer::Killer;

/// How much of a body is sent at once.
const PIECE: usize = 8 * 1024;

/// The body of a request.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    /// None: `Content-Length: 0`.
    Empty,
    /// With its length.
    Whole(&'a [u8]),
    /// In HTTP chunks, the length unknown to the server, as Docker sends layers.
    Streamed(&'a [u8]),
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Asserts the status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }
}

/// A connection to the server; an error means that the server has been killed.
pub(crate) struct Connection<'a> {
    stream: TcpStream,
    unread: Vec<u8>,
    killer: &'a Killer,
}

impl<'a> Connection<'a> {
    pub(crate) fn open(address: SocketAddr, killer: &'a Killer) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new(), killer })
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, &[], Body::Empty)
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> io::Result<Answer> {
        let mut head = Vec::new();
        write!(head, "{method} {path} HTTP/1.1\r\nHost: registry\r\n")?;
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        match body {
            Body::Empty if method == "GET" || method == "HEAD" => {}
            Body::Empty => write!(head, "Content-Length: 0\r\n")?,
            Body::Whole(bytes) => write!(head, "Content-Length: {}\r\n", bytes.len())?,
            Body::Streamed(_) => write!(head, "Transfer-Encoding: chunked\r\n")?,
        }
        write!(head, "\r\n")?;
        self.stream.write_all(&head)?;
        match body {
            Body::Empty => {}
            Body::Whole(bytes) => {
                for piece in bytes.chunks(PIECE) {
                    self.stream.write_all(piece)?;
                    self.killer.sent_bytes(piece.len());
                }
            }
            Body::Streamed(bytes) => {
                for piece in bytes.chunks(PIECE) {
                    self.stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                    self.stream.write_all(piece)?;
                    self.stream.write_all(b"\r\n")?;
                    self.killer.sent_bytes(piece.len());
                }
                self.stream.write_all(b"0\r\n\r\n")?;
            }
        }
        self.killer.sent_request();
        let answer = self.answer(method == "HEAD")?;
        self.killer.received_answer();
        Ok(answer)
    }

    /// Sends the beginning of the first chunk of an upload, and breaks the connection off.
    pub(crate) fn break_off(mut self, path: &str, chunk: &[u8], sent: usize) -> io::Result<()> {
        let len = chunk.len();
        write!(
            self.stream,
            "PATCH {path} HTTP/1.1\r\nHost: registry\r\nContent-Length: {len}\r\nContent-Range: 0-{}\r\n\r\n",
            len - 1
        )?;
        self.stream.write_all(&chunk[..sent])
    }

    fn answer(&mut self, is_head: bool) -> io::Result<Answer> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more()?;
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let len = match headers.get("content-length") {
            Some(_) if is_head => 0,
            Some(len) => len.parse().unwrap(),
            None => {
                assert!(is_head || status == 204, "an answer without a length: {head}");
                0
            }
        };
        while self.unread.len() < len {
            self.read_more()?;
        }
        let body = self.unread.drain(..len).collect();
        Ok(Answer { status, headers, body })
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.unread.extend_from_slice(&buffer[..n]);
                Ok(())
            }
        }
    }
}
