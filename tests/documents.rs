//! The documents say what the code does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use orlop::config::KEYS;
use orlop::metadata::Table;
use orlop::oci::schema1::{MAX_SIGNATURES, SignatureAlgorithm};
use orlop::registry::Verified;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents() -> Vec<String> {
    let mut documents = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned()];
    for entry in std::fs::read_dir(Path::new(ROOT).join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            documents.push(format!("docs/{name}"));
        }
    }
    documents
}

#[test]
fn the_storage_format_lists_exactly_the_tables_there_are() {
    let document = read("docs/storage-format.md");
    let section = document.split("## Tables").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut listed: Vec<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut tables: Vec<&str> = Table::ALL.iter().map(|table| table.name()).collect();
    listed.sort_unstable();
    tables.sort_unstable();
    assert_eq!(listed, tables);
    assert!(document.contains(&format!("Schema {}.", orlop::metadata::SCHEMA)));
}

#[test]
fn the_page_about_signatures_has_the_words_of_the_code() {
    let page = read("docs/signatures.md");
    for algorithm in SignatureAlgorithm::ALL {
        assert!(page.contains(algorithm.as_str()), "{algorithm}");
    }
    for verified in [Verified::ByKey, Verified::ByChain, Verified::NotChecked] {
        assert!(page.contains(&format!("\n| `{}` |", verified.as_str())), "{verified:?}");
    }
    let most = MAX_SIGNATURES.to_string();
    assert!(page.contains(&format!("at most {},{} signatures", &most[..1], &most[1..])), "{most}");
    let http = read("docs/http-api.md");
    for word in page.split('`').skip(1).step_by(2) {
        let is_code = word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        assert!(!is_code || http.contains(&format!("| `{word}` |")), "there is no error {word}");
        let is_end_point = word.starts_with("GET ");
        assert!(!is_end_point || http.contains(&format!("| `{word}` |")), "there is no end-point {word}");
        let is_key = ["signatures.", "manifests."].iter().any(|table| word.starts_with(table));
        assert!(!is_key || KEYS.iter().any(|key| key.name == word), "there is no key {word}");
    }
}

#[test]
fn every_snippet_of_the_page_about_the_cache_is_tested_or_marked_as_untried() {
    let page = read("docs/cache.md");
    let tests: String = std::fs::read_dir(Path::new(ROOT).join("tests/clients"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cache_")))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let (mut tested, mut section) = (0, String::new());
    let lines: Vec<&str> = page.lines().collect();
    let mut fences = 0;
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with('#') && fences % 2 == 0 {
            section.clear();
        }
        section.push_str(line);
        if !line.starts_with("```") {
            continue;
        }
        fences += 1;
        if fences % 2 == 0 {
            continue;
        }
        let mark = lines[at - 1];
        let name = mark.strip_prefix("<!-- tested: ").and_then(|mark| mark.strip_suffix(" -->"));
        if let Some(name) = name {
            tested += 1;
            assert!(tests.contains(&format!("\"{name}\"")), "no test of a client uses {name}");
        } else {
            assert_eq!(mark, "<!-- not tested -->", "line {at}: the mark of the snippet");
            assert!(section.contains("untried"), "line {at}: the reader is not told that it is untried");
        }
    }
    assert!(tested > 10 && fences % 2 == 0, "{tested} snippets, {fences} fences");
    for word in page.split('`').filter(|word| word.starts_with("cache.") && !word.contains(['/', ':', ' '])) {
        assert!(KEYS.iter().any(|key| key.name == word), "there is no key {word}");
    }
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    for document in documents() {
        let text = read(&document);
        let folder = Path::new(&document).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") || link.starts_with('#') {
                continue;
            }
            let path = link.split('#').next().unwrap();
            assert!(Path::new(ROOT).join(folder).join(path).exists(), "{document} links to {link}");
        }
    }
}

#[test]
fn every_file_that_the_architecture_names_exists() {
    let text = read("ARCHITECTURE.md");
    for path in text.split('`').skip(1).step_by(2) {
        let looks_like_a_path = ["src/", "tests/", "migrations/", "docs/", "examples/", "benches/"]
            .iter()
            .any(|folder| path.starts_with(folder));
        if looks_like_a_path && !path.contains(['*', '<', 'N', ' ']) {
            assert!(Path::new(ROOT).join(path).exists(), "ARCHITECTURE.md names {path}");
        }
    }
}

/// `UPDATE_DOCS=1 cargo test --test documents` writes it.
#[test]
fn the_page_about_the_commands_is_made_of_their_definitions() {
    const BEGIN: &str = "<!-- What follows is written by `UPDATE_DOCS=1 cargo test --test documents`. -->\n";
    const END: &str = "<!-- End of what is written. -->\n";
    let page = read("docs/commands.md");
    let (before, rest) = page.split_once(BEGIN).expect("the page says where it begins");
    let (written, after) = rest.split_once(END).expect("the page says where it ends");
    let reference = format!("\n{}", orlop::cli::reference());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = Path::new(ROOT).join("docs/commands.md");
        std::fs::write(path, format!("{before}{BEGIN}{reference}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, reference, "run UPDATE_DOCS=1 cargo test --test documents");
    // What is said above of single commands is true of them.
    for command in before.split("`orlop ").skip(1).filter_map(|rest| rest.split('`').next()) {
        let words: Vec<&str> =
            command.split(' ').filter(|word| word.chars().all(char::is_lowercase)).collect();
        let is_one = |length: usize| reference.contains(&format!("[`orlop {}`]", words[..length].join(" ")));
        // `orlop COMMAND …` is about all of them.
        assert!(words.is_empty() || (1..=words.len()).any(is_one), "there is no orlop {command}");
    }
}

/// `cargo bench --bench speed -- --publish` writes all three; nobody changes one of them by hand.
#[test]
fn what_was_to_be_reached_says_the_same_in_the_figures_and_in_both_tables() {
    let figures: serde_json::Value = serde_json::from_str(&read("docs/speed.json")).unwrap();
    let (readme, page) = (read("README.md"), read("docs/performance.md"));
    let sections = figures["parts"].as_object().unwrap().values();
    let rows: Vec<_> = sections.flat_map(|section| section["reach"].as_array().unwrap()).collect();
    assert!(!rows.is_empty(), "something was to be reached");
    for row in rows {
        let (work, got) = (row["work"].as_str().unwrap(), row["got"].as_f64().unwrap());
        let (kind, bound) = row["wanted"].as_object().unwrap().iter().next().unwrap();
        let bound = bound.as_f64().unwrap();
        let (sign, is_reached) =
            if kind == "AtLeast" { ("≥", got >= bound) } else { ("≤", got <= bound) };
        let (unit, digits) = (row["unit"].as_str().unwrap(), if got < 20.0 { 2 } else { 0 });
        let against = row["against"].as_str().unwrap();
        let is = if is_reached { "yes" } else { "no" };
        let line = format!("| {work} | {against} | {sign} {bound} {unit} | {got:.digits$} {unit} | {is} |");
        assert!(readme.contains(&line) && page.contains(&line), "{line}");
    }
    assert!(readme.contains("docs/speed.svg") && page.contains("curves.svg"), "the charts are shown");
}
