//! What is in a snapshot.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// The name of a snapshot: its number, which only grows, and when it was taken by the clock of that moment:
/// `000012-20261121-145959`. In lower case, since podman makes a name of
/// the path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName {
    number: u64,
    text: String,
}

/// A text that no snapshot is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot is called by its number and its time, such as 000012-20261121-145959")]
pub struct SnapshotNameError;

impl SnapshotName {
    pub(super) fn new(number: u64, at: Timestamp) -> SnapshotName {
        let time = at.to_rfc3339();
        let digits = |part: &str| part.chars().filter(char::is_ascii_digit).collect::<String>();
        let text = format!("{number:06}-{}-{}", digits(&time[..10]), digits(&time[11..19]));
        SnapshotName { number, text }
    }

    /// The number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for SnapshotName {
    type Err = SnapshotNameError;

    fn from_str(text: &str) -> Result<SnapshotName, SnapshotNameError> {
        let (number, time) = text.split_once('-').ok_or(SnapshotNameError)?;
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let is_time = time.split('-').map(str::len).eq([8, 6]) && time.split('-').all(is_digits);
        let is_number = number.len() >= 6 && is_digits(number);
        if !is_time || !is_number {
            return Err(SnapshotNameError);
        }
        Ok(SnapshotName { number: number.parse().map_err(|_| SnapshotNameError)?, text: text.to_owned() })
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = SnapshotNameError;

    fn try_from(text: String) -> Result<SnapshotName, SnapshotNameError> {
        text.parse()
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> String {
        name.text
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// What is in a snapshot: the file `snapshot.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    /// Its name.
    pub name: SnapshotName,
    /// When the metadata was copied: the instant as of which everything is. RFC 3339.
    pub taken_at: String,
    /// The same in milliseconds since 1970.
    pub taken_at_millis: u64,
    /// The version of Orlop that took it.
    pub version: String,
    /// The schema of the metadata.
    pub schema: u32,
    /// Whether what is cached of upstreams is in it.
    pub with_cached: bool,
    /// How many tags it has.
    pub tags: u64,
    /// How many manifests, each once.
    pub manifests: u64,
    /// How many blobs, each once.
    pub blobs: u64,
    /// The bytes of both.
    pub bytes: u64,
    /// How many files of these no snapshot before had.
    pub added_files: u64,
    /// Their bytes.
    pub added_bytes: u64,
    /// How many things manifests name that weren't there: in sparse indexes, and non-distributable layers.
    pub absent: u64,
    /// The digests of content that the registry should have had and hadn't, or whose bytes were wrong.
    pub lost: Vec<String>,
    /// How many rows the copy of the metadata has.
    pub rows: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_number_whatever_the_clock_said() {
        let later = SnapshotName::new(11, Timestamp::from_millis(0));
        let earlier = SnapshotName::new(10, Timestamp::from_millis(1_795_237_834_056));
        assert_eq!(earlier.as_str(), "000010-20261121-051034");
        assert!(earlier < later);
        assert_eq!(earlier.as_str().parse(), Ok(earlier));
        for wrong in ["", "10", "10-20261121-051034", "000010-2026", "../../etc-20261121-051034"] {
            assert!(wrong.parse::<SnapshotName>().is_err(), "{wrong}");
        }
    }
}
