//! A client that tries again where the server was killed, and holds it to what it has said.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use crate::arena::{Arena, Run};
use crate::content::{Blob, Image};
use crate::counts::Counts;
use crate::random::Random;
use crate::wire::{Answer, Body, Connection};

/// The server was killed in the middle of a request.
#[derive(Debug)]
pub(crate) struct Broken;

pub(crate) struct Client<'a> {
    arena: &'a Arena,
    run: Option<Run>,
    connection: Option<Connection<'static>>,
    /// How long what was promised holds.
    lease: Duration,
    pub(crate) counts: Counts,
    pub(crate) requests: u64,
    /// The digests of all blobs and manifests that were there at some time.
    pub(crate) seen: HashSet<String>,
}

impl<'a> Client<'a> {
    pub(crate) fn new(arena: &'a Arena, lease: Duration) -> Self {
        Self {
            arena,
            run: None,
            connection: None,
            lease,
            counts: Counts::default(),
            requests: 0,
            seen: HashSet::new(),
        }
    }

    /// Counts an operation that has come to its end.
    pub(crate) fn did(&mut self, kind: &'static str) {
        self.counts.add(kind);
    }

    /// Whether what was promised at `since` need not hold any more.
    pub(crate) fn is_over(&self, since: Instant) -> bool {
        since.elapsed() >= self.lease
    }

    fn connect(&mut self) -> Result<(), Broken> {
        if self.connection.is_none() {
            let former =
                self.run.map_or(0, |run| if run.killer.is_done() { run.number } else { run.number - 1 });
            let run = self.arena.run_after(former);
            self.run = Some(run);
            match Connection::open(run.address, run.killer) {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => return Err(self.broken(&error)),
            }
        }
        Ok(())
    }

    fn broken(&mut self, error: &io::Error) -> Broken {
        self.connection = None;
        let is_killed = self.run.is_some_and(|run| run.killer.is_done());
        assert!(is_killed, "the connection broke before the server was killed: {error}");
        Broken
    }

    /// Sends a request once.
    pub(crate) fn once(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> Result<Answer, Broken> {
        self.connect()?;
        let connection = self.connection.as_mut().expect("just connected");
        match connection.request(method, path, headers, body) {
            Ok(answer) => {
                self.requests += 1;
                Ok(answer)
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Sends a request that may come twice, until it is answered.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> Answer {
        loop {
            if let Ok(answer) = self.once(method, path, headers, body) {
                return answer;
            }
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], Body::Empty)
    }

    /// Takes care that the repository has the blob, as clients do; returns from when on that is promised.
    pub(crate) fn ensure_blob(
        &mut self,
        repository: &str,
        blob: &Blob,
        others: &[String],
        random: &mut Random,
    ) -> Instant {
        loop {
            let since = Instant::now();
            let path = format!("/v2/{repository}/blobs/{}", blob.digest);
            match self.send("HEAD", &path, &[], Body::Empty).status {
                // Some clients push all the same.
                200 if random.below(8) > 0 => {
                    self.did("blob that was there, by HEAD");
                    return since;
                }
                200 | 404 => {}
                status => panic!("HEAD {path}: {status}"),
            }
            let since = Instant::now();
            if self.push_blob(repository, blob, others, random).is_ok() {
                self.expect_blob(repository, blob, since);
                self.seen.insert(blob.digest.clone());
                return since;
            }
        }
    }

    /// What was acknowledged just now has to be there.
    fn expect_blob(&mut self, repository: &str, blob: &Blob, since: Instant) {
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        let answer = self.send("HEAD", &path, &[], Body::Empty);
        assert!(
            answer.status == 200 || self.is_over(since),
            "the blob {} of {repository} was acknowledged and is unknown",
            blob.digest
        );
    }

    fn push_blob(
        &mut self,
        repository: &str,
        blob: &Blob,
        others: &[String],
        random: &mut Random,
    ) -> Result<(), Broken> {
        let (digest, bytes) = (&blob.digest, blob.bytes.as_slice());
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        match random.below(10) {
            0..=2 if !others.is_empty() => {
                let from = random.pick(others).expect("there are some");
                let answer =
                    self.once("POST", &format!("{uploads}?mount={digest}&from={from}"), &[], Body::Empty)?;
                if answer.status == 201 {
                    self.did("mount");
                    return Ok(());
                }
                let location = answer.expect(202).header("location").unwrap().to_owned();
                self.once("PUT", &with_digest(&location, digest), &[], Body::Whole(bytes))?.expect(201);
                self.did("blob in two requests, after a mount that found nothing");
            }
            0..=3 => {
                self.once("POST", &format!("{uploads}?digest={digest}"), &[], Body::Whole(bytes))?
                    .expect(201);
                self.did("blob in one request");
            }
            4..=5 => {
                let location = self.begin(&uploads)?;
                self.once("PUT", &with_digest(&location, digest), &[], Body::Whole(bytes))?.expect(201);
                self.did("blob in two requests");
            }
            6..=7 => {
                let location = self.begin(&uploads)?;
                let answer = self.once("PATCH", &location, &[], Body::Streamed(bytes))?.expect(202);
                let location = answer.header("location").unwrap().to_owned();
                self.once("PUT", &with_digest(&location, digest), &[], Body::Empty)?.expect(201);
                self.did("blob streamed, as Docker does");
            }
            8 => {
                let location = self.begin(&uploads)?;
                self.push_chunks(location, blob, 0, random)?;
                self.did("blob in chunks");
            }
            _ => self.push_broken_off(&uploads, blob, random)?,
        }
        Ok(())
    }

    fn begin(&mut self, uploads: &str) -> Result<String, Broken> {
        let answer = self.once("POST", uploads, &[], Body::Empty)?.expect(202);
        Ok(answer.header("location").unwrap().to_owned())
    }

    /// Sends the bytes from `start` on in chunks. Where the server is killed in between, goes on from where it says it stands.
    fn push_chunks(
        &mut self,
        mut location: String,
        blob: &Blob,
        mut start: usize,
        random: &mut Random,
    ) -> Result<(), Broken> {
        let bytes = blob.bytes.as_slice();
        while start < bytes.len() {
            let longest = 1 + bytes.len() as u64 / 2;
            // An upload of one byte stands where one without any does, as far as can be told.
            let end = (start + 2 + usize::try_from(random.below(longest)).unwrap()).min(bytes.len());
            let range = format!("{start}-{}", end - 1);
            let headers = [("Content-Range", range.as_str()), ("Content-Type", "application/octet-stream")];
            match self.once("PATCH", &location, &headers, Body::Whole(&bytes[start..end])) {
                // What was broken off has come after all.
                Ok(answer) if answer.status == 416 => {
                    (location, start) = self.stand(&location, start..bytes.len())?;
                }
                Ok(answer) => {
                    start = end;
                    answer.expect(202).header("location").unwrap().clone_into(&mut location);
                }
                Err(Broken) => {
                    (location, start) = self.stand(&location, start..bytes.len())?;
                    self.did("upload resumed after a kill");
                }
            }
        }
        self.once("PUT", &with_digest(&location, &blob.digest), &[], Body::Empty)?.expect(201);
        Ok(())
    }

    /// Where an upload stands, which must be within the range. One that has not a byte may be lost with the server.
    fn stand(&mut self, location: &str, range: std::ops::Range<usize>) -> Result<(String, usize), Broken> {
        let answer = self.get(location);
        if answer.status == 404 && range.start == 0 {
            return Err(Broken);
        }
        let answer = answer.expect(204);
        let last: usize = answer.header("range").unwrap().strip_prefix("0-").unwrap().parse().unwrap();
        let stand = if last == 0 { 0 } else { last + 1 };
        assert!(range.contains(&stand) || stand == range.end, "{range:?} was sent, and it stands at {stand}");
        Ok((answer.header("location").unwrap().to_owned(), stand))
    }

    /// Breaks the connection off in the middle of a chunk, and goes on over another one.
    fn push_broken_off(&mut self, uploads: &str, blob: &Blob, random: &mut Random) -> Result<(), Broken> {
        let location = self.begin(uploads)?;
        let len = blob.bytes.len();
        let sent = 2 + usize::try_from(random.below(len as u64 - 2)).unwrap();
        let connection = self.connection.take().expect("it was used just now");
        if let Err(error) = connection.break_off(&location, &blob.bytes, sent) {
            return Err(self.broken(&error));
        }
        let (location, stand) = self.stand(&location, 0..len)?;
        self.push_chunks(location, blob, stand, random)?;
        self.did("blob resumed after an interruption");
        Ok(())
    }

    /// Pushes a manifest that names what was promised at `promised`; says whether it is there. It has to be, unless the
    /// promise is over.
    pub(crate) fn put_manifest(
        &mut self,
        repository: &str,
        reference: &str,
        image: &Image,
        promised: Instant,
    ) -> bool {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let headers = [("Content-Type", image.media_type)];
        let answer = self.send("PUT", &path, &headers, Body::Whole(&image.bytes));
        if answer.status == 404 || answer.status == 400 {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(text.contains("BLOB_UNKNOWN"), "PUT {path}: {text}");
            assert!(self.is_over(promised), "PUT {path} within the lease: {text}");
            self.did("push that took longer than the lease");
            return false;
        }
        answer.expect(201);
        self.seen.insert(image.digest.clone());
        true
    }

    /// Pulls a manifest with all that it names, which has to be there while `must` says so.
    pub(crate) fn pull(
        &mut self,
        repository: &str,
        reference: &str,
        image: &Image,
        must: &dyn Fn(&Client<'_>) -> bool,
    ) {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let answer = self.get(&path);
        if answer.status != 200 {
            assert!(answer.status == 404 && !must(self), "GET {path}: {}", answer.status);
            return;
        }
        assert!(answer.body == image.bytes, "GET {path} answers with another manifest");
        for blob in &image.blobs {
            let path = format!("/v2/{repository}/blobs/{}", blob.digest);
            let answer = self.get(&path);
            if answer.status == 200 {
                assert!(answer.body == blob.bytes, "GET {path} answers with other bytes");
            } else {
                assert!(answer.status == 404 && !must(self), "GET {path} of {reference}: {}", answer.status);
            }
        }
        for child in &image.children {
            self.pull(repository, &child.digest, child, must);
        }
    }
}

fn with_digest(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}
