//! Reading the configuration from its sources.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{self, Value};
use super::key::Form;
use super::lists::advice;
use super::{Config, ConfigError, ConfigErrors, KEYS, Key, LISTS, List, RENAMED, SHORT, Source, Upstream};

/// What the name of every environment variable begins with.
pub const VARIABLE_PREFIX: &str = "ORLOP_";
/// The environment variable that names the file.
pub const FILE_VARIABLE: &str = "ORLOP_CONFIG";
/// The file that is read, if it exists, when none is named.
pub const DEFAULT_FILE: &str = "orlop.toml";

/// What a configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The file that a flag names; it must exist.
    pub file: Option<PathBuf>,
    /// The process's environment; names that don't start with [`VARIABLE_PREFIX`] are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags with a key of their own: the flag, the key's name, the value.
    pub flags: Vec<(&'static str, &'static str, String)>,
    /// The values of `--set`: `key=value`.
    pub assignments: Vec<String>,
}

/// A configuration that is valid, and where its values come from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Every key's value, in the order of [`KEYS`].
    pub effective: Vec<Effective>,
    /// What is understood and should be written otherwise, each a sentence.
    pub warnings: Vec<String>,
    /// Of each list with tables, what [`List::fingerprint`] says of them.
    lists: BTreeMap<&'static str, Vec<u64>>,
}

/// The value of one key, and its origin.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The key.
    pub key: &'static Key,
    /// Its value as it was written.
    pub value: String,
    /// Where it was written.
    pub origin: Source,
}

impl Input {
    /// Reads everything, and reports everything that is wrong at once.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let mut reading = Reading {
            config: Config::default(),
            effective: KEYS
                .iter()
                .map(|key| Effective { key, value: key.default.to_owned(), origin: Source::Default })
                .collect(),
            errors: Vec::new(),
            warnings: Vec::new(),
            lists: BTreeMap::new(),
        };
        let file = reading.file(self);
        for (name, value) in &self.environment {
            reading.variable(name, value);
        }
        for (flag, key, value) in &self.flags {
            reading.assign(key, value, Source::Flag((*flag).to_owned()));
        }
        for given in &self.assignments {
            match given.split_once('=') {
                Some((name, value)) => {
                    reading.assign(name.trim(), value.trim(), Source::Flag(format!("--set {given}")));
                }
                None => reading.errors.push(ConfigError::Assignment { given: given.clone() }),
            }
        }
        reading.complete();
        let Reading { config, effective, errors, warnings, lists } = reading;
        if errors.is_empty() {
            Ok(Loaded { config, file, effective, warnings, lists })
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// The file that is read where there is one.
    pub fn file(&self) -> PathBuf {
        self.file_to_read().0
    }

    /// The file to read, and whether it must exist.
    fn file_to_read(&self) -> (PathBuf, bool) {
        let named = self.file.clone().or_else(|| {
            let variable = self.environment.iter().find(|(name, _)| name == FILE_VARIABLE);
            variable.map(|(_, value)| PathBuf::from(value))
        });
        named.map_or_else(|| (PathBuf::from(DEFAULT_FILE), false), |path| (path, true))
    }
}

impl Loaded {
    /// The keys and lists that are different in `next`, and by whose new values no running server goes.
    pub fn needs_restart(&self, next: &Loaded) -> Vec<&'static str> {
        let keys = self.effective.iter().zip(&next.effective);
        let keys = keys.filter(|(one, other)| !one.key.is_reloaded && one.value != other.value);
        let none = Vec::new();
        let tables = |loaded: &Loaded, list: &List| loaded.lists.get(list.name).unwrap_or(&none).clone();
        let lists = LISTS.iter().filter(|list| tables(self, list) != tables(next, list));
        keys.map(|(one, _)| one.key.name).chain(lists.map(|list| list.name)).collect()
    }
}

/// The name that a key has now.
fn present_name(name: &str) -> &str {
    RENAMED.iter().chain(SHORT).find(|(other, _)| *other == name).map_or(name, |(_, present)| present)
}

struct Reading {
    config: Config,
    effective: Vec<Effective>,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
    lists: BTreeMap<&'static str, Vec<u64>>,
}

impl Reading {
    fn file(&mut self, input: &Input) -> Option<PathBuf> {
        let (path, required) = input.file_to_read();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                self.text(&path, &text);
                Some(path)
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound && !required => None,
            Err(source) => {
                self.errors.push(ConfigError::Unreadable { path, source });
                None
            }
        }
    }

    fn text(&mut self, path: &Path, text: &str) {
        let assignments = match file::assignments(path, text) {
            Ok(assignments) => assignments,
            Err(error) => return self.errors.push(error),
        };
        for assignment in assignments {
            let origin = Source::File { path: path.to_path_buf(), line: assignment.line };
            let key = Key::find(present_name(&assignment.name));
            let is_word = key.is_some_and(|key| key.form != Form::Words);
            let is_words = key.is_some_and(|key| matches!(key.form, Form::Words | Form::WordOrWords));
            match (assignment.value, key) {
                (Value::Tables(tables), None) if List::find(&assignment.name).is_some() => {
                    let list = List::find(&assignment.name).expect("it was just found");
                    for table in tables {
                        self.lists.entry(list.name).or_default().extend(list.fingerprint(&table));
                        let errors = list.read(&mut self.config, path, table);
                        self.errors.extend(errors.err().into_iter().flatten());
                    }
                }
                (Value::Text(value), Some(_)) if is_word => self.assign(&assignment.name, &value, origin),
                (Value::Words(words), Some(_)) if is_words => {
                    self.assign(&assignment.name, &words.join(","), origin);
                }
                (_, None) => self.unknown(&assignment.name, origin),
                (value, Some(key)) => self.errors.push(ConfigError::Value {
                    key: key.name,
                    origin,
                    value: value.shown(),
                    advice: advice(key),
                }),
            }
        }
    }

    /// Brings together what several keys and lists say of one thing.
    fn complete(&mut self) {
        for host in &self.config.cache.hosts {
            let upstreams = &mut self.config.upstreams;
            if upstreams.iter().all(|upstream| upstream.host != *host) {
                upstreams.push(Upstream::new(host));
            }
        }
        self.config.access.knows_certificates = self.config.tls.knows_clients();
        if let Some((key, advice)) = self.config.tls.contradiction() {
            let set = self.effective.iter().find(|effective| effective.key.name == key);
            let set = set.expect("every key has its value");
            let (origin, value) = (set.origin.clone(), set.value.clone());
            self.errors.push(ConfigError::Value { key, origin, value, advice: advice.to_owned() });
        }
        let upstreams = &self.config.upstreams;
        let (key, default) = ("cache.default", self.config.cache.default.as_ref());
        let set = self.effective.iter().find(|effective| effective.key.name == key);
        let set = set.filter(|effective| effective.origin != Source::Default);
        if let (Some(host), Some(set)) = (default, set)
            && !upstreams.is_empty()
            && upstreams.iter().all(|upstream| upstream.host != *host)
        {
            let advice = "write an upstream's host, or \"\" for none; cache.upstreams doesn't have this one"
                .to_owned();
            let (origin, value) = (set.origin.clone(), set.value.clone());
            self.errors.push(ConfigError::Value { key, origin, value, advice });
        }
    }

    fn unknown(&mut self, name: &str, origin: Source) {
        self.errors.push(match List::meant_by(name) {
            Some(list) => ConfigError::List { origin, list: list.name },
            None => ConfigError::unknown(name, origin),
        });
    }

    fn variable(&mut self, name: &OsString, value: &OsString) {
        let Some(name) = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else { return };
        if name == FILE_VARIABLE || self.config.upstreams.iter().any(|upstream| upstream.reads_variable(name))
        {
            return;
        }
        let origin = Source::Environment(name.to_owned());
        let renamed = RENAMED.iter().chain(SHORT).find(|(other, _)| super::key::variable(other) == name);
        if let (Some((old, _)), Some(value)) = (renamed, value.to_str()) {
            return self.assign(old, value, origin);
        }
        match (KEYS.iter().find(|key| key.variable() == name), value.to_str()) {
            (Some(key), Some(value)) => self.assign(key.name, value, origin),
            (Some(key), None) => self.errors.push(ConfigError::Value {
                key: key.name,
                origin,
                value: value.to_string_lossy().into_owned(),
                advice: "write it in UTF-8".to_owned(),
            }),
            (None, _) => self.errors.push(match List::meant_by_variable(name) {
                Some(list) => ConfigError::List { origin, list: list.name },
                None => ConfigError::unknown(name, origin),
            }),
        }
    }

    fn assign(&mut self, name: &str, value: &str, origin: Source) {
        let present = present_name(name);
        if RENAMED.iter().any(|(old, _)| *old == name) {
            self.warnings.push(format!("{origin}: {name} is now called {present}; the old name will go"));
        }
        let Some(at) = KEYS.iter().position(|key| key.name == present) else {
            return self.unknown(name, origin);
        };
        let key = &KEYS[at];
        match key.apply(&mut self.config, value) {
            Ok(()) => self.effective[at] = Effective { key, value: value.to_owned(), origin },
            Err(advice) => {
                self.errors.push(ConfigError::Value {
                    key: key.name,
                    origin,
                    value: value.to_owned(),
                    advice,
                });
            }
        }
    }
}
