//! One configuration key.

use super::value::words;
use super::{Config, KEYS};

/// One configuration key; of the whole configuration, or of one table of a list.
#[derive(Debug)]
pub struct Key<T: 'static = Config> {
    /// The name in the file, with its table: `log.level`.
    pub name: &'static str,
    /// The default, written as it stands in an environment variable.
    pub default: &'static str,
    /// What the key means, in sentences for the person who sets it.
    pub help: &'static str,
    /// How the value is written in the file.
    pub(super) form: Form,
    /// Whether messages keep a wrong value to themselves, since it may be a secret.
    pub(super) is_hidden: bool,
    /// Whether a running server goes by its new value when it is read again.
    pub is_reloaded: bool,
    set: Setter<T>,
}

/// How a value is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In quotes.
    Quoted,
    /// In quotes, or as a list of strings; separated by commas elsewhere.
    WordOrWords,
    /// Without quotes.
    Bare,
    /// As a list of strings; separated by commas elsewhere.
    Words,
    /// As a table of names and secret values, each of which is set by itself as `name: value`.
    Entries,
}

/// Puts a value into the configuration, or says what to write instead.
type Setter<T> = fn(&mut T, &str) -> Result<(), String>;

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> Key<T> {
    pub(super) const fn text(
        name: &'static str,
        default: &'static str,
        set: Setter<T>,
        help: &'static str,
    ) -> Self {
        Self { name, default, help, form: Form::Quoted, is_hidden: false, is_reloaded: false, set }
    }

    pub(super) const fn bare(
        name: &'static str,
        default: &'static str,
        set: Setter<T>,
        help: &'static str,
    ) -> Self {
        Self { name, default, help, form: Form::Bare, is_hidden: false, is_reloaded: false, set }
    }

    /// A bare value by whose new value a running server goes.
    pub(super) const fn reloaded_bare(
        name: &'static str,
        default: &'static str,
        set: Setter<T>,
        help: &'static str,
    ) -> Self {
        Self { name, default, help, form: Form::Bare, is_hidden: false, is_reloaded: true, set }
    }

    pub(super) const fn words(
        name: &'static str,
        default: &'static str,
        set: Setter<T>,
        help: &'static str,
    ) -> Self {
        Self { name, default, help, form: Form::Words, is_hidden: false, is_reloaded: false, set }
    }

    /// A text by whose new value a running server goes.
    pub(super) const fn reloaded_text(
        name: &'static str,
        default: &'static str,
        set: Setter<T>,
        help: &'static str,
    ) -> Self {
        Self { name, default, help, form: Form::Quoted, is_hidden: false, is_reloaded: true, set }
    }

    /// Words by whose new values a running server goes.
    pub(super) const fn reloaded_words(
        name: &'static str,
        default: &'static str,
        set: Setter<T>,
        help: &'static str,
    ) -> Self {
        Self { name, default, help, form: Form::Words, is_hidden: false, is_reloaded: true, set }
    }

    pub(super) const fn word_or_words(
        name: &'static str,
        default: &'static str,
        set: Setter<T>,
        help: &'static str,
    ) -> Self {
        Self { name, default, help, form: Form::WordOrWords, is_hidden: false, is_reloaded: false, set }
    }

    pub(super) const fn entries(name: &'static str, set: Setter<T>, help: &'static str) -> Self {
        Self { name, default: "", help, form: Form::Entries, is_hidden: true, is_reloaded: false, set }
    }

    /// A text whose wrong values no message shows.
    pub(super) const fn hidden(
        name: &'static str,
        default: &'static str,
        set: Setter<T>,
        help: &'static str,
    ) -> Self {
        Self { name, default, help, form: Form::Quoted, is_hidden: true, is_reloaded: false, set }
    }

    /// The key's table in the file and its name there; the table is empty for the keys at the top.
    pub fn table_and_name(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or(("", self.name))
    }

    /// The default as it is written in the file.
    pub fn default_in_file(&self) -> String {
        match self.form {
            Form::Quoted | Form::WordOrWords => format!("{:?}", self.default),
            Form::Bare => self.default.to_owned(),
            Form::Words => format!("{:?}", words(self.default).collect::<Vec<_>>()),
            Form::Entries => "{}".to_owned(),
        }
    }

    /// Sets the key's field; an error says what is wrong with `value` and what to write instead.
    pub fn apply(&self, settings: &mut T, value: &str) -> Result<(), String> {
        (self.set)(settings, value)
    }

    /// How much `name` differs from the key's.
    pub(super) fn distance(&self, name: &str) -> usize {
        let (_, last) = self.table_and_name();
        let given = name.rsplit('.').next().unwrap_or(name);
        // The table is what people leave out or guess wrong, so the last part counts for itself too.
        strsim::damerau_levenshtein(self.name, name).min(strsim::damerau_levenshtein(last, given) + 1)
    }
}

impl Key {
    /// The name of the key's environment variable: `ORLOP_LOG_LEVEL`.
    pub fn variable(&self) -> String {
        variable(self.name)
    }

    /// The key of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The key whose name is most like `name`.
    pub fn nearest(name: &str) -> &'static Self {
        KEYS.iter().min_by_key(|key| key.distance(name)).expect("the table is not empty")
    }

    /// The key whose environment variable is most like `variable`.
    pub fn nearest_variable(variable: &str) -> &'static Self {
        KEYS.iter()
            .min_by_key(|key| strsim::damerau_levenshtein(&key.variable(), variable))
            .expect("the table is not empty")
    }
}

/// The environment variable of the key called `name`.
pub(super) fn variable(name: &str) -> String {
    format!("{}{}", super::VARIABLE_PREFIX, name.to_uppercase().replace('.', "_"))
}
