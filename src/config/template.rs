//! The key table as a commented file and as a page of the documentation.

use std::fmt::Write;

use super::{KEYS, LISTS, List};

/// The width at which comments are wrapped.
const WIDTH: usize = 100;

/// What each table of the file is about.
fn heading(table: &str) -> &'static str {
    match table {
        "" => {
            "Orlop's configuration. Every key is shown with its default; remove the # before one to change it."
        }
        "access" => "Who may do what.",
        "log" => "The log, on standard error.",
        "uploads" => "Uploads of blobs.",
        "manifests" => "Manifests.",
        "signatures" => "Who has signed manifests.",
        "delete" => "What clients may delete, and for how long it can come back.",
        "collection" => "What becomes of content that nothing names.",
        "history" => "What tags have pointed to before.",
        "tls" => "TLS of the server's own.",
        "proxy" => "Proxies in front of the registry.",
        "limits" => "Limits on what clients can use up.",
        "storage" => "The disk.",
        "retention" => "Which tags stay and which go: policies run over all repositories.",
        "notifications" => "Who is told of pushes, pulls, mounts and deletions: webhooks.",
        "client" => "Requests that the registry itself sends to others.",
        "database" => "The metadata database.",
        "storage.cache" => "What pulls are answered from without the database.",
        "cache" => "The pull-through cache: other registries' images, kept beside one's own.",
        _ => "",
    }
}

/// The commented configuration file with every key and its default.
pub fn example() -> String {
    let mut text = String::new();
    let mut table = None;
    for key in KEYS {
        let (in_table, name) = key.table_and_name();
        if table != Some(in_table) {
            table = Some(in_table);
            if !in_table.is_empty() {
                text.push('\n');
            }
            comment(&mut text, heading(in_table));
            if in_table.is_empty() {
                comment(
                    &mut text,
                    "An environment variable wins over this file, and a flag over both. Sizes are written like \"64 MiB\", \
                     durations like \"24h\". `orlop config check` says whether a file is valid.",
                );
            } else {
                writeln!(text, "[{in_table}]").expect("writing to a String does not fail");
            }
        }
        text.push('\n');
        comment(&mut text, key.help);
        comment(&mut text, &format!("Environment: {}", key.variable()));
        writeln!(text, "#{name} = {}", key.default_in_file()).expect("writing to a String does not fail");
    }
    for list in LISTS {
        list_example(&mut text, list);
    }
    text
}

/// One table of a list, all of it behind a #.
fn list_example(text: &mut String, list: &List) {
    text.push('\n');
    comment(text, list.about);
    writeln!(text, "#[[{}]]", list.name).expect("writing to a String does not fail");
    for row in list.rows() {
        text.push('\n');
        comment(text, row.help);
        writeln!(text, "#{} = {}", row.name, row.example).expect("writing to a String does not fail");
    }
}

/// The table of keys in Markdown, as `docs/configuration.md` holds it.
pub fn reference() -> String {
    let mut text = String::from("| key | environment | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in KEYS {
        writeln!(
            text,
            "| `{}` | `{}` | `{}` | {} |",
            key.name,
            key.variable(),
            key.default_in_file(),
            key.help.replace('|', "\\|")
        )
        .expect("writing to a String does not fail");
    }
    for list in LISTS {
        write!(
            text,
            "\nEach table `[[{}]]` of the file has these keys, of which {} to be given:\n\n\
             | key | default | meaning |\n| --- | --- | --- |\n",
            list.name, list.required
        )
        .expect("writing to a String does not fail");
        for row in list.rows() {
            writeln!(text, "| `{}` | `{}` | {} |", row.name, row.default, row.help.replace('|', "\\|"))
                .expect("writing to a String does not fail");
        }
    }
    text
}

fn comment(text: &mut String, sentence: &str) {
    let mut line = String::from("#");
    for word in sentence.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_heading() {
        for key in KEYS {
            assert_ne!(heading(key.table_and_name().0), "", "{}", key.name);
        }
    }

    #[test]
    fn the_keys_of_a_table_stand_together() {
        let mut seen = Vec::new();
        for key in KEYS {
            let table = key.table_and_name().0;
            if seen.last() != Some(&table) {
                assert!(!seen.contains(&table), "{table} is opened twice");
                seen.push(table);
            }
        }
    }
}
