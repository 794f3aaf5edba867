//! Requests that another server could understand in another way.
//!
//! hyper takes a line that ends without a CR, and a length beside chunks, as RFC 9112 lets it. A proxy in front may not, and may see the end
//! of a request elsewhere; so a request could be hidden in another one. Here they are spoiled before hyper reads them, which then
//! answers 400 and closes the connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much of a line is looked at: enough for a length and for a coding.
const LINE_BYTES: usize = 80;

/// How HTTP/2 begins, which has none of this.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0";

/// What no head may hold: hyper refuses it wherever it stands.
const SPOILED: u8 = 0;

/// Where in the stream of requests the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    /// In a body, or a chunk of one, of which so many bytes are still to come.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    /// Behind the last chunk.
    Trailer,
    /// Nothing is looked at any more.
    Anywhere,
}

/// Follows the requests of a connection.
#[derive(Debug)]
struct Follower {
    place: Place,
    /// The begin of the line that is being read, where it didn't come as a whole.
    line: Vec<u8>,
    /// How long it is.
    line_len: usize,
    /// The last byte of it.
    last: u8,
    /// The lines of this head before it.
    lines: usize,
    length: Option<u64>,
    is_chunked: bool,
}

impl Follower {
    fn new() -> Follower {
        Follower {
            place: Place::Head,
            line: Vec::with_capacity(LINE_BYTES),
            line_len: 0,
            last: 0,
            lines: 0,
            length: None,
            is_chunked: false,
        }
    }

    /// Follows `bytes`, and spoils what may not stand there.
    fn follow(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match self.place {
                Place::Anywhere => return,
                Place::Body(left) => self.skip(left, bytes.len(), Place::Head),
                Place::Chunk(left) => self.skip(left, bytes.len(), Place::ChunkSize),
                Place::Head | Place::ChunkSize | Place::Trailer => self.follow_line(bytes),
            };
            bytes = &mut bytes[taken..];
        }
    }

    /// Passes over a body, or a chunk.
    fn skip(&mut self, left: u64, there: usize, then: Place) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(there);
        let left = left - taken as u64;
        self.place = match then {
            _ if left == 0 => then,
            Place::Head => Place::Body(left),
            _ => Place::Chunk(left),
        };
        taken
    }

    /// Reads on to the end of the line, which nearly always came as a whole.
    fn follow_line(&mut self, bytes: &mut [u8]) -> usize {
        let end = memchr::memchr(b'\n', bytes);
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        if let Some(end) = end
            && self.line_len == 0
        {
            let line = &piece[..piece.len().min(LINE_BYTES)];
            let is_whole = piece.last() == Some(&b'\r');
            if !(is_whole && self.end_line(line, piece.len())) {
                self.spoil(&mut bytes[end]);
            }
            return end + 1;
        }
        let room = LINE_BYTES.saturating_sub(self.line.len()).min(piece.len());
        self.line.extend_from_slice(&piece[..room]);
        self.line_len += piece.len();
        self.last = piece.last().copied().unwrap_or(self.last);
        let Some(end) = end else { return bytes.len() };
        let mut line = std::mem::take(&mut self.line);
        let is_whole = self.last == b'\r';
        if !(is_whole && self.end_line(&line, self.line_len)) {
            self.spoil(&mut bytes[end]);
        }
        line.clear();
        (self.line, self.line_len, self.last) = (line, 0, 0);
        end + 1
    }

    /// Sees to it that hyper refuses what it is about to read, and that nobody looks at what follows.
    fn spoil(&mut self, byte: &mut u8) {
        *byte = SPOILED;
        self.place = Place::Anywhere;
    }

    /// Takes note of a line of this length, which begins so and ends as it has to; says whether it may stand there.
    fn end_line(&mut self, line: &[u8], len: usize) -> bool {
        let is_empty = len == 1;
        match self.place {
            Place::Head if is_empty && self.lines == 0 => true,
            Place::Head if is_empty => {
                self.place = match (self.is_chunked, self.length) {
                    (true, _) => Place::ChunkSize,
                    (false, Some(length)) if length > 0 => Place::Body(length),
                    (false, _) => Place::Head,
                };
                (self.lines, self.length, self.is_chunked) = (0, None, false);
                true
            }
            Place::Head => {
                self.lines += 1;
                if self.lines == 1 {
                    if line.starts_with(HTTP_2) {
                        self.place = Place::Anywhere;
                    }
                    return true;
                }
                self.is_clear_header(line, len)
            }
            Place::ChunkSize => match chunk_size(line) {
                Some(0) => {
                    self.place = Place::Trailer;
                    true
                }
                // With the end of its line.
                Some(size) => {
                    self.place = Place::Chunk(size.saturating_add(2));
                    true
                }
                None => false,
            },
            Place::Trailer => {
                if is_empty {
                    self.place = Place::Head;
                }
                true
            }
            Place::Body(_) | Place::Chunk(_) | Place::Anywhere => true,
        }
    }

    /// Takes note of a header; says whether it leaves no doubt where the body ends.
    fn is_clear_header(&mut self, line: &[u8], len: usize) -> bool {
        let Some(colon) = memchr::memchr(b':', line) else { return true };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let digits = std::str::from_utf8(value).ok().filter(|_| len <= LINE_BYTES);
            let length = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let Some(length) = length.and_then(|digits| digits.parse().ok()) else { return false };
            if self.length.replace(length).is_some() {
                return false;
            }
        }
        !(self.is_chunked && self.length.is_some())
    }
}

/// The most digits of a chunk's size: with zeros before it, it could go on behind what is looked at.
const SIZE_DIGITS: usize = 16;

/// The size of a chunk, as its line begins.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if end > SIZE_DIGITS {
        return None;
    }
    let digits = std::str::from_utf8(&line[..end]).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// A connection from which only what every server understands alike is read.
#[derive(Debug)]
pub(super) struct StrictIo<T> {
    io: T,
    follower: Follower,
}

impl<T> StrictIo<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, follower: Follower::new() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for StrictIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.follower.follow(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for StrictIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What becomes of a stream that arrives in pieces of `size`.
    fn followed(stream: &[u8], size: usize) -> Vec<u8> {
        let (mut follower, mut out) = (Follower::new(), stream.to_vec());
        for piece in out.chunks_mut(size) {
            follower.follow(piece);
        }
        out
    }

    /// Requests one after another, each of which leaves no doubt.
    const CLEAR: &[u8] = b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /v2/a HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nA: 1\nB: 2\n\n\n\
        \r\nPATCH /v2/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na\nb\nc\r\na;x=y\r\n0123\n56789\r\n0\r\nT: 1\r\n\r\n\
        PUT /v2/a HTTP/1.1\r\ncontent-length:0\r\nX: y\r\n\r\n\
        GET /v2/ HTTP/1.0\r\n\r\n";

    #[test]
    fn requests_that_leave_no_doubt_pass_in_whatever_pieces_they_come() {
        for size in 1..=CLEAR.len() {
            assert_eq!(followed(CLEAR, size), CLEAR, "{size}");
        }
    }

    #[test]
    fn what_leaves_a_doubt_is_spoiled_behind_other_requests_too() {
        let many_zeros = [
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            &[b'0'; LINE_BYTES][..],
            b"5\r\nabcde\r\n",
        ]
        .concat();
        let doubts: [&[u8]; 9] = [
            &many_zeros,
            b"GET / HTTP/1.1\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        ];
        for doubt in doubts {
            for size in [1, 7, 4096] {
                let stream = [CLEAR, doubt].concat();
                let out = followed(&stream, size);
                assert_eq!(out[..CLEAR.len()], *CLEAR);
                let spoiled = out.split(|byte| *byte == SPOILED).count() - 1;
                assert_eq!(spoiled, 1, "{size} {:?}", String::from_utf8_lossy(doubt));
            }
        }
    }

    #[test]
    fn http_2_is_left_alone() {
        let stream = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\n\n\n";
        assert_eq!(followed(stream, 3), stream);
    }

    /// Lines as they come, and as they should not.
    fn any_line() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop::sample::select(vec![
            "GET / HTTP/1.1",
            "Content-Length: 3",
            "content-length:0",
            "Transfer-Encoding: chunked",
            "X: y",
            "5",
            "0",
            "",
            "\r",
            "abc",
            "PRI * HTTP/2.0",
        ]);
        let ends = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", ""]);
        (pieces, 0_usize..100, ends).prop_map(|(piece, more, end)| {
            // Some of them longer than what is looked at.
            let more = if more > 70 { " ".repeat(more) } else { String::new() };
            [piece, &more, end].concat().into_bytes()
        })
    }

    proptest! {
        #[test]
        fn lines_mean_the_same_in_whatever_pieces_they_come(
            lines in prop::collection::vec(any_line(), 0..12), size in 1_usize..50,
        ) {
            let stream = lines.concat();
            prop_assert_eq!(followed(&stream, size), followed(&stream, stream.len().max(1)));
        }

        #[test]
        fn nothing_a_stranger_sends_is_too_much(stream in any::<Vec<u8>>(), size in 1_usize..50) {
            prop_assert_eq!(followed(&stream, size).len(), stream.len());
        }
    }
}
