//! Tables for people.

use std::fmt::Write;
use std::io;

use super::output::Output;

/// Prints rows below their headings, which are in capitals, each column as wide as its widest cell; those of `right` stand at its right edge.
pub(super) fn print<const N: usize>(
    output: &mut Output,
    headings: [&str; N],
    right: &[usize],
    rows: &[[String; N]],
) -> io::Result<()> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or_default()
    });
    let mut line = |cells: [&str; N]| {
        let mut text = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let width = widths[column];
            if right.contains(&column) {
                write!(text, "{cell:>width$}").map_err(io::Error::other)?;
            } else {
                write!(text, "{cell:width$}").map_err(io::Error::other)?;
            }
            text.push_str("  ");
        }
        output.line(text.trim_end())
    };
    let headings = headings.map(str::to_uppercase);
    line(headings.each_ref().map(String::as_str))?;
    for row in rows {
        line(std::array::from_fn(|column| row[column].as_str()))?;
    }
    Ok(())
}
