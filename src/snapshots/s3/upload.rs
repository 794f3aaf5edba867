//! Sending files.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::MultipartId;
use object_store::multipart::{MultipartStore, PartId};
use tokio::task::JoinSet;

use super::super::Error;
use super::super::form::Form;
use super::api::Api;
use crate::fsio::{Disk, FileError, read_small, replace_small};
use crate::oci::{Digest, Hasher};

/// An object that has more bytes goes in parts of so many.
pub(super) const PART: u64 = 8 << 20;
/// There can be 10,000 parts.
const MOST_PARTS: u64 = 9_000;
/// So many parts of an object are on their way at once.
const PARTS_AT_ONCE: usize = 2;

/// So long sending one part may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// The bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// What the notes about objects that are sent in parts begin with.
const NOTE: &str = "upload-";

/// Where it is noted which objects are being sent in parts, so that one that was interrupted can be called off: the store keeps its
/// parts until then.
#[derive(Debug, Clone)]
pub(super) struct Notes {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    next: Arc<AtomicU64>,
}

impl Notes {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Notes {
        Notes { disk, dir, next: Arc::default() }
    }

    fn begin(&self, name: &str, id: &MultipartId) -> Result<PathBuf, FileError> {
        let path = self.dir.join(format!("{NOTE}{}", self.next.fetch_add(1, Ordering::Relaxed)));
        replace_small(self.disk.as_ref(), &path, format!("{name}\n{id}").as_bytes())?;
        Ok(path)
    }

    fn end(&self, path: &Path) -> Result<(), FileError> {
        self.disk.remove(path).map(drop)
    }

    /// Calls off what an interrupted process has left.
    pub(super) fn call_off(&self, api: &Api) -> Result<(), Error> {
        for entry in self.disk.list(&self.dir)?.into_iter().filter(|entry| entry.name.starts_with(NOTE)) {
            let path = self.dir.join(&entry.name);
            let note = read_small(self.disk.as_ref(), &path, 4096)?.unwrap_or_default();
            if let Some((name, id)) = String::from_utf8_lossy(&note).split_once('\n') {
                match abort(api, name, id.to_owned()) {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(api.failed("call off the sending of", name, &error)),
                }
            }
            self.end(&path)?;
        }
        Ok(())
    }
}

/// Something to be sent.
pub(super) struct Item<'a> {
    /// What it will be called.
    pub(super) name: &'a str,
    /// How many bytes it has, by which the size of the parts is chosen.
    pub(super) len: u64,
    /// What its bytes have to be; whatever they are without it.
    pub(super) digest: Option<&'a Digest>,
}

/// Sends what `source` has, which messages call `from`. The object is there when all of it was sent and has its digest, and else it
/// isn't. Says how long the object is; `None` where the bytes are others.
pub(super) fn upload(
    api: &Api,
    notes: &Notes,
    form: &Form,
    item: &Item<'_>,
    source: &mut dyn Read,
    from: &Path,
) -> Result<Option<u64>, Error> {
    let part = usize::try_from(PART.max(item.len.div_ceil(MOST_PARTS))).unwrap_or(usize::MAX);
    let mut sending =
        Sending { api, notes, name: item.name, part, buffer: Vec::new(), parts: None, sent: 0, error: None };
    let mut sent = send(&mut sending, form, item, source, from);
    if let Some(error) = sending.error.take() {
        sent = Err(error);
    }
    if !matches!(sent, Ok(Some(_))) {
        sending.call_off();
    }
    sent
}

fn send(
    sending: &mut Sending<'_>,
    form: &Form,
    item: &Item<'_>,
    source: &mut dyn Read,
    from: &Path,
) -> Result<Option<u64>, Error> {
    let to = sending.api.path(item.name);
    let failed = |source| Error::File(FileError::new("write", &to, source));
    let mut hasher = item.digest.map(|digest| Hasher::new(digest.algorithm()));
    let mut piece = vec![0; PIECE.min(usize::try_from(item.len).unwrap_or(PIECE).max(1))];
    let mut writer = form.writer(&mut *sending).map_err(failed)?;
    loop {
        let read = source.read(&mut piece).map_err(|source| FileError::new("read", from, source))?;
        if read == 0 {
            break;
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece[..read]);
        }
        writer.write_all(&piece[..read]).map_err(failed)?;
    }
    writer.finish().map_err(failed)?;
    if hasher.map(Hasher::finish).as_ref() != item.digest {
        return Ok(None);
    }
    sending.finish()?;
    Ok(Some(sending.sent))
}

/// An object on its way: at once where it is small, else in parts.
struct Sending<'a> {
    api: &'a Api,
    notes: &'a Notes,
    name: &'a str,
    part: usize,
    buffer: Vec<u8>,
    parts: Option<Parts>,
    sent: u64,
    /// Why the writer has said that it can't go on.
    error: Option<Error>,
}

/// Those that are sent, and those that are being sent.
struct Parts {
    id: MultipartId,
    note: PathBuf,
    begun: usize,
    done: Vec<(usize, PartId)>,
    running: JoinSet<Result<(usize, PartId), Error>>,
}

impl Sending<'_> {
    /// Sends a part, and waits while too many are on their way.
    fn send_part(&mut self) -> Result<(), Error> {
        let (api, name) = (self.api, self.name);
        let object = api.object(name);
        let parts = if let Some(parts) = &mut self.parts {
            parts
        } else {
            let (client, object) = (Arc::clone(&api.client), object.clone());
            let id = api.wait(async move { client.create_multipart(&object).await });
            let id = id.map_err(|error| api.failed("write", name, &error))?;
            let note = self.notes.begin(name, &id)?;
            let running = JoinSet::new();
            self.parts.insert(Parts { id, note, begun: 0, done: Vec::new(), running })
        };
        while parts.running.len() >= PARTS_AT_ONCE {
            join(api, parts)?;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        self.sent += bytes.len() as u64;
        let (index, id, api, name) = (parts.begun, parts.id.clone(), api.clone(), name.to_owned());
        parts.begun += 1;
        let sending = async move {
            let sent = tokio::time::timeout(PATIENCE, api.client.put_part(&object, &id, index, bytes.into()));
            match sent.await {
                Ok(Ok(part)) => Ok((index, part)),
                Ok(Err(error)) => Err(api.failed("write", &name, &error)),
                Err(_) => Err(Error::Remote {
                    operation: "write",
                    path: api.path(&name),
                    reason: format!("the store took no part of it in {} minutes", PATIENCE.as_secs() / 60),
                    advice: "",
                }),
            }
        };
        parts.running.spawn_on(sending, self.api.threads());
        Ok(())
    }

    /// Makes it an object.
    fn finish(&mut self) -> Result<(), Error> {
        let (api, name) = (self.api, self.name);
        if self.parts.is_none() {
            let bytes = Bytes::from(std::mem::take(&mut self.buffer));
            self.sent = bytes.len() as u64;
            return api.put(name, bytes);
        }
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        let Some(parts) = &mut self.parts else { return Ok(()) };
        while !parts.running.is_empty() {
            join(api, parts)?;
        }
        parts.done.sort_unstable_by_key(|(index, _)| *index);
        let done = std::mem::take(&mut parts.done).into_iter().map(|(_, part)| part).collect();
        let (client, object, id) = (Arc::clone(&api.client), api.object(name), parts.id.clone());
        let completed = api.wait(async move { client.complete_multipart(&object, &id, done).await });
        completed.map_err(|error| api.failed("write", name, &error))?;
        self.notes.end(&parts.note)?;
        self.parts = None;
        Ok(())
    }

    /// Ends it without an object. Where the store can't be reached, the note stays.
    fn call_off(&mut self) {
        let Some(mut parts) = self.parts.take() else { return };
        let mut running = std::mem::take(&mut parts.running);
        self.api.wait(async move { running.shutdown().await });
        if abort(self.api, self.name, parts.id.clone()).is_ok() {
            let _ = self.notes.end(&parts.note);
        }
    }
}

/// Waits for a part.
fn join(api: &Api, parts: &mut Parts) -> Result<(), Error> {
    parts.done.extend(api.join(&mut parts.running)?);
    Ok(())
}

/// Calls off the sending of an object in parts.
fn abort(api: &Api, name: &str, id: MultipartId) -> object_store::Result<()> {
    let (client, object) = (Arc::clone(&api.client), api.object(name));
    api.wait(async move { client.abort_multipart(&object, &id).await })
}

impl Write for &mut Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == self.part
            && let Err(error) = self.send_part()
        {
            self.error = Some(error);
            return Err(io::Error::other("it couldn't be sent"));
        }
        let len = bytes.len().min(self.part - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
