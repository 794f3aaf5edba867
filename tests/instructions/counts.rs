//! Counts, and the file that has those that were accepted.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

/// What a case took, all its rounds together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Count {
    /// Instructions of the program itself, without the C library's.
    pub(crate) instructions: u64,
    /// How often it asked for memory.
    pub(crate) allocations: u64,
}

/// The counts of all cases, by name.
pub(crate) type Counts = BTreeMap<String, Count>;

/// What the counts hang on besides the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// The first line of `rustc -vV`.
    pub(crate) version: String,
    /// For which it compiles.
    pub(crate) target: String,
}

impl Compiler {
    /// The one that builds this.
    pub(crate) fn present() -> Compiler {
        let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let said = Command::new(program).arg("-vV").current_dir(env!("CARGO_MANIFEST_DIR")).output();
        let said = String::from_utf8(said.expect("rustc is there").stdout).expect("rustc writes UTF-8");
        let version = said.lines().next().expect("its version").to_owned();
        let target = said.lines().find_map(|line| line.strip_prefix("host: ")).expect("its host").to_owned();
        Compiler { version, target }
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.version, self.target)
    }
}

/// The counts of one compiler.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    compiler: String,
    target: String,
    cases: Counts,
}

/// The file `counts.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    #[serde(default)]
    counted: Vec<Entry>,
}

const HEAD: &str = "# What each case takes, all its rounds together. Written by
#     UPDATE_COUNTS=1 cargo test --test instructions -- --ignored
";

impl Stored {
    pub(crate) fn read() -> Stored {
        Stored::parse(&std::fs::read_to_string(path()).expect("counts.toml is there"))
    }

    fn parse(text: &str) -> Stored {
        toml::from_str(text).expect("counts.toml has counts")
    }

    pub(crate) fn write(&self) {
        std::fs::write(path(), self.text()).expect("the checkout can be written");
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for Entry { compiler, target, cases } in &self.counted {
            write!(text, "\n[[counted]]\ncompiler = {compiler:?}\ntarget = {target:?}\n\n[counted.cases]\n")
                .expect("memory takes it");
            for (name, Count { instructions, allocations }) in cases {
                writeln!(text, "{name:?} = {{ instructions = {instructions}, allocations = {allocations} }}")
                    .expect("memory takes it");
            }
        }
        text
    }

    /// What was counted by this compiler, if it ever was.
    pub(crate) fn of(&self, compiler: &Compiler) -> Option<&Counts> {
        let is_it = |entry: &&Entry| entry.compiler == compiler.version && entry.target == compiler.target;
        self.counted.iter().find(is_it).map(|entry| &entry.cases)
    }

    /// Puts new counts in the place of all that were made for the same target, whatever the compiler: one is pinned.
    pub(crate) fn replace(&mut self, compiler: Compiler, cases: Counts) {
        let Compiler { version, target } = compiler;
        self.counted.retain(|entry| entry.target != target);
        self.counted.push(Entry { compiler: version, target, cases });
        self.counted.sort_by(|one, other| one.target.cmp(&other.target));
    }

    /// Every compiler that something was counted by.
    pub(crate) fn compilers(&self) -> Vec<Compiler> {
        let compiler =
            |entry: &Entry| Compiler { version: entry.compiler.clone(), target: entry.target.clone() };
        self.counted.iter().map(compiler).collect()
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/instructions/counts.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(version: &str, target: &str) -> Compiler {
        Compiler { version: version.to_owned(), target: target.to_owned() }
    }

    fn counts(instructions: u64) -> Counts {
        Counts::from([("a part/of it".to_owned(), Count { instructions, allocations: 3 })])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut stored = Stored::default();
        stored.replace(compiler("rustc 1 (\"a\")", "x86"), counts(1_000));
        stored.replace(compiler("rustc 1", "arm"), counts(2));
        assert_eq!(Stored::parse(&stored.text()), stored);
        assert_eq!(Stored::parse(HEAD), Stored::default());
    }

    #[test]
    fn new_counts_replace_those_of_their_target_and_no_others() {
        let mut stored = Stored::default();
        stored.replace(compiler("rustc 1", "x86"), counts(1));
        stored.replace(compiler("rustc 1", "arm"), counts(2));
        stored.replace(compiler("rustc 2", "x86"), counts(3));
        assert_eq!(stored.compilers(), [compiler("rustc 1", "arm"), compiler("rustc 2", "x86")]);
        assert_eq!(stored.of(&compiler("rustc 2", "x86")), Some(&counts(3)));
        assert_eq!(stored.of(&compiler("rustc 1", "arm")), Some(&counts(2)));
        assert_eq!(stored.of(&compiler("rustc 1", "x86")), None);
    }
}
