//! How far a long operation has come, on a terminal.

use std::time::Duration;

use indicatif::{ProgressDrawTarget, ProgressStyle};

use crate::http::admin::{Progress, Unit};

/// The pause between two looks of a bar that stands still.
const TICK: Duration = Duration::from_millis(200);

/// A bar on standard error where that is a terminal, and nothing elsewhere. It goes when it is dropped.
#[derive(Debug)]
pub(super) struct ProgressBar {
    bar: indicatif::ProgressBar,
    /// What the bar's style was made for.
    shown: Option<(Unit, bool)>,
}

impl ProgressBar {
    /// A bar that isn't seen before there is something to show.
    pub(super) fn new() -> Self {
        let bar = indicatif::ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, shown: None }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
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
        (Unit::Items, false) => "{spinner} {msg}: {pos}",
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
