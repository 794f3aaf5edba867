//! The check of files: that each blob's is there, has the right length and, if asked for, the right bytes.
//!
//! Blobs are looked at one by one in the order of their digests, outside of any transaction, so that nobody waits and a
//! later check can go on where this one was interrupted. What looks wrong is looked at once more under the digest's lock,
//! since the blob may have been pushed anew or collected meanwhile.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::verify::{Depth, VerifyReport};
use super::{Error, Inner, quarantine, sessions};
use crate::blobs::DigestGuard;
use crate::clock::{Timestamp, monotonic};
use crate::fsio::{read_small, replace_small};
use crate::metadata::blobs::{self, DamagedRecord};
use crate::oci::{Digest, DigestAlgorithm, Hasher};

/// The file in the data directory that remembers how far a full check has come.
const STATE_FILE: &str = "scrub.json";
/// The most bytes that such a file has.
const STATE_BYTES: usize = 1 << 20;
/// How much may have to be done again after an interruption.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// The time between two words about progress.
const TELL_INTERVAL: Duration = Duration::from_millis(100);
/// How many rows one transaction reads.
const PAGE: usize = 1000;
/// How much is read at once.
const BUFFER_BYTES: usize = 1 << 20;
/// The most damaged blobs that are remembered for a resumed check.
const MAX_REMEMBERED: usize = 1000;

/// What a check does about what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Nothing.
    Report,
    /// Moves the files of damaged blobs into the quarantine, so that clients push them again.
    Quarantine,
    /// The same, mends what can be derived, during which writes wait, and removes files that nothing names.
    Repair,
}

/// How a store is checked.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// How much is read.
    pub depth: Depth,
    /// The most bytes of blobs that are read in a second.
    pub rate: Option<NonZeroU64>,
    /// Goes on where an earlier full check was interrupted, if one was.
    pub resume: bool,
    /// What is done about what is found. A check that does something is not for an async thread.
    pub treatment: Treatment,
    /// Nobody else is at work on the store. A full check then also compares the metadata with their own checksums, for
    /// which everybody would have to wait.
    pub is_alone: bool,
}

impl VerifyOptions {
    /// A check of the whole store, as fast as it goes, beside others, which changes nothing.
    pub fn new(depth: Depth) -> VerifyOptions {
        VerifyOptions { depth, rate: None, resume: false, treatment: Treatment::Report, is_alone: false }
    }
}

/// How far the check of files has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// The blobs that were looked at.
    pub blobs: u64,
    /// All blobs, as of the beginning.
    pub total_blobs: u64,
    /// The bytes of the blobs that were looked at.
    pub bytes: u64,
    /// The bytes of all blobs, as of the beginning.
    pub total_bytes: u64,
}

/// What [`STATE_FILE`] holds, as JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    /// When the check began, in milliseconds since 1970.
    started_at: u64,
    /// The last blob that was looked at.
    after: Option<Digest>,
    blobs: u64,
    bytes: u64,
    /// Blobs that something was wrong with, to be looked at again.
    damaged: Vec<Digest>,
}

/// A check under way.
struct Scrub<'i> {
    inner: &'i Inner,
    options: &'i VerifyOptions,
    tell: &'i mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    progress: VerifyProgress,
    told_at: Instant,
    state: State,
    saved_at: Instant,
    pace: Pace,
    buffer: Vec<u8>,
    /// The damaged blobs that stay where they are.
    left: Vec<(Digest, DamagedRecord)>,
}

/// Something that is wrong with a blob's file.
struct Finding {
    /// As a sentence.
    text: String,
    /// Whether the bytes are not there, which a push of the same bytes heals.
    is_damage: bool,
}

/// Checks every file; returns the damaged blobs that were not put into the quarantine.
pub(super) fn check_files(
    inner: &Inner,
    options: &VerifyOptions,
    tell: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    report: &mut VerifyReport,
) -> Result<Vec<(Digest, DamagedRecord)>, Error> {
    let (total_blobs, total_bytes) = totals(inner)?;
    (report.blobs, report.bytes) = (total_blobs, total_bytes);
    let now = monotonic();
    let mut scrub = Scrub {
        inner,
        options,
        tell,
        progress: VerifyProgress { total_blobs, total_bytes, ..VerifyProgress::default() },
        told_at: now,
        state: State { started_at: inner.clock.now().millis(), ..State::default() },
        saved_at: now,
        pace: Pace::new(options.rate),
        buffer: vec![0; if options.depth == Depth::Full { BUFFER_BYTES } else { 0 }],
        left: Vec::new(),
    };
    if options.depth == Depth::Full {
        scrub.begin(report)?;
    }
    scrub.tell()?;
    let result = scrub.blobs(report);
    if let Err(Error::VerifyStopped) = result {
        scrub.save();
    }
    result?;
    if options.depth == Depth::Full {
        inner.disk.remove(&inner.data.join(STATE_FILE))?;
    }
    scrub.orphans(report)?;
    Ok(scrub.left)
}

/// How many blobs there are, and how many bytes they have.
fn totals(inner: &Inner) -> Result<(u64, u64), Error> {
    let (mut count, mut bytes, mut after) = (0, 0, None);
    loop {
        let page = inner.metadata.read(|tx| blobs::page(tx, after.as_ref(), PAGE))?;
        let Some((last, _)) = page.last() else { return Ok((count, bytes)) };
        after = Some(*last);
        count += page.len() as u64;
        bytes += page.iter().map(|(_, record)| record.size).sum::<u64>();
    }
}

impl Scrub<'_> {
    /// Takes up what an interrupted check has left, or begins anew.
    fn begin(&mut self, report: &mut VerifyReport) -> Result<(), Error> {
        let found = if self.options.resume { self.load() } else { None };
        if let Some(state) = found {
            let started_at = Timestamp::from_millis(state.started_at);
            tracing::info!(%started_at, blobs = state.blobs, "going on with the check that was interrupted");
            for digest in &state.damaged {
                if let Some(record) = self.inner.metadata.read(|tx| blobs::get(tx, digest))? {
                    self.check(digest, record.size, report)?;
                }
            }
            (self.progress.blobs, self.progress.bytes) = (state.blobs, state.bytes);
            self.state = State { damaged: std::mem::take(&mut self.state.damaged), ..state };
        }
        Ok(())
    }

    fn is_repair(&self) -> bool {
        self.options.treatment == Treatment::Repair
    }

    fn load(&self) -> Option<State> {
        let path = self.inner.data.join(STATE_FILE);
        let bytes = read_small(self.inner.disk.as_ref(), &path, STATE_BYTES).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read how far the last check came; beginning anew");
            None
        })?;
        let state = serde_json::from_slice(&bytes);
        if let Err(error) = &state {
            tracing::warn!(%error, path = %path.display(), "cannot read how far the last check came; beginning anew");
        }
        state.ok()
    }

    /// Remembers how far the check has come. It goes on where that fails, and can't be resumed then.
    fn save(&mut self) {
        self.saved_at = monotonic();
        if self.options.depth != Depth::Full {
            return;
        }
        let path = self.inner.data.join(STATE_FILE);
        let bytes =
            serde_json::to_vec(&self.state).expect("numbers and digests can always be written as JSON");
        if let Err(error) = replace_small(self.inner.disk.as_ref(), &path, &bytes) {
            tracing::warn!(%error, "cannot remember how far the check has come");
        }
    }

    fn blobs(&mut self, report: &mut VerifyReport) -> Result<(), Error> {
        loop {
            let after = self.state.after;
            let page = self.inner.metadata.read(|tx| blobs::page(tx, after.as_ref(), PAGE))?;
            if page.is_empty() {
                return Ok(());
            }
            for (digest, record) in page {
                let before = self.progress.bytes;
                self.check(&digest, record.size, report)?;
                // Whatever was read of it, and however often.
                self.progress.bytes = before + record.size;
                self.progress.blobs += 1;
                let VerifyProgress { blobs, bytes, .. } = self.progress;
                self.state = State { after: Some(digest), blobs, bytes, ..std::mem::take(&mut self.state) };
                if self.saved_at.elapsed() >= SAVE_INTERVAL {
                    self.save();
                }
                self.tell_sometimes()?;
            }
        }
    }

    /// Looks at one blob, and once more under its lock where something is wrong.
    fn check(&mut self, digest: &Digest, size: u64, report: &mut VerifyReport) -> Result<(), Error> {
        if self.look_at(digest, size)?.is_empty() {
            return Ok(());
        }
        let lock = self.lock(digest)?;
        let Some(record) = self.inner.metadata.read(|tx| blobs::get(tx, digest))? else { return Ok(()) };
        let findings = self.look_at(digest, record.size)?;
        if let Some(damage) = findings.iter().find(|finding| finding.is_damage) {
            let set_aside = match self.options.treatment {
                Treatment::Report => Ok(false),
                Treatment::Quarantine | Treatment::Repair => {
                    quarantine::set_aside(self.inner, &lock, digest, &damage.text).map(|()| true)
                }
            };
            match set_aside {
                Ok(true) => tracing::error!(
                    %digest,
                    damage = damage.text,
                    "a damaged blob is out of reach until it is pushed again"
                ),
                Ok(false) => {}
                // As on a full disk: the check goes on.
                Err(error) => {
                    report.problem(format!("the blob {digest} can't be put into quarantine: {error}"));
                }
            }
            let still = self.inner.metadata.read(|tx| blobs::get(tx, digest))?;
            if still.is_some() && self.left.len() < MAX_REMEMBERED {
                let (found_at, reason) = (self.inner.clock.now().millis(), damage.text.clone());
                self.left.push((*digest, DamagedRecord { size: record.size, found_at, reason }));
            }
        }
        if !findings.is_empty() && self.state.damaged.len() < MAX_REMEMBERED {
            self.state.damaged.push(*digest);
        }
        for finding in findings {
            report.problem(finding.text);
        }
        Ok(())
    }

    /// What is wrong with a blob's file.
    fn look_at(&mut self, digest: &Digest, size: u64) -> Result<Vec<Finding>, Error> {
        let damage = |text: String| Ok(vec![Finding { text, is_damage: true }]);
        let fault = |text: String| Ok(vec![Finding { text, is_damage: false }]);
        match self.inner.blobs.blob_len(digest) {
            Err(error) => return fault(format!("the file of the blob {digest} can't be looked at: {error}")),
            Ok(None) => return damage(format!("the file of the blob {digest} is missing")),
            Ok(Some(len)) if len != size => {
                return damage(format!("the file of the blob {digest} has {len} bytes instead of {size}"));
            }
            Ok(Some(_)) if self.options.depth == Depth::Quick => return Ok(Vec::new()),
            Ok(Some(_)) => {}
        }
        let named = self.inner.metadata.read(|tx| blobs::aliases(tx, digest))?;
        match self.hash(digest, named.iter().map(Digest::algorithm))? {
            Err(error) => fault(format!("the blob {digest} can't be read: {error}")),
            Ok(computed) if !computed.contains(digest) => {
                damage(format!("the bytes of the blob {digest} are damaged"))
            }
            Ok(computed) => {
                let wrong = named.iter().filter(|name| !computed.contains(name));
                let text = |wrong| format!("the blob {digest} is known as {wrong}, which it is not");
                Ok(wrong.map(|wrong| Finding { text: text(wrong), is_damage: false }).collect())
            }
        }
    }

    /// The digests of a blob's bytes by the canonical algorithm and by `others`, or why they can't be read.
    fn hash(
        &mut self,
        digest: &Digest,
        others: impl Iterator<Item = DigestAlgorithm>,
    ) -> Result<Result<Vec<Digest>, String>, Error> {
        let file = match self.inner.blobs.open_blob(digest) {
            Err(error) => return Ok(Err(error.to_string())),
            Ok(None) => return Ok(Err("it is missing".to_owned())),
            Ok(Some(file)) => file,
        };
        let algorithms: BTreeSet<_> = others.chain([DigestAlgorithm::CANONICAL]).collect();
        let mut hashers: Vec<Hasher> = algorithms.into_iter().map(Hasher::new).collect();
        let (mut offset, before) = (0, self.progress.bytes);
        let step = self.pace.step(self.buffer.len());
        loop {
            match file.read_at(&mut self.buffer[..step], offset) {
                Err(error) => return Ok(Err(error.to_string())),
                Ok(0) => return Ok(Ok(hashers.into_iter().map(Hasher::finish).collect())),
                Ok(read) => {
                    for hasher in &mut hashers {
                        hasher.update(&self.buffer[..read]);
                    }
                    offset += read as u64;
                    self.progress.bytes = before + offset;
                    self.pace.took(read as u64);
                    self.wait()?;
                }
            }
        }
    }

    /// Waits until the rate allows more, and tells how far the check has come.
    fn wait(&mut self) -> Result<(), Error> {
        loop {
            self.tell_sometimes()?;
            let pause = self.pace.pause();
            if pause.is_zero() {
                return Ok(());
            }
            thread::sleep(pause.min(TELL_INTERVAL));
        }
    }

    fn tell_sometimes(&mut self) -> Result<(), Error> {
        if self.told_at.elapsed() < TELL_INTERVAL { Ok(()) } else { self.tell() }
    }

    fn tell(&mut self) -> Result<(), Error> {
        self.told_at = monotonic();
        match (self.tell)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::VerifyStopped),
        }
    }

    /// Waits for a digest's lock on a thread that may be an async one in a test.
    fn lock(&mut self, digest: &Digest) -> Result<DigestGuard, Error> {
        loop {
            if let Some(lock) = self.inner.blobs.try_lock(digest) {
                return Ok(lock);
            }
            self.tell_sometimes()?;
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Removes the quarantined files of blobs that are sound again, or that nobody has any more.
    fn empty_quarantine(&mut self, report: &mut VerifyReport) -> Result<(), Error> {
        for (digest, _) in self.inner.blobs.quarantined()? {
            let is_damaged = self.inner.metadata.read(|tx| blobs::damaged(tx, &digest))?.is_some();
            if !is_damaged && self.inner.blobs.discard_quarantined(&digest)? {
                report.repaired(format!("the file of {digest} in quarantine is removed"));
            }
        }
        Ok(())
    }

    /// Looks for files that nothing names.
    fn orphans(&mut self, report: &mut VerifyReport) -> Result<(), Error> {
        for entry in self.inner.blobs.walk() {
            let (digest, _) = entry?;
            self.tell_sometimes()?;
            let is_named =
                || Ok::<_, Error>(self.inner.metadata.read(|tx| blobs::get(tx, &digest))?.is_some());
            if is_named()? {
                continue;
            }
            // A push holds the lock from before the file's last rename until after its commit.
            let lock = self.lock(&digest)?;
            if is_named()? || self.inner.blobs.blob_len(&digest)?.is_none() {
                continue;
            }
            if self.is_repair() && self.inner.blobs.remove(&lock, &digest)? {
                report.repaired(format!("the file of {digest}, which no row named, is removed"));
            } else {
                report.orphan(format!("the file of {digest}, which no row names"));
            }
        }
        for id in sessions::orphans(self.inner)? {
            if self.is_repair() && self.inner.blobs.discard(id)? {
                report.repaired(format!("the file of the upload {id}, which no row named, is removed"));
            } else {
                report.orphan(format!("the file of the upload {id}, which no row names"));
            }
        }
        if self.is_repair() {
            self.empty_quarantine(report)?;
        }
        Ok(())
    }
}

/// Keeps a rate in bytes per second.
struct Pace {
    rate: Option<NonZeroU64>,
    began: Instant,
    bytes: u64,
}

impl Pace {
    fn new(rate: Option<NonZeroU64>) -> Pace {
        Pace { rate, began: monotonic(), bytes: 0 }
    }

    /// How much is read at once: about a tenth of a second's share, up to `limit`.
    fn step(&self, limit: usize) -> usize {
        let share = self.rate.map_or(u64::MAX, |rate| (rate.get() / 10).max(1));
        usize::try_from(share).unwrap_or(usize::MAX).min(limit)
    }

    fn took(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// How long to wait before more is read.
    fn pause(&self) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let nanos = u128::from(self.bytes) * 1_000_000_000 / u128::from(rate.get());
        let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        due.saturating_sub(self.began.elapsed())
    }
}
