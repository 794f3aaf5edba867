//! What is wrong with counts, in words.

use crate::counts::{Compiler, Count, Counts, Stored};

/// By how much a count may differ from the stored one, in per cent of that.
const TOLERANCE: u64 = 3;

/// What is said after whatever is wrong.
pub(crate) const HOW_TO_ACCEPT: &str =
    "If that is meant, accept what was counted, and commit it with its reason:
    UPDATE_COUNTS=1 cargo test --test instructions -- --ignored";

/// A complaint for each case that differs by more than the tolerance, is new, or is gone.
pub(crate) fn differences(stored: &Counts, counted: &Counts) -> Vec<String> {
    let mut found = Vec::new();
    for (name, now) in counted {
        match stored.get(name) {
            Some(before) => found.extend(difference(name, *before, *now)),
            None => {
                found.push(format!("{name}: nothing is stored; {} instructions counted", now.instructions));
            }
        }
    }
    let gone = stored.keys().filter(|name| !counted.contains_key(*name));
    found.extend(gone.map(|name| format!("{name}: stored, and no longer there")));
    found
}

fn difference(name: &str, before: Count, now: Count) -> Vec<String> {
    [
        ("instructions", before.instructions, now.instructions),
        ("allocations", before.allocations, now.allocations),
    ]
    .into_iter()
    .filter(|(_, before, now)| is_beyond(*before, *now))
    .map(|(what, before, now)| {
        format!("{name}: {before} {what} stored, {now} counted: {}", per_cent(before, now))
    })
    .collect()
}

fn is_beyond(before: u64, now: u64) -> bool {
    before.abs_diff(now) * 100 > before * TOLERANCE
}

/// How much more `now` is, with one decimal place.
fn per_cent(before: u64, now: u64) -> String {
    let Some(tenths) = (before.abs_diff(now) * 1_000).checked_div(before) else {
        return "none before".to_owned();
    };
    let sign = if now < before { '-' } else { '+' };
    format!("{sign}{}.{} %", tenths / 10, tenths % 10)
}

/// That nothing is stored for the compiler at all.
pub(crate) fn nothing_stored(stored: &Stored, compiler: &Compiler) -> String {
    let known: Vec<String> = stored.compilers().iter().map(Compiler::to_string).collect();
    format!(
        "tests/instructions/counts.toml has no counts of {compiler}, only of {}.\nWith rustup, the compiler that \
         rust-toolchain.toml pins is used by itself; without it, install that one. For a new target, or a new pin,\ncount \
         on a commit whose speed is known to be right.",
        known.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(cases: &[(&str, u64, u64)]) -> Counts {
        let count = |&(name, instructions, allocations): &(&str, u64, u64)| {
            (name.to_owned(), Count { instructions, allocations })
        };
        cases.iter().map(count).collect()
    }

    #[test]
    fn three_per_cent_more_or_less_pass_and_no_more_than_that() {
        let stored = counts(&[("routes/blob", 10_000, 500)]);
        for (instructions, allocations) in [(10_000, 500), (10_290, 500), (9_710, 515), (10_300, 485)] {
            let counted = counts(&[("routes/blob", instructions, allocations)]);
            assert_eq!(differences(&stored, &counted), [""; 0], "{instructions}, {allocations}");
        }
        for (instructions, allocations, expected) in [
            (10_310, 500, "routes/blob: 10000 instructions stored, 10310 counted: +3.1 %"),
            (9_690, 500, "routes/blob: 10000 instructions stored, 9690 counted: -3.1 %"),
            (25_000, 500, "routes/blob: 10000 instructions stored, 25000 counted: +150.0 %"),
            (10_000, 516, "routes/blob: 500 allocations stored, 516 counted: +3.2 %"),
            (10_000, 0, "routes/blob: 500 allocations stored, 0 counted: -100.0 %"),
        ] {
            let counted = counts(&[("routes/blob", instructions, allocations)]);
            assert_eq!(differences(&stored, &counted), [expected]);
        }
    }

    #[test]
    fn the_first_allocation_of_what_made_none_is_seen() {
        let (stored, counted) = (counts(&[("a", 10, 0)]), counts(&[("a", 10, 1)]));
        assert_eq!(differences(&stored, &counted), ["a: 0 allocations stored, 1 counted: none before"]);
    }

    #[test]
    fn a_case_without_a_stored_count_fails_and_so_does_one_that_is_gone() {
        let (stored, counted) = (counts(&[("old", 10, 0)]), counts(&[("new", 20, 0)]));
        assert_eq!(
            differences(&stored, &counted),
            ["new: nothing is stored; 20 instructions counted", "old: stored, and no longer there"]
        );
    }

    #[test]
    fn a_compiler_without_counts_is_told_what_to_do() {
        let compiler = |version: &str| Compiler { version: version.to_owned(), target: "x86".to_owned() };
        let mut stored = Stored::default();
        stored.replace(compiler("rustc 1"), counts(&[("a", 1, 0)]));
        assert!(stored.of(&compiler("rustc 2")).is_none());
        let told = nothing_stored(&stored, &compiler("rustc 2"));
        assert!(told.contains("no counts of rustc 2 for x86, only of rustc 1 for x86"), "{told}");
        assert!(told.contains("rust-toolchain.toml"), "{told}");
    }
}
