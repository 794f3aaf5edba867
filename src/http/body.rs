//! The bodies of blob answers: parts of a file and the text between them, read without ever stalling other requests.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::fsio::ReadNow;
use crate::registry::{BlobReader, GrowingReader};

use super::buffers::{Buffer, BufferPool, Lane};
use super::ranges::{ByteRange, Multipart};

/// An open blob, as a body reads it.
pub(super) trait ReadBlob: Clone + Send + Unpin + 'static {
    /// Reads what is in memory at `offset`, without waiting for the disk.
    fn read_at_now(&self, space: &mut [u8], offset: u64) -> io::Result<ReadNow>;
    /// Reads at `offset`, which may wait for the disk; zero bytes mean the end of the file.
    fn read_at(&self, space: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Waits until the byte at `offset` is there at all, for a blob that is still coming.
    fn poll_readable(&mut self, _offset: u64, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    /// Whether [`poll_readable`](ReadBlob::poll_readable) may have to wait.
    fn is_growing(&self) -> bool {
        false
    }
}

impl ReadBlob for GrowingReader {
    fn read_at_now(&self, space: &mut [u8], offset: u64) -> io::Result<ReadNow> {
        GrowingReader::read_at_now(self, space, offset)
    }

    fn read_at(&self, space: &mut [u8], offset: u64) -> io::Result<usize> {
        GrowingReader::read_at(self, space, offset)
    }

    fn poll_readable(&mut self, offset: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        GrowingReader::poll_readable(self, offset, cx)
    }

    fn is_growing(&self) -> bool {
        true
    }
}

impl ReadBlob for BlobReader {
    fn read_at_now(&self, space: &mut [u8], offset: u64) -> io::Result<ReadNow> {
        BlobReader::read_at_now(self, space, offset)
    }

    fn read_at(&self, space: &mut [u8], offset: u64) -> io::Result<usize> {
        BlobReader::read_at(self, space, offset)
    }
}

/// What all blob bodies of one server share: the buffers, and whether the store can be read without waiting.
#[derive(Debug, Clone)]
pub(super) struct BlobBodies {
    buffers: BufferPool,
    /// The file system of the store can't say whether bytes are in memory (tmpfs and overlayfs can't); set once.
    always_waits: Arc<AtomicBool>,
}

impl BlobBodies {
    /// Bodies that take their memory from `buffers`.
    pub(super) fn new(buffers: BufferPool) -> Self {
        Self { buffers, always_waits: Arc::default() }
    }

    /// A body of one part of a blob; its length is exactly the part's.
    pub(super) fn part<R: ReadBlob>(&self, blob: R, part: ByteRange) -> BlobBody<R> {
        let segments = if part.len() == 0 { VecDeque::new() } else { VecDeque::from([Segment::File(part)]) };
        self.body(blob, segments, part.len())
    }

    /// A body of several parts of a blob in the frame of `multipart/byteranges`.
    pub(super) fn multipart<R: ReadBlob>(
        &self,
        blob: R,
        parts: &[ByteRange],
        frame: Multipart,
    ) -> BlobBody<R> {
        let len = frame.text_len() + parts.iter().map(|part| part.len()).sum::<u64>();
        let (preambles, ending) = frame.into_texts();
        let segments = preambles
            .into_iter()
            .zip(parts)
            .flat_map(|(preamble, part)| [Segment::Text(preamble), Segment::File(*part)])
            .chain([Segment::Text(ending)])
            .collect();
        self.body(blob, segments, len)
    }

    fn body<R: ReadBlob>(&self, blob: R, segments: VecDeque<Segment>, len: u64) -> BlobBody<R> {
        BlobBody {
            lane: self.buffers.lane(),
            always_waits: Arc::clone(&self.always_waits),
            state: BodyState::Idle(Cursor { blob, segments }),
            remaining: len,
        }
    }
}

/// A body that reads a blob in chunks.
///
/// A chunk that is in memory is read where the body is polled: handing it to another thread would cost more than
/// copying it. Any other chunk is read on the blocking pool. A file that is shorter than its record ends the body with
/// an error, which ends the connection, so that no client takes a part for the whole.
#[derive(Debug)]
pub(super) struct BlobBody<R> {
    lane: Lane,
    always_waits: Arc<AtomicBool>,
    state: BodyState<R>,
    /// The bytes that haven't been given out.
    remaining: u64,
}

#[derive(Debug)]
enum BodyState<R> {
    Idle(Cursor<R>),
    Reading(JoinHandle<(Cursor<R>, Buffer, io::Result<()>)>),
    Ended,
}

/// Where a body stands in its parts.
#[derive(Debug)]
struct Cursor<R> {
    blob: R,
    segments: VecDeque<Segment>,
}

/// A piece of a body; file pieces shrink as they are read.
#[derive(Debug)]
enum Segment {
    Text(Bytes),
    File(ByteRange),
}

/// Why a buffer was not filled to its end.
#[derive(Debug, PartialEq, Eq)]
enum Gap {
    /// It was filled, or the body ended.
    None,
    /// The next bytes have to come from the disk.
    OnDisk,
    /// The file system doesn't say where the next bytes are.
    Unknown,
}

impl<R: ReadBlob> Cursor<R> {
    /// Fills `buffer` from its front with what comes next in the body, and says why it stopped.
    fn fill(
        &mut self,
        buffer: &mut Buffer,
        read: impl Fn(&R, &mut [u8], u64) -> io::Result<ReadNow>,
    ) -> io::Result<Gap> {
        let mut filled = 0;
        let mut gap = Gap::None;
        let space = buffer.space();
        while let Some(segment) = self.segments.front_mut().filter(|_| filled < space.len()) {
            let space = &mut space[filled..];
            match segment {
                Segment::Text(text) => {
                    let text = text.split_to(text.len().min(space.len()));
                    space[..text.len()].copy_from_slice(&text);
                    filled += text.len();
                }
                Segment::File(part) => {
                    let wanted = usize::try_from(part.len()).unwrap_or(usize::MAX).min(space.len());
                    match read(&self.blob, &mut space[..wanted], part.start)? {
                        // The next part hasn't come yet.
                        ReadNow::Read(0) if self.blob.is_growing() && filled > 0 => break,
                        ReadNow::Read(0) => {
                            let short = "the blob's file is shorter than its record says";
                            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, short));
                        }
                        ReadNow::Read(len) => {
                            part.start += len as u64;
                            filled += len;
                        }
                        ReadNow::NotInMemory => gap = Gap::OnDisk,
                        ReadNow::Unsupported => gap = Gap::Unknown,
                    }
                    if gap != Gap::None {
                        break;
                    }
                }
            }
            let is_done = match segment {
                Segment::Text(text) => text.is_empty(),
                Segment::File(part) => part.len() == 0,
            };
            if is_done {
                self.segments.pop_front();
            }
        }
        buffer.set_filled(filled);
        Ok(gap)
    }

    fn fill_now(&mut self, buffer: &mut Buffer) -> io::Result<Gap> {
        self.fill(buffer, R::read_at_now)
    }

    /// Fills `buffer` on the blocking pool.
    fn fill_waiting(mut self, mut buffer: Buffer) -> BodyState<R> {
        BodyState::Reading(spawn_blocking(move || {
            let read = |blob: &R, space: &mut [u8], offset| blob.read_at(space, offset).map(ReadNow::Read);
            let result = self.fill(&mut buffer, read).map(|_| ());
            (self, buffer, result)
        }))
    }
}

impl<R: ReadBlob> BlobBody<R> {
    /// The bytes that are still to be given out.
    pub(super) fn len(&self) -> u64 {
        self.remaining
    }

    fn give(&mut self, buffer: Buffer) -> Frame<Bytes> {
        let chunk = Bytes::from_owner(buffer);
        self.remaining -= chunk.len() as u64;
        Frame::data(chunk)
    }

    /// The next chunk, or an error after which the body has ended.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match std::mem::replace(&mut self.state, BodyState::Ended) {
                BodyState::Ended => return Poll::Ready(None),
                BodyState::Idle(_) if self.remaining == 0 => return Poll::Ready(None),
                BodyState::Idle(mut cursor) => {
                    if let Some(Segment::File(part)) = cursor.segments.front() {
                        let offset = part.start;
                        match cursor.blob.poll_readable(offset, cx) {
                            Poll::Ready(Ok(())) => {}
                            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                            Poll::Pending => {
                                self.state = BodyState::Idle(cursor);
                                return Poll::Pending;
                            }
                        }
                    }
                    let Poll::Ready(mut buffer) = self.lane.poll_take(cx, self.remaining) else {
                        self.state = BodyState::Idle(cursor);
                        return Poll::Pending;
                    };
                    let gap = if self.always_waits.load(Ordering::Relaxed) {
                        Gap::OnDisk
                    } else {
                        match cursor.fill_now(&mut buffer) {
                            Ok(gap) => gap,
                            Err(error) => return Poll::Ready(Some(Err(error))),
                        }
                    };
                    if gap == Gap::Unknown {
                        self.always_waits.store(true, Ordering::Relaxed);
                    }
                    if !buffer.as_ref().is_empty() {
                        self.state = BodyState::Idle(cursor);
                        return Poll::Ready(Some(Ok(self.give(buffer))));
                    }
                    self.state = cursor.fill_waiting(buffer);
                }
                BodyState::Reading(mut reading) => {
                    let Poll::Ready(read) = Pin::new(&mut reading).poll(cx) else {
                        self.state = BodyState::Reading(reading);
                        return Poll::Pending;
                    };
                    let (cursor, buffer, result) = read.map_err(io::Error::other)?;
                    result?;
                    let frame = self.give(buffer);
                    // Where every read waits, the next one runs while this chunk is being sent.
                    let may_run_ahead =
                        self.always_waits.load(Ordering::Relaxed) && !cursor.blob.is_growing();
                    let ahead = (may_run_ahead && self.remaining > 0)
                        .then(|| self.lane.try_take(self.remaining))
                        .flatten();
                    self.state = match ahead {
                        Some(buffer) => cursor.fill_waiting(buffer),
                        None => BodyState::Idle(cursor),
                    };
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
    }
}

impl<R: ReadBlob> Body for BlobBody<R> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(ready!(self.get_mut().poll_chunk(cx)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the blobs of the tests are small")]
mod tests {
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::super::ranges::{Selection, select};
    use super::*;

    /// A blob of which only every other page can be read at once, or none.
    #[derive(Debug, Clone)]
    struct Memory {
        bytes: Arc<Vec<u8>>,
        now: Now,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Now {
        Always,
        Sometimes,
        Never,
        Unsupported,
    }

    impl ReadBlob for Memory {
        fn read_at_now(&self, space: &mut [u8], offset: u64) -> io::Result<ReadNow> {
            match self.now {
                Now::Unsupported => Ok(ReadNow::Unsupported),
                Now::Never => Ok(ReadNow::NotInMemory),
                Now::Sometimes if offset % 8192 >= 4096 => Ok(ReadNow::NotInMemory),
                Now::Sometimes => {
                    let end = space.len().min(4096 - offset as usize % 4096);
                    self.read_at(&mut space[..end], offset).map(ReadNow::Read)
                }
                Now::Always => self.read_at(space, offset).map(ReadNow::Read),
            }
        }

        fn read_at(&self, space: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = self.bytes.get(offset as usize..).unwrap_or_default();
            let len = rest.len().min(space.len());
            space[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }
    }

    fn blob(len: usize, now: Now) -> Memory {
        Memory { bytes: Arc::new((0..len).map(|at| (at * 7 + at / 251) as u8).collect()), now }
    }

    fn bodies() -> BlobBodies {
        BlobBodies::new(BufferPool::new(32 << 20))
    }

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    async fn read<R: ReadBlob>(mut body: BlobBody<R>) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let len = body.size_hint().exact().expect("an exact length");
        while let Some(frame) = body.frame().await {
            all.extend_from_slice(&frame?.into_data().expect("data"));
            assert_eq!(body.size_hint().exact(), Some(len - all.len() as u64));
        }
        assert!(body.is_end_stream());
        Ok(all)
    }

    #[test]
    fn a_body_gives_the_bytes_of_its_part_however_they_can_be_read() {
        for now in [Now::Always, Now::Sometimes, Now::Never, Now::Unsupported] {
            let blob = blob(1_000_000, now);
            for (start, end) in [(0, 1_000_000), (1, 2), (4095, 700_001), (999_999, 1_000_000)] {
                let body = bodies().part(blob.clone(), ByteRange { start, end });
                let bytes = run(read(body)).expect("bytes");
                assert!(bytes == blob.bytes[start as usize..end as usize], "{now:?} {start}-{end}");
            }
        }
    }

    #[test]
    fn an_empty_blob_has_an_ended_body() {
        let body = bodies().part(blob(0, Now::Always), ByteRange { start: 0, end: 0 });
        assert!(body.is_end_stream());
        assert_eq!(run(read(body)).expect("no bytes"), b"");
    }

    #[test]
    fn a_file_shorter_than_its_record_ends_the_body_with_an_error() {
        for now in [Now::Always, Now::Never, Now::Unsupported] {
            let body = bodies().part(blob(100_000, now), ByteRange { start: 0, end: 100_001 });
            let error = run(read(body)).expect_err("a short file");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_store_that_cannot_say_what_is_in_memory_is_asked_once() {
        let bodies = bodies();
        run(read(bodies.part(blob(10, Now::Unsupported), ByteRange { start: 0, end: 10 }))).expect("bytes");
        assert!(bodies.always_waits.load(Ordering::Relaxed));
        run(read(bodies.part(blob(10, Now::Always), ByteRange { start: 0, end: 10 }))).expect("bytes");
    }

    #[test]
    fn a_body_that_is_dropped_while_it_reads_gives_its_memory_back() {
        let bodies = bodies();
        run(async {
            let mut body =
                bodies.part(blob(10 << 20, Now::Unsupported), ByteRange { start: 0, end: 10 << 20 });
            body.frame().await.expect("a frame").expect("bytes");
            assert!(bodies.buffers.taken() > 0);
        });
        // The end of the runtime waited for the read that was going on.
        assert_eq!(bodies.buffers.taken(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_multipart_body_holds_each_range_in_its_part(
            header in "bytes=([0-9]{1,5}-[0-9]{1,5},){2,40}0-0",
            now in prop::sample::select(vec![Now::Always, Now::Sometimes, Now::Never, Now::Unsupported]),
        ) {
            let blob = blob(70_000, now);
            let Ok(Selection::Many(ranges)) = select(&header, 70_000) else { return Ok(()) };
            let frame = Multipart::new(&ranges, 70_000);
            let content_type = frame.content_type();
            let delimiter = format!("--{}", content_type.split_once('=').expect("a boundary").1);
            let body = bodies().multipart(blob.clone(), &ranges, frame);
            let bytes = run(read(body)).expect("bytes");

            let mut rest = bytes.as_slice();
            for range in &ranges {
                let head = format!(
                    "{delimiter}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {}-{}/70000\r\n\r\n",
                    range.start, range.end - 1);
                rest = rest.strip_prefix(head.as_bytes()).expect("the part's head");
                let (part, after) = rest.split_at(range.len() as usize);
                prop_assert!(part == &blob.bytes[range.start as usize..range.end as usize]);
                rest = after.strip_prefix(b"\r\n").expect("the end of the part");
            }
            let ending = format!("{delimiter}--\r\n");
            prop_assert_eq!(rest, ending.as_bytes());
        }
    }
}
