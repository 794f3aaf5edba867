//! A blob of an image.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::image::{Failure, Images, Took};
use super::{Error, PartsTell};
use crate::oci::{Descriptor, Digest};
use crate::registry;
use crate::snapshots::{Progress, Step};

impl Images<'_> {
    /// Brings a blob that a manifest names. Its bytes are compared with the digest on the way.
    pub(super) async fn blob(&self, named: &Descriptor) -> Result<Took, Failure> {
        let Some(known) = self.from.blobs().stat(named.digest)? else { return Ok(Took::Absent) };
        let (restoring, blobs) = (self.restoring, self.to.blobs());
        let is_dry = restoring.options.dry_run;
        let here = if is_dry { blobs.stat(named.digest)? } else { blobs.stat_held(named.digest).await? };
        if here.is_some_and(|here| blobs.has_file(&here.digest).is_ok_and(|has| has)) {
            return Ok(Took::Here);
        }
        let path = restoring.backup.content_path(&known.digest);
        if is_dry {
            if !restoring.backup.has(&known.digest, known.size)? {
                return Err(Failure::Content(format!("{} is missing or damaged", path.display())));
            }
            if restoring.pretended.borrow_mut().insert(known.digest) {
                self.came_with(known.size);
            }
            return Ok(Took::Here);
        }
        let actor = &restoring.options.actor;
        let mounted = blobs.mount(named.digest, None, actor).await?;
        if mounted.is_some_and(|here| blobs.has_file(&here.digest).is_ok_and(|has| has)) {
            return Ok(Took::Here);
        }
        let file = restoring.backup.open_content(&known.digest)?;
        let file = file.ok_or_else(|| Failure::Content(format!("{} is missing", path.display())))?;
        restoring.target.make_space(known.size).await?;
        let mut writer = blobs.create(named.digest.algorithm(), actor)?;
        let is_stopped = Arc::new(AtomicU64::new(0));
        let source = Counted {
            source: file,
            tell: Arc::clone(&restoring.tell),
            done: 0,
            total: known.size,
            stopped: Arc::clone(&is_stopped),
        };
        if let Err(error) = writer.read_from_blocking(source).await {
            writer.cancel().await?;
            if is_stopped.load(Ordering::Relaxed) > 0 {
                return Err(Failure::Ended(Error::Stopped));
            }
            // It is the file that can't be read; what fails in the registry says so itself.
            return Err(match error {
                registry::Error::Io(error) => Failure::Content(format!("{}: {error}", path.display())),
                error => error.into(),
            });
        }
        match writer.commit(&named.digest).await {
            Ok(_) => {
                self.came_with(known.size);
                Ok(Took::Here)
            }
            Err(registry::Error::DigestMismatch { computed, .. }) => {
                Err(Failure::Content(format!("{} is damaged: its bytes are {computed}", path.display())))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn came_with(&self, bytes: u64) {
        let mut report = self.restoring.report.borrow_mut();
        report.blobs += 1;
        report.bytes += bytes;
    }

    /// A manifest's bytes as the backup has them.
    pub(super) fn payload(&self, canonical: &Digest) -> Result<Vec<u8>, Failure> {
        let backup = self.restoring.backup;
        let found = crate::snapshots::restore::payload(backup, canonical)?;
        let path = backup.content_path(canonical);
        found.ok_or_else(|| Failure::Content(format!("{} is missing or damaged", path.display())))
    }
}

/// A file that tells how much of it has been read, and ends where nobody wants the rest.
struct Counted<R> {
    source: R,
    tell: PartsTell,
    done: u64,
    total: u64,
    stopped: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buf)?;
        self.done += read as u64;
        let progress = Progress { step: Step::Copying, done: self.done, total: Some(self.total) };
        match (self.tell)(progress) {
            ControlFlow::Continue(()) => Ok(read),
            ControlFlow::Break(()) => {
                self.stopped.store(1, Ordering::Relaxed);
                Err(io::Error::other("stopped"))
            }
        }
    }
}
