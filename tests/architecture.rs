//! The layers of Orlop: which may use which, which crate is named where, and that no file lies outside of the build.
//!
//! The rules read the source itself, without comments and strings, and every rule has a test that it can fail.
#![expect(clippy::unwrap_used, reason = "a rule that can't read the source has to fail")]

#[path = "architecture/scanner.rs"]
mod scanner;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use scanner::{Token, declarations, names_crate, names_path, names_under_root, production, tokens};

/// The layers, lowest first; a layer uses itself and those before it.
const LAYERS: [&str; 20] = [
    "oci",
    "clock",
    "secret",
    "telemetry",
    "client",
    "fsio",
    "blobs",
    "metadata",
    "registry",
    "notifications",
    "maintenance",
    "auth",
    "proxy",
    "snapshots",
    "transfer",
    "http",
    "config",
    "server",
    "cli",
    "main",
];

/// Crates that only certain layers may name, because each stands for one responsibility.
const FENCED_CRATES: &[(&str, &[&str])] = &[
    ("sha2", &["oci"]),
    ("jiff", &["clock"]),
    ("zeroize", &["secret"]),
    ("tracing_subscriber", &["telemetry"]),
    ("prometheus_client", &["telemetry"]),
    ("reqwest", &["client"]),
    ("tempfile", &["fsio"]),
    // fsio: its fs half; server: the limit of open files, the host's name.
    ("rustix", &["fsio", "server"]),
    ("redb", &["metadata", "migrations"]),
    ("bincode", &["metadata", "migrations"]),
    ("axum", &["http", "server"]),
    ("hyper", &["http", "server"]),
    ("hyper_util", &["http", "server"]),
    ("ipnet", &["http"]),
    ("rustls", &["server"]),
    ("tokio_rustls", &["server"]),
    ("x509_parser", &["server"]),
    ("instant_acme", &["server"]),
    ("rcgen", &["server"]),
    ("listenfd", &["server"]),
    ("regex", &["maintenance"]),
    ("semver", &["registry"]),
    ("bcrypt", &["auth"]),
    ("jsonwebtoken", &["auth"]),
    ("zstd", &["snapshots"]),
    ("object_store", &["snapshots"]),
    ("age", &["snapshots"]),
    ("tar", &["transfer"]),
    ("toml", &["config"]),
    ("strsim", &["config"]),
    ("clap", &["cli", "main"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["cli"]),
    ("rpassword", &["cli"]),
    ("anyhow", &["cli", "main"]),
];

/// Paths that only certain layers may name: what changes the file system, and what tells the time.
const FENCED_PATHS: &[(&[&str], &[&str])] = &[
    (&["SystemTime", "now"], &["clock", "telemetry"]),
    // server: tokio's, which stands still in tests of time-outs.
    (&["Instant", "now"], &["clock", "telemetry", "server"]),
    (&["rustix", "fs"], &["fsio"]),
    (&["fs", "write"], &["fsio"]),
    (&["fs", "rename"], &["fsio"]),
    (&["fs", "copy"], &["fsio"]),
    (&["fs", "hard_link"], &["fsio"]),
    (&["fs", "remove_file"], &["fsio"]),
    (&["fs", "remove_dir"], &["fsio"]),
    (&["fs", "remove_dir_all"], &["fsio"]),
    (&["fs", "create_dir"], &["fsio"]),
    (&["fs", "create_dir_all"], &["fsio"]),
    (&["fs", "set_permissions"], &["fsio"]),
    (&["fs", "OpenOptions"], &["fsio"]),
    (&["File", "create"], &["fsio"]),
    (&["File", "create_new"], &["fsio"]),
    (&["File", "options"], &["fsio"]),
    (&["OpenOptions", "new"], &["fsio"]),
    (&["DirBuilder", "new"], &["fsio"]),
    (&["tokio", "fs"], &[]),
];

/// The most lines of production code in a file, and the most folders below `src`.
const MAX_LINES: usize = 600;
const MAX_FOLDERS: usize = 3;

/// Names that say nothing about what a file is for.
const ATTICS: [&str; 6] = ["util", "utils", "common", "helpers", "types", "misc"];

/// A source file: its path below the package, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    /// The layer that the file belongs to; `migrations` stands beside them, `lib.rs` declares them all.
    fn layer(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = below.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many modules the file lies below the crate's root.
    fn depth(&self) -> usize {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let segments = below.split('/').count();
        if below.ends_with("mod.rs") { segments - 1 } else { segments }
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads every Rust file below a folder of the package, which may be absent.
fn files(folder: &str) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![package().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(File { path: relative(&path), text });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(package()).unwrap().to_str().unwrap().replace('\\', "/")
}

fn source_and_migrations() -> Vec<File> {
    files("src").into_iter().chain(files("migrations")).collect()
}

/// Returns a complaint for each use of a layer that stands above the file's own, tests included.
fn direction_violations(file: &File) -> Vec<String> {
    let rank = |layer: &str| LAYERS.iter().position(|own| *own == layer);
    let complaint = |name: &str| format!("{}: {} must not use `crate::{name}`", file.path, file.layer());
    let names = names_under_root(&tokens(&file.text), file.depth());
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let is_wrong = match (file.layer(), rank(&name)) {
            _ if name == "*" => true,
            // A released migration never changes, so that it can't build on what does.
            ("migrations", Some(_)) => name != "metadata",
            (own, Some(other)) => own != "lib" && rank(own).is_none_or(|own| other > own),
            (_, None) => false,
        };
        if is_wrong {
            found.push(complaint(&name));
        }
    }
    found
}

/// Returns a complaint for each fenced crate or path that the production code of a file names.
fn fence_violations(file: &File) -> Vec<String> {
    let tokens = tokens(production(&file.text));
    let crates = FENCED_CRATES
        .iter()
        .filter(|(name, layers)| names_crate(&tokens, name) && !layers.contains(&file.layer()))
        .map(|(name, layers)| format!("{}: `{name}` is named only in {layers:?}", file.path));
    let paths = FENCED_PATHS
        .iter()
        .filter(|(path, layers)| names_path(&tokens, path) && !layers.contains(&file.layer()))
        .map(|(path, layers)| format!("{}: `{}` is named only in {layers:?}", file.path, path.join("::")));
    crates.chain(paths).collect()
}

/// Returns a complaint for a file that has outgrown its folder or its noun.
fn shape_violations(file: &File) -> Vec<String> {
    let lines = production(&file.text).lines().count();
    let folders = file.path.split('/').count() - 2;
    let mut found = Vec::new();
    if lines >= MAX_LINES {
        found.push(format!("{}: {lines} lines of production code; split it below {MAX_LINES}", file.path));
    }
    if folders > MAX_FOLDERS {
        found.push(format!("{}: lies {folders} folders deep", file.path));
    }
    for part in file.path.split('/').filter(|part| ATTICS.contains(&part.trim_end_matches(".rs"))) {
        found.push(format!("{}: `{part}` says nothing about what it is for", file.path));
    }
    found
}

/// Returns the files that the module declarations reach from a crate's root, with the root.
fn reachable(root: &str, all: &[File]) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![(root.to_owned(), true)];
    while let Some((path, is_root)) = waiting.pop() {
        let Some(file) = all.iter().find(|file| file.path == path) else { continue };
        if !reached.insert(path.clone()) {
            continue;
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let own_folder = if is_root || path.ends_with("/mod.rs") {
            folder.to_owned()
        } else {
            path.trim_end_matches(".rs").to_owned()
        };
        for declared in declarations(&tokens(&file.text)) {
            let inner: String = declared.inside.iter().flat_map(|name| ["/", name]).collect();
            match declared.path {
                // Inside inline modules a path counts from their folder, else from the file's.
                Some(path) if inner.is_empty() => waiting.push((normal(&format!("{folder}/{path}")), false)),
                Some(path) => waiting.push((normal(&format!("{own_folder}{inner}/{path}")), false)),
                None => {
                    waiting.push((format!("{own_folder}{inner}/{}.rs", declared.name), false));
                    waiting.push((format!("{own_folder}{inner}/{}/mod.rs", declared.name), false));
                }
            }
        }
    }
    reached
}

/// Resolves the `..` of a path.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether Cargo takes a file for a crate's root without being told.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts[..], ["src", "lib.rs" | "main.rs"] | ["tests", _] | ["tests", _, "main.rs"])
}

fn undeclared(all: &[File]) -> Vec<String> {
    let roots = all.iter().filter(|file| is_root(&file.path));
    let reached: BTreeSet<String> = roots.flat_map(|root| reachable(&root.path, all)).collect();
    all.iter().map(|file| file.path.clone()).filter(|path| !reached.contains(path)).collect()
}

fn assert_none(violations: impl IntoIterator<Item = String>) {
    let violations: Vec<String> = violations.into_iter().collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn a_layer_uses_only_the_layers_below_it() {
    assert_none(source_and_migrations().iter().flat_map(direction_violations));
}

#[test]
fn every_file_belongs_to_a_layer() {
    assert_none(
        files("src").iter().filter(|file| file.layer() != "lib" && !LAYERS.contains(&file.layer())).map(
            |file| format!("{}: `{}` is not a layer; give it a place in LAYERS", file.path, file.layer()),
        ),
    );
}

#[test]
fn a_crate_is_named_only_where_it_belongs() {
    assert_none(source_and_migrations().iter().flat_map(fence_violations));
}

#[test]
fn files_stay_small_and_shallow_and_have_names_that_say_something() {
    assert_none(source_and_migrations().iter().flat_map(shape_violations));
}

#[test]
fn every_file_is_part_of_the_build() {
    let all: Vec<File> = ["src", "tests", "migrations"].iter().flat_map(|folder| files(folder)).collect();
    assert!(all.len() > 20, "the walk has found the source");
    assert_none(
        undeclared(&all).into_iter().map(|path| format!("{path}: no `mod` declares it, so it never runs")),
    );
}

#[test]
fn nothing_is_left_to_do() {
    let markers = ["TO", "FIX"].map(|start| start.to_owned() + if start == "TO" { "DO" } else { "ME" });
    let all = ["src", "tests", "migrations", "examples", "benches"];
    assert_none(all.iter().flat_map(|folder| files(folder)).filter_map(|file| {
        let marker = markers.iter().find(|marker| file.text.contains(*marker))?;
        Some(format!("{}: contains {marker}", file.path))
    }));
}

mod the_rules_can_fail {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let source = r##"
            // crate::http
            /* crate::http /* nested */ crate::http */
            let a = "crate::http \" crate::http"; let b = r#"crate::http " "#; let c = b"crate::http";
            let d = '"'; let e: &'static str = '\''; crate::oci
        "##;
        assert_eq!(names_under_root(&tokens(source), 9), ["oci"]);
        assert!(tokens(source).contains(&Token::Text(r#"crate::http \" crate::http"#.to_owned())));
    }

    #[test]
    fn a_use_of_a_higher_layer_is_found_in_every_form() {
        for text in [
            "use crate::http::Route;",
            "use crate::{oci::Digest, http::{Route, self}};",
            "use crate::{\n    oci, // low\n    http,\n};",
            "fn f() { crate::http::f() }",
            "use super::super::http;",
            "use crate::*;",
            "use crate as root;",
            "pub use crate::registry;",
            "mod tests { use crate::server; }",
            "mod tests { mod inner { use super::super::super::super::http; } }",
            "mod tests {} use super::super::http;",
        ] {
            assert!(!direction_violations(&file("src/blobs/store.rs", text)).is_empty(), "{text}");
        }
        assert!(!direction_violations(&file("src/blobs/mod.rs", "use super::http;")).is_empty());
        assert!(!direction_violations(&file("src/clock.rs", "use super::http;")).is_empty());
        assert!(!direction_violations(&file("migrations/0001_x.rs", "use crate::oci;")).is_empty());
    }

    #[test]
    fn a_use_of_a_lower_layer_is_allowed() {
        for text in [
            "use crate::{oci::Digest, fsio};",
            "use crate::blobs::BlobStore;",
            "use super::http;",
            "mod tests { use super::super::http; }",
            "pub(crate) fn f() {}",
            "use http::StatusCode;",
            "use crate::blobs::{http::X};",
        ] {
            assert_eq!(direction_violations(&file("src/blobs/store.rs", text)), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_fenced_crate_is_found_in_every_form() {
        for text in [
            "use redb::Database;",
            "use ::redb::Database;",
            "use {redb::Database};",
            "use redb as database;",
            "fn f(db: &redb::Database) {}",
            "#[derive(redb::Key)] struct S;",
            "extern crate redb;",
        ] {
            assert!(!fence_violations(&file("src/registry/x.rs", text)).is_empty(), "{text}");
            assert_eq!(fence_violations(&file("src/metadata/x.rs", text)), [""; 0], "{text}");
            assert_eq!(fence_violations(&file("migrations/0001_x.rs", text)), [""; 0], "{text}");
        }
        for text in ["let redb = 1;", "use crate::metadata::redb::X;", "// redb::Database", "struct Redb;"] {
            assert_eq!(fence_violations(&file("src/registry/x.rs", text)), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_fenced_path_is_found_and_tests_may_name_it() {
        let text = "fn f() { std::fs::write(path, bytes) }";
        assert!(!fence_violations(&file("src/registry/x.rs", text)).is_empty());
        let now = "use std::time::Instant; fn f() { Instant::now() }";
        assert!(!fence_violations(&file("src/registry/x.rs", now)).is_empty());
        assert_eq!(fence_violations(&file("src/clock.rs", now)), [""; 0]);
        let in_tests = format!("fn f() {{}}\n\n#[cfg(test)]\nmod tests {{ {text} }}\n");
        assert_eq!(fence_violations(&file("src/registry/x.rs", &in_tests)), [""; 0]);
    }

    #[test]
    fn a_file_that_is_too_long_or_too_deep_is_found() {
        let long = "fn f() {}\n".repeat(600);
        assert!(!shape_violations(&file("src/oci/x.rs", &long)).is_empty());
        let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(shape_violations(&file("src/oci/x.rs", &tested)), [""; 0]);
        assert!(!shape_violations(&file("src/a/b/c/d/x.rs", "")).is_empty());
        assert!(!shape_violations(&file("src/oci/util.rs", "")).is_empty());
    }

    #[test]
    fn a_file_that_nobody_declares_is_found() {
        let files = [
            file("src/lib.rs", "pub mod a;\n#[path = \"../migrations/0001_x.rs\"] mod first;"),
            file("src/a/mod.rs", "mod b; mod tests { mod c; }"),
            file("src/a/b.rs", "mod deep;"),
            file("src/a/b/deep.rs", ""),
            file("src/a/tests/c.rs", ""),
            file("src/a/lost.rs", ""),
            file("migrations/0001_x.rs", ""),
            file("migrations/0002_x.rs", ""),
            file("tests/api.rs", "mod support; mod api { mod blobs; } mod after;"),
            file("tests/support/mod.rs", ""),
            file("tests/api/blobs.rs", ""),
            file("tests/api/after.rs", ""),
            file("tests/api/uploads.rs", "// mod uploads;"),
        ];
        assert_eq!(
            undeclared(&files),
            ["src/a/lost.rs", "migrations/0002_x.rs", "tests/api/after.rs", "tests/api/uploads.rs"]
        );
    }

    #[test]
    fn a_file_of_no_layer_is_seen_as_such() {
        assert_eq!(file("src/attic/x.rs", "").layer(), "attic");
        assert_eq!(file("src/clock.rs", "").layer(), "clock");
        assert_eq!(file("src/http/v2/blobs.rs", "").layer(), "http");
        assert_eq!(file("src/http/v2/mod.rs", "").depth(), 2);
        assert_eq!(normal("src/metadata/../../migrations/0001.rs"), "migrations/0001.rs");
    }

    #[test]
    fn paths_are_resolved_against_the_package() {
        let path: PathBuf = package().join("tests/architecture.rs");
        assert_eq!(relative(&path), "tests/architecture.rs");
    }
}
