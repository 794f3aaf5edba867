//! What the commands print.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

/// Standard output, line by line.
#[derive(Debug)]
pub(super) struct Output(io::Stdout);

impl Output {
    pub(super) fn standard() -> Self {
        Self(io::stdout())
    }

    /// Prints `text` and a line end, and sends it off at once.
    pub(super) fn line(&mut self, text: impl Display) -> io::Result<()> {
        let mut stdout = self.0.lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }

    /// Prints facts below each other, each behind its name.
    pub(super) fn facts<N: AsRef<str>, V: Display>(
        &mut self,
        facts: impl IntoIterator<Item = (N, V)>,
    ) -> io::Result<()> {
        facts.into_iter().try_for_each(|(name, value)| self.line(format!("{:16} {value}", name.as_ref())))
    }

    /// Prints a value as JSON, on one line.
    pub(super) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.line(serde_json::to_string(value).context("cannot write the answer")?)?)
    }

    /// Prints `text` as it is.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        let mut stdout = self.0.lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

/// Prints why a command failed, on standard error.
pub(super) fn error(error: &anyhow::Error) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "error: {}", message(error));
}

/// The error and its causes, but for those that an error already tells itself.
fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message.push_str(": ");
            message.push_str(&cause);
        }
    }
    message
}

/// A time for people: `3 days`, `2 hours`, `40 s`.
pub(super) fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A number of bytes for people: `1.5 GiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = || anyhow::Error::from(io::Error::other("no disk"));
        assert_eq!(message(&cause().context("cannot write")), "cannot write: no disk");
        assert_eq!(message(&cause().context("cannot write (no disk)")), "cannot write (no disk)");
    }

    #[test]
    fn byte_counts_are_written_with_the_unit_that_fits() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
