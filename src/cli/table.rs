//! Tables for people.

use std::fmt::Write;
use std::io;

use super::output::Output;

/// How many rows are aligned at once.
const ROWS: usize = 1_000;

/// Rows below their headings, which are in capitals; each column is as wide as its widest cell. They are printed some at a time, so
/// that any number of them takes little memory: what comes later may widen a column.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    headings: [&'static str; N],
    /// The columns that stand at their right edge.
    right: &'static [usize],
    rows: Vec<[String; N]>,
    widths: [usize; N],
    is_begun: bool,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(headings: [&'static str; N], right: &'static [usize]) -> Self {
        let widths = headings.map(|heading| heading.chars().count());
        Self { headings, right, rows: Vec::new(), widths, is_begun: false }
    }

    /// Whether no row was added yet.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && !self.is_begun
    }

    /// Adds a row, which is printed with others.
    pub(super) fn add(&mut self, row: [String; N], output: &mut Output) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() >= ROWS { self.print(output) } else { Ok(()) }
    }

    /// Prints what was not printed yet, and the headings with the first rows.
    pub(super) fn print(&mut self, output: &mut Output) -> io::Result<()> {
        for row in &self.rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        if !std::mem::replace(&mut self.is_begun, true) {
            self.line(&self.headings.map(str::to_uppercase), &mut text);
        }
        for row in std::mem::take(&mut self.rows) {
            self.line(&row, &mut text);
        }
        output.text(&text)
    }

    fn line(&self, cells: &[String; N], text: &mut String) {
        let begin = text.len();
        for (column, (cell, width)) in cells.iter().zip(self.widths).enumerate() {
            let written = if self.right.contains(&column) {
                write!(text, "{cell:>width$}  ")
            } else {
                write!(text, "{cell:width$}  ")
            };
            written.expect("writing to a String does not fail");
        }
        text.truncate(begin + text[begin..].trim_end().len());
        text.push('\n');
    }
}

/// Prints rows below their headings.
pub(super) fn print<const N: usize>(
    output: &mut Output,
    headings: [&'static str; N],
    right: &'static [usize],
    rows: &[[String; N]],
) -> io::Result<()> {
    let mut table = Table::new(headings, right);
    rows.iter().try_for_each(|row| table.add(row.clone(), output))?;
    table.print(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_last_word() {
        let mut table = Table::new(["name", "size", ""], &[1]);
        table.rows =
            vec![["a".into(), "10 B".into(), String::new()], ["übung".into(), "1 B".into(), "x".into()]];
        table.widths = [5, 4, 1];
        let mut text = String::new();
        for row in table.rows.clone() {
            table.line(&row, &mut text);
        }
        assert_eq!(text, "a      10 B\nübung   1 B  x\n");
    }
}
