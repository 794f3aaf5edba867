//! A blob: linked where the store has it, else cloned, linked to the file, or copied.

use std::sync::Arc;

use bytes::Bytes;

use super::repository::RepositoryImport;
use super::tree::{place, unreadable};
use crate::fsio::{Adoption, SourceFile};
use crate::oci::{Descriptor, Digest, Hasher};
use crate::registry;
use crate::transfer::Error;
use crate::transfer::Skipped;
use crate::transfer::children::Took;

/// Bytes are read in pieces of this size.
const PIECE: usize = 256 << 10;

impl RepositoryImport<'_> {
    /// Takes a blob that a manifest names; with `has_size` it has to have the length that this says.
    pub(super) async fn blob(&self, named: &Descriptor, has_size: bool) -> Result<Took, Error> {
        self.named.borrow_mut().insert(named.digest);
        self.layer(named.digest, has_size.then_some(named.size)).await
    }

    /// Takes a blob that the repository has there.
    pub(super) async fn layer(&self, digest: Digest, size: Option<u64>) -> Result<Took, Error> {
        let import = self.import;
        let _turn = import.blobs.of(&digest).await;
        if self.has_failed(&digest) || import.is_over() {
            return Ok(Took::Skipped);
        }
        let blobs = self.repository.blobs();
        let known =
            if import.options.dry_run { blobs.stat(digest)? } else { blobs.stat_held(digest).await? };
        if known.is_some_and(|known| blobs.has_file(&known.digest).is_ok_and(|has| has)) {
            return Ok(Took::Here);
        }
        let below = format!("{}/{}", self.layers(), place(&digest));
        let link = match import.tree.link(&below) {
            Ok(Some(link)) => link.digest,
            Ok(None) => return Ok(Took::Absent),
            Err(skipped) => return Ok(self.fail(&digest, skipped).await),
        };
        // Content that was pushed by another algorithm lies under its canonical digest.
        let is_alias = link != digest;
        if is_alias && link.algorithm() == digest.algorithm() {
            let reason = format!("it leads to another blob: {link}");
            return Ok(self.fail(&digest, import.tree.skip(&format!("{below}/link"), reason)).await);
        }
        let file = match import.tree.data(&link) {
            Ok(Some(file)) => file,
            Ok(None) => {
                let reason = format!("it leads to {link}, which is not there");
                return Ok(self.fail(&digest, import.tree.skip(&format!("{below}/link"), reason)).await);
            }
            Err(skipped) => return Ok(self.fail(&digest, skipped).await),
        };
        if let Some(size) = size.filter(|size| *size != file.len()) {
            let reason = format!("it has {} bytes, and a manifest says {size}", file.len());
            return Ok(self.fail(&digest, Skipped::new(file.path(), reason)).await);
        }
        let path = file.path().to_owned();
        match self.take(digest, is_alias, Arc::new(file)).await {
            Ok(true) => Ok(Took::Here),
            // Nobody waits any more.
            Ok(false) => Ok(Took::Skipped),
            Err(Failure::Source(skipped)) => Ok(self.fail(&digest, skipped).await),
            Err(Failure::Registry(error)) => {
                self.failed.borrow_mut().insert(digest);
                let path = path.strip_prefix(import.tree.path("")).unwrap_or(&path);
                import.refused(&path.to_string_lossy(), error).await?;
                Ok(Took::Skipped)
            }
        }
    }

    /// Makes the file a blob of the repository, in the cheapest way that there is; `false` where it was stopped.
    async fn take(&self, digest: Digest, is_alias: bool, file: Arc<SourceFile>) -> Result<bool, Failure> {
        let (import, len) = (self.import, file.len());
        let options = import.options;
        if options.dry_run {
            if options.verify && !self.has_digest(&digest, &file).await? {
                return Ok(false);
            }
            import.report.borrow_mut().blobs += 1;
            import.report.borrow_mut().bytes += len;
            self.advance(len).await;
            return Ok(true);
        }
        let _permit = import.copies.acquire().await.map_err(|_| registry::Error::Unavailable)?;
        let blobs = self.repository.blobs();
        // Where the bytes of what is known are gone, these ones mend it.
        if blobs
            .mount(digest, None, &options.actor)
            .await?
            .is_some_and(|known| blobs.has_file(&known.digest).is_ok_and(|has| has))
        {
            import.report.borrow_mut().linked_blobs += 1;
            self.advance(len).await;
            return Ok(true);
        }
        let ways = [
            (Adoption::Link, &import.cannot_link, options.link),
            (Adoption::Clone, &import.cannot_clone, true),
        ];
        for (how, cannot, _) in ways.into_iter().filter(|(_, cannot, is_wanted)| *is_wanted && !cannot.get())
        {
            if is_alias {
                break;
            }
            if blobs.adopt(file.clone(), &digest, how, options.verify, &options.actor).await?.is_some() {
                self.came_with(len, 0);
                self.advance(len).await;
                return Ok(true);
            }
            cannot.set(true);
        }
        let is_whole = self.copy(&digest, file).await?;
        if is_whole {
            self.came_with(len, len);
        }
        Ok(is_whole)
    }

    fn came_with(&self, len: u64, copied: u64) {
        let mut report = self.import.report.borrow_mut();
        report.blobs += 1;
        report.bytes += len;
        report.copied_bytes += copied;
    }

    /// Copies the bytes, which are hashed on the way.
    async fn copy(&self, digest: &Digest, file: Arc<SourceFile>) -> Result<bool, Failure> {
        let options = self.import.options;
        self.import.registry.make_space(file.len()).await?;
        let mut writer = self.repository.blobs().create(digest.algorithm(), &options.actor)?;
        let copied = async {
            let mut offset = 0;
            while let Some(piece) = read(&file, offset).await? {
                let len = piece.len() as u64;
                offset += len;
                writer.write(piece).await?;
                self.advance(len).await;
                if self.import.is_over() {
                    return Ok(false);
                }
            }
            Ok::<_, Failure>(true)
        }
        .await;
        match copied {
            Ok(true) => {
                writer.commit(digest).await?;
                Ok(true)
            }
            stopped => {
                writer.cancel().await?;
                stopped
            }
        }
    }

    /// Fails where the bytes are not those of the digest; `false` where it was stopped.
    async fn has_digest(&self, digest: &Digest, file: &Arc<SourceFile>) -> Result<bool, Failure> {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut offset = 0;
        while let Some(piece) = read(file, offset).await? {
            offset += piece.len() as u64;
            hasher.update(&piece);
            if self.import.is_over() {
                return Ok(false);
            }
        }
        let computed = hasher.finish();
        if computed == *digest {
            return Ok(true);
        }
        let reason = format!("its bytes have another digest: {computed}");
        Err(Failure::Source(Skipped::new(file.path(), reason)))
    }
}

/// Why a blob did not come.
enum Failure {
    /// Its file can't be taken.
    Source(Skipped),
    /// The registry refused it, or failed.
    Registry(registry::Error),
}

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Failure {
        Failure::Registry(error)
    }
}

/// A piece of a file; `None` at its end.
async fn read(file: &Arc<SourceFile>, offset: u64) -> Result<Option<Bytes>, Failure> {
    let file = file.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; PIECE];
        let read = file.read_at(&mut piece, offset).map_err(unreadable)?;
        piece.truncate(read);
        Ok(piece)
    });
    match read.await {
        Ok(Ok(piece)) => Ok(Some(Bytes::from(piece)).filter(|piece| !piece.is_empty())),
        Ok(Err(skipped)) => Err(Failure::Source(skipped)),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(registry::Error::Unavailable.into()),
    }
}
