//! Blobs that no two pushes share, and that nothing can compress.

use std::fs::File;
use std::io::Read;

use orlop::oci::{Digest, DigestAlgorithm, Hasher};

use crate::load::exchange::{BYTES, request, send};
use crate::program::Program;

/// 1 MiB.
pub(crate) const MIB: u64 = 1 << 20;

/// The name of the repository that blobs are pushed to.
pub(crate) const REPOSITORY: &str = "bench/blobs";

/// The random bytes that are repeated, at most.
const PIECE: u64 = 4 * MIB;

/// The bytes of a blob: a page with a number that makes it different from all others, then random bytes, the same 4 MiB over and over.
#[derive(Debug)]
pub(crate) struct Blob {
    first: Vec<u8>,
    piece: Vec<u8>,
    repeat: usize,
    digest: Digest,
}

impl Blob {
    /// A blob of so many MiB (a power of two, or a multiple of 4) that nobody has.
    pub(crate) fn new(bytes: u64) -> Blob {
        let mut random = File::open("/dev/urandom").expect("it opens");
        let mut piece = vec![0; usize::try_from(PIECE.min(bytes)).expect("it fits")];
        random.read_exact(&mut piece).expect("it never ends");
        assert_eq!(bytes % piece.len() as u64, 0, "a blob is of whole pieces");
        let mut blob = Blob {
            first: Vec::new(),
            repeat: usize::try_from(bytes).expect("it fits") / piece.len(),
            piece,
            digest: Digest::of(DigestAlgorithm::CANONICAL, b""),
        };
        blob.renew();
        blob
    }

    /// Makes it another blob of the same length that nobody has.
    pub(crate) fn renew(&mut self) {
        let mut random = File::open("/dev/urandom").expect("it opens");
        self.first.clone_from(&self.piece);
        random.read_exact(&mut self.first[..4096]).expect("it never ends");
        let mut hasher = Hasher::new(DigestAlgorithm::CANONICAL);
        self.pieces().for_each(|piece| hasher.update(piece));
        self.digest = hasher.finish();
    }

    /// Its digest.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> u64 {
        (self.piece.len() * self.repeat) as u64
    }

    /// Its bytes.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.first[..]).chain((1..self.repeat).map(|_| &self.piece[..]))
    }

    /// Some of its bytes.
    pub(crate) fn part(&self, from: u64, length: u64) -> impl Iterator<Item = &[u8]> {
        let (size, end) = (self.piece.len() as u64, from + length);
        let mut at = from;
        std::iter::from_fn(move || {
            let piece = if at < size { &self.first } else { &self.piece };
            let start = at % size;
            let stop = size.min(start + end - at);
            at += stop - start;
            let place = |offset: u64| usize::try_from(offset).expect("a piece fits in memory");
            (stop > start).then(|| &piece[place(start)..place(stop)])
        })
    }

    /// Where it is, in the repository [`REPOSITORY`] of any registry.
    pub(crate) fn target(&self) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.digest)
    }

    /// Pushes it in one piece: a session, then everything with its end.
    pub(crate) fn push(&self, registry: &Program) {
        let session = request(registry.address(), "POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"));
        assert_eq!(session.status(), 202, "{}: a session", registry.name());
        let location = path_of(session.header("location").expect("a session has a location"));
        let separator = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{separator}digest={}", self.digest);
        let status = self.send(registry, "PUT", &target);
        assert_eq!(status, 201, "{}: a push", registry.name());
    }

    /// Sends all of it as the body of a request.
    pub(crate) fn send(&self, to: &Program, method: &str, target: &str) -> u16 {
        send(to.address(), method, target, BYTES, &self.first, &self.piece, self.repeat - 1).status()
    }
}

/// The path of a location, which may be absolute.
pub(crate) fn path_of(location: &str) -> &str {
    let Some((_, rest)) = location.split_once("://") else { return location };
    rest.find('/').map_or("/", |path| &rest[path..])
}
