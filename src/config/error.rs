//! What is wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::Key;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: it is the default.
    Default,
    /// In a file, on a line counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// In this flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(variable) => write!(f, "the environment variable {variable}"),
            Self::Flag(flag) => match flag.split_once('=') {
                Some((key, value)) => write!(f, "the flag {key}={}", shown(value)),
                None => write!(f, "the flag {flag}"),
            },
        }
    }
}

/// A value as a message repeats it: not where it is a URL that may have a password in it.
fn shown(value: &str) -> &str {
    if value.contains("://") && value.contains(['@', '?']) { "…" } else { value }
}

/// One thing that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: this is not valid TOML: {message}")]
    Syntax {
        /// The place.
        origin: Source,
        /// What the parser says.
        message: String,
    },
    /// There is no such key.
    #[error(
        "{origin}: there is no key \"{name}\"; the nearest is \"{nearest}\" (`orlop config example` shows all)"
    )]
    UnknownKey {
        /// The name as it was given.
        name: String,
        /// The place.
        origin: Source,
        /// The name of the key that is most like it.
        nearest: String,
    },
    /// A list of tables that is written as something else.
    #[error("{origin}: \"{list}\" is a list: write [[{list}]] in the file, with two brackets, once for each")]
    List {
        /// The place.
        origin: Source,
        /// The list's name.
        list: &'static str,
    },
    /// A table of a list that lacks a key.
    #[error("{origin}: this [[{list}]] has no \"{key}\"; every one needs it")]
    Missing {
        /// The place.
        origin: Source,
        /// The list's name.
        list: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A flag `--set` that is not `key=value`.
    #[error("the flag --set {given}: write --set key=value, for example --set log.level=debug")]
    Assignment {
        /// What was given.
        given: String,
    },
    /// The value can't be used for this key.
    #[error("{origin}: {:?} is not a value for \"{key}\": {advice}", shown(value))]
    Value {
        /// The key.
        key: &'static str,
        /// The place.
        origin: Source,
        /// The value as it was given.
        value: String,
        /// What to write instead.
        advice: String,
    },
}

impl ConfigError {
    pub(super) fn unknown(name: &str, origin: Source) -> Self {
        let nearest = match &origin {
            Source::Environment(variable) => Key::nearest_variable(variable).variable(),
            _ => Key::nearest(name).name.to_owned(),
        };
        Self::UnknownKey { name: name.to_owned(), origin, nearest }
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, in the order of file, environment and flags.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}
