//! Calls to a store that speaks S3, and what is said when one fails.

use std::collections::VecDeque;
use std::error::Error as _;
use std::future::Future;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinSet;

use super::super::{Error, S3Location};

/// So many names are asked for at once.
const PAGE: usize = 1_000;

/// So many pieces of an object are read ahead.
const AHEAD: usize = 64;

/// A bucket, and the threads that wait for its answers.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) client: Arc<AmazonS3>,
    pub(super) threads: Arc<Threads>,
    pub(super) place: S3Location,
}

/// The threads. Whoever has the last of them may be one of them.
#[derive(Debug)]
pub(super) struct Threads(Option<Runtime>, Handle);

impl Threads {
    pub(super) fn start(count: usize) -> io::Result<Threads> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(count).enable_all().build()?;
        let handle = runtime.handle().clone();
        Ok(Threads(Some(runtime), handle))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Api {
    pub(super) fn threads(&self) -> &Handle {
        &self.threads.1
    }

    /// Waits for an answer. It is a thread of the store's own that drives it, so that code which is driven itself may wait too.
    pub(super) fn wait<T: Send + 'static>(&self, answer: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.threads().spawn(async move { sender.send(answer.await) });
        receiver.recv().expect("the threads outlive this, and no call panics")
    }

    /// The same for the first task of a set that ends; `None` where it has none.
    pub(super) fn join<T: Send + 'static>(
        &self,
        tasks: &mut JoinSet<Result<T, Error>>,
    ) -> Result<Option<T>, Error> {
        let mut taken = std::mem::take(tasks);
        let (taken, joined) = self.wait(async move {
            let joined = taken.join_next().await;
            (taken, joined)
        });
        *tasks = taken;
        match joined {
            None => Ok(None),
            Some(Ok(done)) => done.map(Some),
            Some(Err(error)) => Err(Error::Panicked(error.to_string())),
        }
    }

    /// What a file is called in the bucket.
    pub(super) fn object(&self, name: &str) -> Path {
        let prefix = self.place.prefix();
        // Both are made of characters that stand for themselves.
        Path::from(if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") })
    }

    /// The whole path of a file, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("{}/{name}", self.place))
    }

    /// Says that a call failed.
    pub(super) fn failed(&self, operation: &'static str, name: &str, error: &object_store::Error) -> Error {
        // Not every call has a variant for each of these.
        let text = error.to_string();
        let is = |status: &str| text.contains(&format!("status code: {status} "));
        let advice = if is("401") || is("403") {
            ". Give it keys that may do this: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where it runs, or a file with them; the \
             region has to be the store's own"
        } else if is("404") {
            ". Make the bucket, or correct its name"
        } else if is("400") {
            ". Correct the region and the endpoint"
        } else {
            ". Run the command again when the store can be reached: what was copied stays"
        };
        Error::Remote { operation, path: self.path(name), reason: reason(error), advice }
    }

    /// What the store knows of a file.
    pub(super) fn head(&self, name: &str) -> Result<Option<ObjectMeta>, Error> {
        let (client, object) = (Arc::clone(&self.client), self.object(name));
        match self.wait(async move { client.head(&object).await }) {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("look at", name, &error)),
        }
    }

    /// Writes a small file.
    pub(super) fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let (client, object) = (Arc::clone(&self.client), self.object(name));
        let put = self.wait(async move { client.put(&object, bytes.into()).await });
        put.map(drop).map_err(|error| self.failed("write", name, &error))
    }

    /// Removes a file, if it is there.
    pub(super) fn delete(&self, name: &str) -> Result<(), Error> {
        self.wait(self.delete_later(name.to_owned()))
    }

    /// The same, for whoever has other things to do.
    pub(super) fn delete_later(
        &self,
        name: String,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let api = self.clone();
        async move {
            match api.client.delete(&api.object(&name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(api.failed("remove", &name, &error)),
            }
        }
    }

    /// Hands each file of a folder, and of those in it, to `take`: what it is called below the folder, and what is known of it.
    pub(super) fn each(&self, folder: &str, mut take: impl FnMut(&str, &ObjectMeta)) -> Result<(), Error> {
        self.each_after(folder, "", |name, meta| {
            take(name, meta);
            ControlFlow::Continue(())
        })
    }

    /// The same for those behind `after`, in the order of their names, until `take` has enough.
    pub(super) fn each_after(
        &self,
        folder: &str,
        after: &str,
        mut take: impl FnMut(&str, &ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let prefix = self.object(folder);
        let objects = if after.is_empty() {
            self.client.list(Some(&prefix))
        } else {
            self.client.list_with_offset(Some(&prefix), &self.object(&format!("{folder}/{after}")))
        };
        let mut objects = objects.try_chunks(PAGE);
        loop {
            let (rest, page) = self.wait(async move {
                let page = objects.next().await;
                (objects, page)
            });
            objects = rest;
            let Some(page) = page else { return Ok(()) };
            for meta in page.map_err(|error| self.failed("list", folder, &error.1))? {
                let name = meta.location.as_ref().strip_prefix(prefix.as_ref()).unwrap_or_default();
                if take(name.trim_start_matches('/'), &meta).is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// Whether there is no object.
    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        let mut objects = self.client.list(Some(&self.object("")));
        let first = self.wait(async move { objects.next().await });
        Ok(first.transpose().map_err(|error| self.failed("list", "", &error))?.is_none())
    }

    /// A file from its beginning.
    pub(super) fn open(&self, name: &str) -> Result<Option<ObjectReader>, Error> {
        let (client, object) = (Arc::clone(&self.client), self.object(name));
        let found = match self.wait(async move { client.get(&object).await }) {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| self.failed("read", name, &error))?,
        };
        let (sender, pieces) = mpsc::channel(AHEAD);
        // Ends when nobody listens any more.
        self.threads().spawn(async move {
            let mut stream = found.into_stream();
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| io::Error::other(reason(&error)));
                let is_over = piece.is_err();
                if sender.send(piece).await.is_err() || is_over {
                    return;
                }
            }
        });
        Ok(Some(ObjectReader { api: self.clone(), pieces: Some(pieces), waiting: VecDeque::new() }))
    }
}

/// What the store says, or what lies at the bottom of an error.
fn reason(error: &object_store::Error) -> String {
    let text = error.to_string();
    let said = text.split_once("<Message>").and_then(|(_, rest)| rest.split_once("</Message>"));
    if let Some((message, _)) = said {
        return format!("the store says: {message}");
    }
    let mut innermost = error.source();
    while let Some(next) = innermost.and_then(std::error::Error::source) {
        innermost = Some(next);
    }
    innermost.map_or(text, ToString::to_string)
}

/// Reads an object from its beginning to its end.
pub(super) struct ObjectReader {
    api: Api,
    /// Gone at the end.
    pieces: Option<Receiver<io::Result<Bytes>>>,
    waiting: VecDeque<io::Result<Bytes>>,
}

impl ObjectReader {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        while self.waiting.is_empty() {
            let mut pieces = self.pieces.take()?;
            let mut came = Vec::with_capacity(AHEAD);
            let (rest, came) = self.api.wait(async move {
                let count = pieces.recv_many(&mut came, AHEAD).await;
                ((count > 0).then_some(pieces), came)
            });
            self.pieces = rest;
            self.waiting.extend(came);
        }
        self.waiting.pop_front()
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(piece) = self.next() else { return Ok(0) };
            let mut piece = piece?;
            if piece.is_empty() {
                continue;
            }
            let len = buf.len().min(piece.len());
            piece.copy_to_slice(&mut buf[..len]);
            if !piece.is_empty() {
                self.waiting.push_front(Ok(piece));
            }
            return Ok(len);
        }
    }
}
