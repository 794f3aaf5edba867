//! What an upstream has said that it hasn't got, for a short while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Error;
use crate::client::registry::Missing;
use crate::oci::RepositoryName;

/// For how long it is believed.
const BELIEVED: Duration = Duration::from_secs(30);

/// The most that is remembered.
const MOST: usize = 10_000;

/// What is known to be missing: by repository, and by what was asked for in it.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<HashMap<(RepositoryName, String), Entry>>);

#[derive(Debug)]
struct Entry {
    until: Instant,
    what: Missing,
    reason: String,
}

impl Absent {
    /// The answer that was given a moment ago.
    pub(super) fn require_unknown(
        &self,
        path: &RepositoryName,
        what: &str,
        now: Instant,
    ) -> Result<(), Error> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(&(path.clone(), what.to_owned())) {
            Some(entry) if now < entry.until => {
                Err(Error::NotFound { what: entry.what, reason: entry.reason.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Forgets everything, since somebody else asks from now on.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Remembers that something is missing, if that is what the error says.
    pub(super) fn note(&self, path: &RepositoryName, what: &str, error: &Error, now: Instant) {
        let Error::NotFound { what: missing, reason } = error else { return };
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MOST {
            entries.retain(|_, entry| now < entry.until);
        }
        if entries.len() < MOST {
            let entry = Entry { until: now + BELIEVED, what: *missing, reason: reason.clone() };
            entries.insert((path.clone(), what.to_owned()), entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    fn missing() -> Error {
        Error::NotFound { what: Missing::Manifest, reason: "none".to_owned() }
    }

    #[test]
    fn it_is_believed_for_a_while_and_of_what_was_asked_for_only() {
        let (absent, now) = (Absent::default(), monotonic());
        let (one, other) = ("library/one".parse().unwrap(), "library/other".parse().unwrap());
        absent.note(&one, "1", &missing(), now);
        assert!(absent.require_unknown(&one, "1", now).is_err());
        assert!(absent.require_unknown(&one, "2", now).is_ok());
        assert!(absent.require_unknown(&other, "1", now).is_ok());
        assert!(absent.require_unknown(&one, "1", now + BELIEVED).is_ok());
        absent.note(&other, "1", &Error::Refused("no".to_owned()), now);
        assert!(absent.require_unknown(&other, "1", now).is_ok(), "it may be there");
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (absent, now) = (Absent::default(), monotonic());
        let name = "library/one".parse().unwrap();
        for at in 0..MOST + 10 {
            absent.note(&name, &at.to_string(), &missing(), now);
        }
        assert_eq!(absent.0.lock().unwrap().len(), MOST);
        absent.note(&name, "later", &missing(), now + BELIEVED);
        assert_eq!(absent.0.lock().unwrap().len(), 1, "what is over makes room");
    }
}
