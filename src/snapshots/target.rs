//! When a snapshot is due.

use std::str::FromStr;
use std::time::Duration;

use super::{BackupOptions, Keep, Location};
use crate::clock::Timestamp;

/// The milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// So far ahead a snapshot's time may be before it says that the clock was set back.
const SKEW: Duration = Duration::from_secs(60);

/// The longest time between when a snapshot is due and when it is overdue.
const LONGEST_GRACE: Duration = Duration::from_secs(6 * 60 * 60);

/// A time of the day, by UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay {
    minutes: u64,
}

/// A text that is no time of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a time of the day by UTC, such as \"03:00\"")]
pub struct TimeOfDayError;

impl FromStr for TimeOfDay {
    type Err = TimeOfDayError;

    fn from_str(text: &str) -> Result<TimeOfDay, TimeOfDayError> {
        let (hours, minutes) = text.split_once(':').ok_or(TimeOfDayError)?;
        let number = |text: &str, below: u64| {
            let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|number| is_plain && *number < below).ok_or(TimeOfDayError)
        };
        Ok(TimeOfDay { minutes: number(hours, 24)? * 60 + number(minutes, 60)? })
    }
}

impl TimeOfDay {
    /// When it is this time first after `then`.
    fn after(self, then: Timestamp) -> Timestamp {
        let today = then.millis() / DAY * DAY + self.minutes * 60_000;
        Timestamp::from_millis(if today > then.millis() { today } else { today + DAY })
    }
}

/// Where snapshots are taken to by the clock, how often, and which stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupTarget {
    /// Where to. A directory has to be there.
    pub to: Location,
    /// How a store is reached, and to whom the backup is encrypted.
    pub options: BackupOptions,
    /// From one to the next.
    pub every: Duration,
    /// At this time of the day; then `every` is a number of days.
    pub at: Option<TimeOfDay>,
    /// Which stay; all of them where that is nothing.
    pub keep: Keep,
    /// With what is cached of upstreams.
    pub include_cache: bool,
}

impl BackupTarget {
    /// How it is called in logs and metrics.
    pub fn name(&self) -> String {
        self.to.to_string()
    }

    /// When the next one is due: as of the last one, however long ago that was, so that what was missed is made up; where there is
    /// none, since `since`. One of the future says that the clock was set back, and nothing about when the next one is due.
    pub(super) fn due(&self, last: Option<Timestamp>, since: Timestamp, now: Timestamp) -> Timestamp {
        match (last, self.at) {
            (None, _) => since,
            (Some(last), _) if last > now.saturating_add(SKEW) => since.min(now),
            (Some(last), None) => last.saturating_add(self.every),
            (Some(last), Some(at)) => {
                at.after(last).saturating_add(self.every.saturating_sub(Duration::from_millis(DAY)))
            }
        }
    }

    /// From when on a snapshot that is due then is overdue.
    pub(super) fn overdue_from(&self, due: Timestamp) -> Timestamp {
        due.saturating_add((self.every / 2).min(LONGEST_GRACE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(every: Duration, at: Option<&str>) -> BackupTarget {
        let at = at.map(|at| at.parse().unwrap());
        let to = Location::Directory("/b".into());
        let options = BackupOptions::default();
        BackupTarget { to, options, every, at, keep: Keep::default(), include_cache: false }
    }

    /// So many hours after a midnight.
    fn hour(hours: u64) -> Timestamp {
        Timestamp::from_millis(1_795_219_200_000 + hours * 3_600_000)
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_snapshot_is_due_as_of_the_last_one() {
        let target = target(6 * HOUR, None);
        assert_eq!(target.due(None, hour(3), hour(9)), hour(3), "the first one at once");
        assert_eq!(target.due(Some(hour(3)), hour(4), hour(5)), hour(9));
        assert_eq!(target.due(Some(hour(3)), hour(40), hour(50)), hour(9), "what was missed is due");
        assert_eq!(target.overdue_from(hour(9)), hour(12));
    }

    #[test]
    fn a_time_of_the_day_is_met_each_so_many_days() {
        let daily = target(24 * HOUR, Some("03:00"));
        assert_eq!(daily.due(Some(hour(2)), hour(0), hour(2)), hour(3));
        assert_eq!(daily.due(Some(hour(3)), hour(0), hour(3)), hour(27));
        assert_eq!(daily.due(Some(hour(4)), hour(0), hour(60)), hour(27), "it was off for a day");
        let weekly = target(7 * 24 * HOUR, Some("03:00"));
        assert_eq!(weekly.due(Some(hour(3)), hour(0), hour(4)), hour(3 + 7 * 24));
        for wrong in ["", "3:00", "24:00", "03:60", "03", "+3:00", "03:00:00", "noon"] {
            assert_eq!(wrong.parse::<TimeOfDay>(), Err(TimeOfDayError), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_stops_no_backups() {
        let target = target(6 * HOUR, None);
        assert_eq!(target.due(Some(hour(9_000)), hour(3), hour(5)), hour(3), "due at once");
        let soon = hour(5).saturating_add(Duration::from_secs(30));
        assert_eq!(
            target.due(Some(soon), hour(3), hour(5)),
            soon.saturating_add(6 * HOUR),
            "that is nothing"
        );
    }
}
