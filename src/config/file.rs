//! The TOML file, taken apart into assignments.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{ConfigError, Key, Source};

/// One assignment in the file.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Assignment {
    /// The dotted name.
    pub(super) name: String,
    /// The value, without the quotes of a string.
    pub(super) value: Value,
    /// The line of the name, counted from 1.
    pub(super) line: usize,
}

/// One table of a list.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Table {
    /// What is in it, with dotted names that begin with the list's.
    pub(super) assignments: Vec<Assignment>,
    /// The line where it begins, counted from 1.
    pub(super) line: usize,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    /// A string, a number or a switch.
    Text(String),
    /// A list of strings.
    Words(Vec<String>),
    /// A list of tables.
    Tables(Vec<Table>),
    /// Something that no key takes, as the file has it.
    Other(String),
}

impl Value {
    /// The value as a message shows it.
    pub(super) fn shown(self) -> String {
        match self {
            Value::Text(text) | Value::Other(text) => text,
            Value::Words(words) => words.join(","),
            Value::Tables(_) => "a list of tables".to_owned(),
        }
    }
}

/// Takes `text` apart; `path` is for the message only.
pub(super) fn assignments(path: &Path, text: &str) -> Result<Vec<Assignment>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        ConfigError::Syntax {
            origin: Source::File { path: path.to_path_buf(), line },
            message: message(error.message(), text.lines().nth(line - 1).unwrap_or_default()),
        }
    })?;
    let mut found = Vec::new();
    flatten(text, "", table.get_ref(), &mut found);
    found.sort_by_key(|assignment| assignment.line);
    Ok(found)
}

/// What the parser says of a line, and what that means where people meet it.
fn message(said: &str, line: &str) -> String {
    if said == "duplicate key" && line.trim_start().trim_start_matches('[').starts_with("cache") {
        return format!(
            "{said}. Beside a table [cache], `cache = […]` is written in it, as `upstreams = […]`"
        );
    }
    said.to_owned()
}

fn flatten(text: &str, prefix: &str, table: &DeTable<'_>, found: &mut Vec<Assignment>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        let line = line_of(text, key.span().start);
        match value.get_ref() {
            // An empty table that no key lives in is a typing error like any other; one of ours is harmless.
            DeValue::Table(inner) if !inner.is_empty() || is_table(&name) => {
                flatten(text, &format!("{name}."), inner, found);
            }
            DeValue::Array(tables) if is_list_of_tables(tables) => {
                let value =
                    Value::Tables(tables.iter().map(|inner| list_table(text, &name, inner)).collect());
                found.push(Assignment { name, value, line });
            }
            _ => found.push(Assignment { name, value: scalar(text, value), line }),
        }
    }
}

fn is_list_of_tables(values: &DeArray<'_>) -> bool {
    !values.is_empty() && values.iter().all(|value| matches!(value.get_ref(), DeValue::Table(_)))
}

/// One table of the list called `name`.
fn list_table(text: &str, name: &str, value: &Spanned<DeValue<'_>>) -> Table {
    let mut assignments = Vec::new();
    if let DeValue::Table(inner) = value.get_ref() {
        flatten(text, &format!("{name}."), inner, &mut assignments);
    }
    assignments.sort_by_key(|assignment| assignment.line);
    Table { assignments, line: line_of(text, value.span().start) }
}

fn is_table(name: &str) -> bool {
    super::KEYS.iter().any(|key: &Key| key.table_and_name().0 == name)
        || super::LISTS.iter().any(|list| {
            let entry = name.strip_prefix(list.name).and_then(|rest| rest.strip_prefix('.'));
            entry.is_some_and(|entry| {
                list.rows().iter().any(|row| row.form == super::key::Form::Entries && row.name == entry)
            })
        })
}

fn scalar(text: &str, value: &Spanned<DeValue<'_>>) -> Value {
    let raw = || text.get(value.span()).unwrap_or_default().to_owned();
    match value.get_ref() {
        DeValue::String(string) => Value::Text(string.clone().into_owned()),
        DeValue::Boolean(on) => Value::Text(on.to_string()),
        DeValue::Integer(integer) if integer.radix() == 10 => Value::Text(integer.as_str().to_owned()),
        DeValue::Array(values) => {
            let word = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
                DeValue::String(word) if !word.contains(',') => Some(word.clone().into_owned()),
                _ => None,
            };
            let words: Option<Vec<String>> = values.iter().map(word).collect();
            words.map_or_else(|| Value::Other(raw()), Value::Words)
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            Value::Other(raw())
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Assignment> {
        assignments(Path::new("x.toml"), text).expect("valid TOML")
    }

    #[test]
    fn tables_and_dotted_names_are_the_same() {
        let nested = read("[log]\nlevel = \"debug\"\n");
        let dotted = read("\nlog.level = \"debug\"\n");
        assert_eq!(nested, dotted);
        assert_eq!((nested[0].name.as_str(), nested[0].line), ("log.level", 2));
    }

    #[test]
    fn an_empty_table_counts_only_when_it_is_unknown() {
        assert_eq!(read("[log]\n"), []);
        assert_eq!(read("[logging]\n")[0].name, "logging");
    }

    #[test]
    fn numbers_and_switches_are_text_and_lists_are_not() {
        let found = read("a = 1_000\nb = true\nc = [1]\nd = 1.5\n");
        let values: Vec<&Value> = found.iter().map(|assignment| &assignment.value).collect();
        assert_eq!(
            values,
            [
                &Value::Text("1000".to_owned()),
                &Value::Text("true".to_owned()),
                &Value::Other("[1]".to_owned()),
                &Value::Other("1.5".to_owned())
            ]
        );
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error =
            assignments(Path::new("x.toml"), "listen = \"a\"\ndata = [\n").expect_err("not valid TOML");
        assert!(error.to_string().contains("x.toml, line "), "{error}");
    }
}
