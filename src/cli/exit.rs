//! What commands end with, in one place: `docs/commands.md` and `orlop help exit-codes` print the same table.

use std::fmt::Write;
use std::process::ExitCode;

/// The command line itself is wrong, and nothing was done.
pub(super) const USAGE: u8 = 2;

/// The command did what was asked, and what it looked at isn't in order.
pub(super) const NOT_IN_ORDER: u8 = 3;

/// Every exit code, and what it means.
pub(super) const CODES: &[(&str, &str)] = &[
    ("0", "It did what was asked. Where it looked at something, that is in order."),
    ("1", "It could not do what was asked, or not all of it; standard error says why."),
    ("2", "The command line is wrong, and nothing was done."),
    (
        "3",
        "It did what was asked, and found something that isn't in order: verify and backup verify found damage, backup create \
         found that the registry has lost something, import or a restore of some images left something out, or access explain answers that they may not.",
    ),
    ("130, 143", "serve was ended at once by a second Ctrl-C, or a second SIGTERM."),
];

/// The exit code of a command that did what was asked.
pub(super) fn done(is_in_order: bool) -> ExitCode {
    if is_in_order { ExitCode::SUCCESS } else { ExitCode::from(NOT_IN_ORDER) }
}

/// The table as text for people.
pub(super) fn page() -> String {
    let mut text = "Every command ends with one of these exit codes:\n\n".to_owned();
    for (code, meaning) in CODES {
        writeln!(text, "  {code:10}{meaning}").expect("writing to a String does not fail");
    }
    text.push_str(
        "\nbackup lock ends with the exit code of the command that it runs. A reader of the output that has seen enough, such as \
         head, is no failure.\n",
    );
    text
}
