//! The TOML file, taken apart into assignments.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Key, Source};

/// One assignment in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// The dotted name.
    pub(super) name: String,
    /// The value, without the quotes of a string.
    pub(super) value: Value,
    /// The line of the name, counted from 1.
    pub(super) line: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A string, a number or a switch.
    Text(String),
    /// Something that no key takes, as the file has it.
    Other(String),
}

/// Takes `text` apart; `path` is for the message only.
pub(super) fn assignments(path: &Path, text: &str) -> Result<Vec<Assignment>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        ConfigError::Syntax {
            origin: Source::File { path: path.to_path_buf(), line },
            message: error.message().to_owned(),
        }
    })?;
    let mut found = Vec::new();
    flatten(text, "", table.get_ref(), &mut found);
    found.sort_by_key(|assignment| assignment.line);
    Ok(found)
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
            _ => found.push(Assignment { name, value: scalar(text, value), line }),
        }
    }
}

fn is_table(name: &str) -> bool {
    super::KEYS.iter().any(|key: &Key| key.table_and_name().0 == name)
}

fn scalar(text: &str, value: &Spanned<DeValue<'_>>) -> Value {
    let raw = || text.get(value.span()).unwrap_or_default().to_owned();
    match value.get_ref() {
        DeValue::String(string) => Value::Text(string.clone().into_owned()),
        DeValue::Boolean(on) => Value::Text(on.to_string()),
        DeValue::Integer(integer) if integer.radix() == 10 => Value::Text(integer.as_str().to_owned()),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => Value::Other(raw()),
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
