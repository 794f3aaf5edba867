//! How far a long operation has come, on a terminal.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressStyle};

use crate::http::admin::{Progress, Unit};

/// The pause between two looks of a bar that stands still.
const TICK: Duration = Duration::from_millis(200);

/// How many bars stand below each other.
const BARS: usize = 10;

/// Bars on standard error where that is a terminal, and nothing elsewhere: one for each of several things that come side by
/// side. Those that are full make room for others, and all go when this is dropped.
#[derive(Debug, Default)]
pub(super) struct ProgressBars {
    screen: MultiProgress,
    bars: Vec<(String, ProgressBar)>,
}

impl ProgressBars {
    pub(super) fn show(&mut self, progress: &Progress) {
        let known = self.bars.iter().position(|(what, _)| *what == progress.what);
        let at = match known {
            Some(at) => at,
            None if progress.total == Some(progress.done) => return,
            None if self.bars.len() < BARS => {
                let bar = self.screen.add(indicatif::ProgressBar::hidden());
                self.bars.push((progress.what.clone(), ProgressBar { bar, shown: None }));
                self.bars.len() - 1
            }
            None => return,
        };
        self.bars[at].1.show(progress);
        if progress.total == Some(progress.done) {
            self.bars.remove(at);
        }
    }
}

/// A bar on standard error where that is a terminal, and nothing elsewhere. It goes when it is dropped.
#[derive(Debug)]
pub(super) struct ProgressBar {
    bar: indicatif::ProgressBar,
    /// What the bar's style was made for.
    shown: Option<(Unit, bool)>,
}

impl ProgressBar {
    fn show(&mut self, progress: &Progress) {
        if let Some(total) = progress.total {
            self.bar.set_length(total.max(progress.done));
        }
        self.bar.set_message(progress.what.clone());
        self.bar.set_position(progress.done);
        let kind = (progress.unit, progress.total.is_some());
        if self.shown != Some(kind) {
            self.shown = Some(kind);
            self.bar.set_style(style(progress.unit, progress.total.is_some()));
            // What an earlier run did says nothing about the rate of this one.
            self.bar.reset_eta();
            self.bar.enable_steady_tick(TICK);
        }
    }
}

fn style(unit: Unit, has_total: bool) -> ProgressStyle {
    ProgressStyle::with_template(template(unit, has_total)).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn template(unit: Unit, has_total: bool) -> &'static str {
    match (unit, has_total) {
        (Unit::Bytes, true) => {
            "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
        }
        (Unit::Bytes, false) => "{spinner} {msg}: {binary_bytes}, {binary_bytes_per_sec}",
        (Unit::Items, true) => "{msg} {wide_bar} {pos} of {len}, {per_sec}, {eta} left",
        (Unit::Items, false) => "{spinner} {msg}: {pos}, {per_sec}",
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_one() {
        for unit in [Unit::Bytes, Unit::Items] {
            for has_total in [true, false] {
                assert!(ProgressStyle::with_template(template(unit, has_total)).is_ok());
            }
        }
    }
}
