//! A lock that needs nothing of the store but that a list has what was written before.
//!
//! Whoever wants it writes an object of its own to a folder and then lists that: with another's there, it removes its own again. So of
//! two at once at least one sees the other. The object is written again each minute; one that is older than ten, by the store's own
//! clock, or whose process has ended on this machine, is nobody's any more. Who was stopped for so long, and goes on, finds its object
//! gone before it makes anything count.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::super::Error;
use super::api::Api;

/// What is locked, by the folder of the objects: the content of a backup, and the names of its snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locked {
    Content,
    Names,
}

impl Locked {
    fn folder(self) -> &'static str {
        match self {
            Locked::Content => "locks/content",
            Locked::Names => "locks/names",
        }
    }
}

/// So often a lock is written again, and so long it counts without.
const REFRESH: Duration = Duration::from_secs(60);
const STALE_SECONDS: i64 = 600;

/// Who finds another one that came at the same moment tries so often again, after up to so long.
const TRIES: u32 = 4;
const PAUSE_MILLIS: u64 = 400;

/// The lock, until it is dropped.
#[derive(Debug)]
pub(super) struct S3Lock {
    api: Api,
    folder: &'static str,
    name: String,
    refreshing: JoinHandle<()>,
}

impl S3Lock {
    /// Takes the lock; `None` if somebody else has it.
    pub(super) fn acquire(api: &Api, locked: Locked) -> Result<Option<S3Lock>, Error> {
        let folder = locked.folder();
        for _ in 0..TRIES {
            let id = Uuid::now_v7();
            let name = format!("{folder}/{}", id.simple());
            api.put(&name, Bytes::from(own_process()))?;
            let refreshing = api.threads().spawn(refresh(api.clone(), name.clone()));
            let lock = S3Lock { api: api.clone(), folder, name, refreshing };
            match lock.others() {
                Ok(0) => return Ok(Some(lock)),
                // Dropping it removes it.
                found => found?,
            };
            drop(lock);
            let millis = u64::from(id.as_bytes()[15]) * PAUSE_MILLIS / 256;
            std::thread::sleep(Duration::from_millis(50 + millis));
        }
        Ok(None)
    }

    /// How many others there are; those that are nobody's any more are removed. An error if this one is gone.
    fn others(&self) -> Result<usize, Error> {
        let mut found = Vec::new();
        self.api.each(self.folder, |name, meta| {
            found.push((format!("{}/{name}", self.folder), meta.last_modified.timestamp()));
        })?;
        let own = found.iter().find(|(name, _)| *name == self.name);
        // The store's clock: this one was written just now, or within the minute.
        let Some(&(_, now)) = own else { return Err(Error::LostLock(self.api.place.to_string())) };
        let mut others = 0;
        for (name, at) in found.iter().filter(|(name, _)| *name != self.name) {
            let is_over = now - at > STALE_SECONDS || self.is_of_ended_process(name)?;
            if is_over {
                self.api.delete(name)?;
            } else {
                others += 1;
            }
        }
        Ok(others)
    }

    /// Makes sure that nobody else has come to think that the lock is free.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.others()? {
            0 => Ok(()),
            _ => Err(Error::LostLock(self.api.place.to_string())),
        }
    }

    fn is_of_ended_process(&self, name: &str) -> Result<bool, Error> {
        let Some(file) = self.api.open(name)? else { return Ok(true) };
        let mut text = String::new();
        let read = std::io::Read::read_to_string(&mut std::io::Read::take(file, 1000), &mut text);
        let mut words = text.split_whitespace();
        let is_here = read.is_ok() && words.next().map(str::to_owned) == machine();
        let (pid, start) = (words.next().and_then(|pid| pid.parse().ok()), words.next());
        Ok(is_here && pid.is_some_and(|pid| start_of(pid).as_deref() != start))
    }
}

impl Drop for S3Lock {
    fn drop(&mut self) {
        self.refreshing.abort();
        // Where the store can't be reached, the lock ends by itself.
        let _ = self.api.delete(&self.name);
    }
}

/// Writes the lock again and again, unless it was removed.
async fn refresh(api: Api, name: String) {
    let mut ticks = tokio::time::interval(REFRESH);
    ticks.tick().await;
    let object = api.object(&name);
    loop {
        ticks.tick().await;
        match api.client.head(&object).await {
            Ok(_) => drop(api.client.put(&object, own_process().into()).await),
            Err(object_store::Error::NotFound { .. }) => return,
            Err(_) => {}
        }
    }
}

/// The machine since it was started, the process, and when that began: the same of no other process.
fn own_process() -> String {
    let (pid, unknown) = (std::process::id(), || "-".to_owned());
    let machine = machine().unwrap_or_else(|| Uuid::now_v7().to_string());
    format!("{machine} {pid} {}\n", start_of(pid).unwrap_or_else(unknown))
}

/// What is the same for all processes that have each other's ids, and for no others.
fn machine() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let pids = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), pids.display()))
}

/// When a process was started; `None` if there is none.
fn start_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have anything in it, even parentheses.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    let state = words.next()?;
    // One that has ended may wait for its parent to notice.
    if matches!(state, "Z" | "X") { None } else { words.nth(18).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = own_process();
        assert_eq!(own.split_whitespace().count(), 3);
        assert_eq!(own, own_process());
        assert!(start_of(std::process::id()).is_some_and(|start| start.parse::<u64>().is_ok()));
        assert_eq!(start_of(u32::MAX), None);
    }
}
