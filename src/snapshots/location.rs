//! Where a backup is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const SCHEME: &str = "s3://";

/// Where a backup is: the path of a directory, or `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Location {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A bucket of a store that speaks S3.
    S3(S3Location),
}

/// A bucket, and what its objects begin with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct S3Location {
    bucket: String,
    prefix: String,
}

/// A text that is no location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Not a name of a bucket.
    #[error(
        "{0:?} is not the name of a bucket: write s3://bucket/prefix, the bucket with 3 to 63 small letters, digits, dots and \
         hyphens"
    )]
    Bucket(String),
    /// Not a prefix.
    #[error(
        "{0:?} is not a prefix of objects: write s3://bucket/prefix, the prefix with letters, digits and -_.=/ and without empty \
         parts, . and .."
    )]
    Prefix(String),
    /// An empty text.
    #[error("name a directory, or s3://bucket/prefix")]
    Empty,
}

impl Location {
    /// The same with a path that doesn't depend on the directory that one is in.
    pub fn absolute(self) -> std::io::Result<Location> {
        match self {
            Location::Directory(path) => Ok(Location::Directory(std::path::absolute(path)?)),
            Location::S3(place) => Ok(Location::S3(place)),
        }
    }

    /// Whether everybody on this machine would understand it alike.
    pub fn is_absolute(&self) -> bool {
        match self {
            Location::Directory(path) => path.is_absolute(),
            Location::S3(_) => true,
        }
    }
}

impl S3Location {
    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What all objects begin with, without `/` at either end; may be empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Location {
        Location::Directory(path)
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Location {
        Location::Directory(path.to_owned())
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Location, LocationError> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return if text.is_empty() {
                Err(LocationError::Empty)
            } else {
                Ok(Location::Directory(text.into()))
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_of_bucket = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-');
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(is_of_bucket) {
            return Err(LocationError::Bucket(bucket.to_owned()));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_of_prefix = |c: char| c.is_ascii_alphanumeric() || "-_.=/".contains(c);
        let is_part = |part: &str| !matches!(part, "" | "." | "..");
        if !prefix.is_empty() && (!prefix.chars().all(is_of_prefix) || !prefix.split('/').all(is_part)) {
            return Err(LocationError::Prefix(prefix.to_owned()));
        }
        Ok(Location::S3(S3Location { bucket: bucket.to_owned(), prefix: prefix.to_owned() }))
    }
}

impl TryFrom<String> for Location {
    type Error = LocationError;

    fn try_from(text: String) -> Result<Location, LocationError> {
        text.parse()
    }
}

impl From<Location> for String {
    fn from(location: Location) -> String {
        location.to_string()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Directory(path) => path.display().fmt(f),
            Location::S3(place) => place.fmt(f),
        }
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{SCHEME}{}{separator}{}", self.bucket, self.prefix)
    }
}

/// What else has to be known to work on a backup. Nothing in it is secret: keys stay in files and in the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BackupOptions {
    /// How the store is reached, where it is one that speaks S3.
    pub s3: S3Options,
    /// The age recipients that new files are encrypted to.
    pub encrypt_to: Vec<String>,
    /// The files with the age identities that open these.
    pub identities: Vec<PathBuf>,
}

/// How a store that speaks S3 is reached. What isn't given comes from the environment variables that AWS's own tools read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct S3Options {
    /// Its URL. Only one that begins with `http://` goes without TLS.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// A file with the keys, as AWS's own tools write it.
    pub credentials: Option<PathBuf>,
    /// Whether the bucket is a part of the host's name, and not of the path.
    pub virtual_host: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_directory_or_a_bucket_with_a_prefix() {
        for same in ["/mnt/backup", "backup", "s3:/x", "s3://bucket", "s3://my.bucket-1/a/b=c_d"] {
            assert_eq!(same.parse::<Location>().unwrap().to_string(), same);
        }
        let Location::S3(place) = "s3://bucket/one/two/".parse().unwrap() else { panic!("it is S3") };
        assert_eq!((place.bucket(), place.prefix()), ("bucket", "one/two"));
        assert_eq!("s3://bucket/".parse::<Location>().unwrap().to_string(), "s3://bucket");
        for wrong in ["", "s3://", "s3://B", "s3://UPPER/a", "s3://a_bucket"] {
            assert!(!matches!(wrong.parse::<Location>(), Ok(_) | Err(LocationError::Prefix(_))), "{wrong}");
        }
        for wrong in
            ["s3://bucket//a", "s3://bucket/a/../b", "s3://bucket/a b", "s3://bucket/a%2f", "s3://bucket///"]
        {
            assert!(matches!(wrong.parse::<Location>(), Err(LocationError::Prefix(_))), "{wrong}");
        }
    }

    #[test]
    fn only_a_relative_path_depends_on_where_one_is() {
        let of = |text: &str| text.parse::<Location>().unwrap();
        assert!(of("/a").is_absolute() && of("s3://bucket").is_absolute() && !of("a").is_absolute());
        assert!(of("a").absolute().unwrap().is_absolute());
    }
}
