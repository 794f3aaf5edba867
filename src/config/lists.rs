//! Lists of tables: what may stand in the file any number of times.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::backup::BackupTable;
use super::endpoint::EndpointTable;
use super::file::{Assignment, Table, Value};
use super::immutable::ImmutableTable;
use super::issuer::IssuerTable;
use super::key::Form;
use super::quota::QuotaTable;
use super::retention::RetentionTable;
use super::rule::RuleTable;
use super::upstream::UpstreamTable;
use super::{Config, ConfigError, Key, Source};

/// One list of tables.
#[derive(Debug)]
pub struct List {
    /// Its name in the file: `notifications.endpoint`.
    pub name: &'static str,
    /// What a table of it is, for the example.
    pub(super) about: &'static str,
    /// What has to be given, for the page.
    pub(super) required: &'static str,
    rows: fn() -> Vec<Row>,
    read: Reader,
    fingerprint: fn(&Table) -> Option<u64>,
}

/// Reads one table into the configuration.
type Reader = fn(&mut Config, &Path, Table) -> Result<(), Vec<ConfigError>>;

/// One key of the tables of a list, for whoever shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The name, without the list's.
    pub name: &'static str,
    /// The default, as the file has it.
    pub default: String,
    /// The value in the example, as the file has it.
    pub example: String,
    /// What the key means.
    pub help: &'static str,
    pub(super) form: Form,
}

/// Every list there is, in the order of the example.
pub const LISTS: &[List] = &[
    List::of::<UpstreamTable>(
        "A registry whose images are cached; one such table for each of which more is to be said than its host.",
        "the first has",
    ),
    List::of::<RuleTable>(
        "A rule that lets somebody do something; one such table for each. With any rule, what no rule allows is denied. \
         Without one, users pull and push and nobody else does anything; and without users either, everybody may do \
         everything.",
        "all have",
    ),
    List::of::<IssuerTable>(
        "An issuer of tokens that are taken beside the registry's own, such as a CI system; one such table for each. Whom it \
         vouches for may do what rules say of claim:NAME=VALUE. There is none by default.",
        "the first four have",
    ),
    List::of::<EndpointTable>(
        "An endpoint that is told of what happens; one such table for each. There is none by default.",
        "the first two have",
    ),
    List::of::<RetentionTable>(
        "A policy about which tags stay and which go; one such table for each. Without one nothing is ever deleted. A tag that \
         a keep rule of any policy keeps, stays; of the others, the first policy that is about the tag and has a delete rule \
         decides alone. `orlop policy run --dry-run` shows each tag with the rule that decides.",
        "the first two and at least one rule have",
    ),
    List::of::<ImmutableTable>(
        "Tags that can't be pointed elsewhere or deleted once they are pushed; one such table for each group. There is \
         none by default.",
        "the first has",
    ),
    List::of::<QuotaTable>(
        "What each of some repositories may hold; one such table for each group. The first whose pattern matches counts, so \
         that particular ones stand before general ones. There is none by default.",
        "both have",
    ),
    List::of::<BackupTable>(
        "Where snapshots of the registry are taken to by the clock; one such table for each place. There is none by default. \
         `orlop status` and the metrics show how each does.",
        "the first has",
    ),
];

/// A table of a list on its way into the configuration.
pub(super) trait ListTable: Sized + 'static {
    /// The list's name in the file.
    const NAME: &'static str;
    /// Every key.
    const KEYS: &'static [Key<Self>];

    /// A table without any key.
    fn blank() -> Self;

    /// Puts what the table says into the configuration.
    fn finish(self, config: &mut Config) -> Result<(), TableError>;

    /// The value of a key in the example, where it isn't the default.
    fn example(name: &str) -> Option<&'static str>;

    /// A table whose every key has its default.
    fn new() -> Self {
        let mut table = Self::blank();
        for key in Self::KEYS.iter().filter(|key| !key.default.is_empty()) {
            key.apply(&mut table, key.default).expect("a default is a valid value, as a test claims");
        }
        table
    }
}

/// Why a table whose keys are all valid is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TableError {
    /// A key, named without the list, has to be there.
    Missing(&'static str),
    /// The value of a key doesn't go with the others.
    Value {
        /// The key, named without the list.
        key: &'static str,
        value: String,
        advice: String,
    },
}

impl List {
    const fn of<T: ListTable>(about: &'static str, required: &'static str) -> List {
        List {
            name: T::NAME,
            about,
            required,
            rows: rows::<T>,
            read: read::<T>,
            fingerprint: fingerprint::<T>,
        }
    }

    /// The list of this name.
    pub fn find(name: &str) -> Option<&'static List> {
        LISTS.iter().find(|list| list.name == name)
    }

    /// The list that something called `name` means, which is neither a list nor a key.
    pub(super) fn meant_by(name: &str) -> Option<&'static List> {
        let is_meant = |rest: &str| rest.is_empty() || rest.starts_with('.');
        LISTS.iter().find(|list| name.strip_prefix(list.name).is_some_and(is_meant))
    }

    /// The list that an environment variable means, which has none.
    pub(super) fn meant_by_variable(variable: &str) -> Option<&'static List> {
        LISTS.iter().find(|list| variable.starts_with(&super::key::variable(list.name)))
    }

    /// The keys of its tables.
    pub fn rows(&self) -> Vec<Row> {
        (self.rows)()
    }

    /// Reads one table.
    pub(super) fn read(
        &self,
        config: &mut Config,
        path: &Path,
        table: Table,
    ) -> Result<(), Vec<ConfigError>> {
        (self.read)(config, path, table)
    }

    /// What changes with those keys of a table by whose new values no running server goes; `None` where there are no such keys.
    pub(super) fn fingerprint(&self, table: &Table) -> Option<u64> {
        (self.fingerprint)(table)
    }
}

fn fingerprint<T: ListTable>(table: &Table) -> Option<u64> {
    if T::KEYS.iter().all(|key| key.is_reloaded) {
        return None;
    }
    let is_reloaded = |name: &str| T::KEYS.iter().any(|key| key.is_reloaded && key.name == name);
    let kept = table.assignments.iter().filter(|assignment| !is_reloaded(&assignment.name));
    let mut values: Vec<(&str, &Value)> =
        kept.map(|assignment| (assignment.name.as_str(), &assignment.value)).collect();
    values.sort_by_key(|(name, _)| *name);
    let mut hasher = DefaultHasher::new();
    values.hash(&mut hasher);
    Some(hasher.finish())
}

fn rows<T: ListTable>() -> Vec<Row> {
    let row = |key: &Key<T>| {
        let (_, name) = key.table_and_name();
        let default = key.default_in_file();
        let example = T::example(name).map_or_else(|| default.clone(), str::to_owned);
        Row { name, default, example, help: key.help, form: key.form }
    };
    T::KEYS.iter().map(row).collect()
}

fn read<T: ListTable>(config: &mut Config, path: &Path, table: Table) -> Result<(), Vec<ConfigError>> {
    let at = |line| Source::File { path: path.to_path_buf(), line };
    let lines: Vec<(String, usize)> =
        table.assignments.iter().map(|assignment| (assignment.name.clone(), assignment.line)).collect();
    let mut reading = T::new();
    let mut errors = Vec::new();
    for assignment in table.assignments {
        if let Err(error) = assign(&mut reading, assignment, &at) {
            errors.push(error);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    reading.finish(config).map_err(|error| {
        vec![match error {
            TableError::Missing(key) => ConfigError::Missing { origin: at(table.line), list: T::NAME, key },
            TableError::Value { key, value, advice } => {
                let key = T::KEYS.iter().find(|known| known.table_and_name().1 == key);
                let key = key.expect("a table complains of its own keys").name;
                let line = lines.iter().find(|(name, _)| name == key).map_or(table.line, |(_, line)| *line);
                ConfigError::Value { key, origin: at(line), value, advice }
            }
        }]
    })
}

/// Sets one key of a table.
fn assign<T: ListTable>(
    table: &mut T,
    Assignment { name, value, line }: Assignment,
    at: &impl Fn(usize) -> Source,
) -> Result<(), ConfigError> {
    let origin = at(line);
    let entry = T::KEYS.iter().filter(|key| key.form == Form::Entries).find_map(|key| {
        let entry = name.strip_prefix(key.name)?.strip_prefix('.')?;
        Some((key, entry))
    });
    let key = T::KEYS.iter().find(|key| key.name == name);
    let (key, result) = match (entry, key, value) {
        (Some((key, entry)), _, Value::Text(value)) => {
            (key, key.apply(table, &format!("{entry}: {value}")).map_err(|advice| (value, advice)))
        }
        (_, Some(key), Value::Text(value))
            if matches!(key.form, Form::Quoted | Form::WordOrWords | Form::Bare) =>
        {
            (key, key.apply(table, &value).map_err(|advice| (value, advice)))
        }
        (_, Some(key), Value::Words(words)) if matches!(key.form, Form::Words | Form::WordOrWords) => {
            let value = words.join(",");
            (key, key.apply(table, &value).map_err(|advice| (value, advice)))
        }
        (Some((key, _)), _, value) | (_, Some(key), value) => (key, Err((value.shown(), advice(key)))),
        (None, None, _) => {
            let nearest = T::KEYS.iter().min_by_key(|key| key.distance(&name));
            let nearest = nearest.expect("the table is not empty").name.to_owned();
            return Err(ConfigError::UnknownKey { name, origin, nearest });
        }
    };
    result.map_err(|(value, advice)| {
        let value = if key.is_hidden { "…".to_owned() } else { value };
        ConfigError::Value { key: key.name, origin, value, advice }
    })
}

/// What to write for a key whose value has the wrong form.
pub(super) fn advice<T>(key: &Key<T>) -> String {
    match key.form {
        Form::Quoted | Form::WordOrWords | Form::Bare if key.default.is_empty() => {
            "write a string".to_owned()
        }
        Form::Quoted | Form::WordOrWords | Form::Bare => {
            format!("write a single value like the default, {}", key.default_in_file())
        }
        Form::Words => "write a list of strings, for example [\"one\", \"two\"]".to_owned(),
        Form::Entries => "write a table of strings, for example { Authorization = \"Bearer …\" }".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_keys<T: ListTable>() {
        for key in T::KEYS {
            assert_eq!(key.table_and_name().0, T::NAME, "{}", key.name);
            if !key.default.is_empty() {
                assert_eq!(key.apply(&mut T::new(), key.default), Ok(()), "{}", key.name);
            }
            if ["upstream.username", "upstream.password_file", "upstream.ca"].contains(&key.name) {
                // Almost any text is a name of a user, and any a path.
                continue;
            }
            let message = key.apply(&mut T::new(), "non sense(").expect_err(key.name);
            assert!(message.contains("write"), "{}: {message}", key.name);
        }
    }

    #[test]
    fn every_default_is_valid_and_nonsense_is_answered_with_what_to_write() {
        check_keys::<RuleTable>();
        check_keys::<IssuerTable>();
        check_keys::<EndpointTable>();
        check_keys::<RetentionTable>();
        check_keys::<ImmutableTable>();
        check_keys::<QuotaTable>();
        check_keys::<UpstreamTable>();
        check_keys::<BackupTable>();
    }

    #[test]
    fn lists_and_keys_have_different_names() {
        for list in LISTS {
            assert!(Key::find(list.name).is_none(), "{}", list.name);
            for key in super::super::KEYS {
                assert!(!key.variable().starts_with(&super::super::key::variable(list.name)), "{}", key.name);
            }
        }
    }
}
