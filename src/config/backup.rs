//! The list of targets of backups.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lists::{ListTable, TableError};
use super::value::{duration, number, switch, url, words};
use super::{Config, Key};
use crate::snapshots::{
    BackupOptions, BackupTarget, Keep, Location, LocationError, TimeOfDay, TimeOfDayError,
};

/// The shortest time between two snapshots.
const SHORTEST: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A table `[[backup]]` on its way to a [`BackupTarget`].
#[derive(Debug)]
pub(super) struct BackupTable(BackupTarget);

impl ListTable for BackupTable {
    const NAME: &'static str = "backup";
    const KEYS: &'static [Key<BackupTable>] = &[
        Key::reloaded_text(
            "backup.to",
            "",
            |table, value| location(value).map(|to| table.0.to = to),
            "The backup: a directory by its whole path, or s3://bucket/prefix; unique. A directory has to be there and is never \
             made, so that a disk that isn't mounted gets no backup beside the data: name a directory on that disk, \
             /mnt/disk/orlop, not where it is mounted.",
        ),
        Key::reloaded_text(
            "backup.every",
            "24h",
            |table, value| every(value).map(|time| table.0.every = time),
            "The time from one snapshot to the next. What falls due while no server runs is made up after the next start.",
        ),
        Key::reloaded_text(
            "backup.at",
            "",
            |table, value| at(value).map(|at| table.0.at = at),
            "The time of the day by UTC at which a snapshot is taken, for example \"03:00\"; then `every` is a number of days. \
             Empty: as it comes.",
        ),
        Key::reloaded_bare(
            "backup.keep_last",
            "0",
            |table, value| number(value).map(|count| table.0.keep.last = count),
            "After each snapshot those that no rule keeps are removed; without any rule all stay. This one keeps so many of the \
             newest ones. 0: no such rule.",
        ),
        Key::reloaded_bare(
            "backup.keep_hourly",
            "0",
            |table, value| number(value).map(|count| table.0.keep.hourly = count),
            "Keeps the newest one of each of so many hours that have one. 0: no such rule.",
        ),
        Key::reloaded_bare(
            "backup.keep_daily",
            "0",
            |table, value| number(value).map(|count| table.0.keep.daily = count),
            "The same for days, by UTC.",
        ),
        Key::reloaded_bare(
            "backup.keep_weekly",
            "0",
            |table, value| number(value).map(|count| table.0.keep.weekly = count),
            "The same for weeks, which begin on Monday.",
        ),
        Key::reloaded_bare(
            "backup.keep_monthly",
            "0",
            |table, value| number(value).map(|count| table.0.keep.monthly = count),
            "The same for months.",
        ),
        Key::reloaded_bare(
            "backup.include_cache",
            "false",
            |table, value| switch(value).map(|on| table.0.include_cache = on),
            "Whether what is cached of other registries is in the snapshots too.",
        ),
        Key::reloaded_text(
            "backup.s3_endpoint",
            "",
            |table, value| url(value).map(|url| table.0.options.s3.endpoint = url),
            "The URL of the store, for s3://. Empty: that of the variable AWS_ENDPOINT_URL, else AWS itself.",
        ),
        Key::reloaded_text(
            "backup.s3_region",
            "",
            |table, value| region(value).map(|region| table.0.options.s3.region = region),
            "The region of the store. Empty: that of AWS_REGION, else us-east-1.",
        ),
        Key::reloaded_text(
            "backup.s3_credentials",
            "",
            |table, value| file(value).map(|file| table.0.options.s3.credentials = file),
            "A file with the keys of the store, as AWS's own tools write it, by its whole path. Empty: the keys are those of AWS_ACCESS_KEY_ID \
             and AWS_SECRET_ACCESS_KEY.",
        ),
        Key::reloaded_bare(
            "backup.s3_virtual_host",
            "false",
            |table, value| switch(value).map(|on| table.0.options.s3.virtual_host = on),
            "Whether the bucket is named in the host of the URL and not in its path.",
        ),
        Key::reloaded_words(
            "backup.encrypt_to",
            "",
            |table, value| recipients(value).map(|recipients| table.0.options.encrypt_to = recipients),
            "The age recipients that the snapshots are encrypted to, such as [\"age1…\"]; other tools can't read them then. Empty: \
             they are kept as they are.",
        ),
    ];

    fn blank() -> BackupTable {
        BackupTable(BackupTarget {
            to: Location::Directory(PathBuf::new()),
            options: BackupOptions::default(),
            every: Duration::ZERO,
            at: None,
            keep: Keep::default(),
            include_cache: false,
        })
    }

    fn finish(self, config: &mut Config) -> Result<(), TableError> {
        let BackupTable(target) = self;
        let wrong =
            |key, value: String, advice: &str| TableError::Value { key, value, advice: advice.to_owned() };
        if target.to == Location::Directory(PathBuf::new()) {
            return Err(TableError::Missing("to"));
        }
        if config.backups.iter().any(|other| other.to == target.to) {
            let advice = "write each place once; there is a [[backup]] to this one already";
            return Err(wrong("to", target.name(), advice));
        }
        let is_days = target.every >= DAY && target.every.as_millis() % DAY.as_millis() == 0;
        if target.at.is_some() && !is_days {
            let advice = "write a number of days beside `at`, such as 24h or 7d";
            return Err(wrong("every", format!("{}s", target.every.as_secs()), advice));
        }
        config.backups.push(target);
        Ok(())
    }

    fn example(name: &str) -> Option<&'static str> {
        match name {
            "to" => Some("\"/mnt/disk/orlop\""),
            "at" => Some("\"03:00\""),
            "keep_daily" => Some("7"),
            "keep_weekly" => Some("4"),
            "keep_monthly" => Some("12"),
            _ => None,
        }
    }
}

fn location(text: &str) -> Result<Location, String> {
    let location: Location =
        text.parse().map_err(|error: LocationError| format!("write a place ({error})"))?;
    if location.is_absolute() {
        return Ok(location);
    }
    Err("write the whole path of a directory, from / on, or s3://bucket/prefix".to_owned())
}

/// A file by its whole path, or none.
fn file(text: &str) -> Result<Option<PathBuf>, String> {
    match Path::new(text) {
        path if text.is_empty() || path.is_absolute() => Ok((!text.is_empty()).then(|| path.to_owned())),
        _ => Err("write the whole path of a file, from / on".to_owned()),
    }
}

fn region(text: &str) -> Result<Option<String>, String> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        return Ok((!text.is_empty()).then(|| text.to_owned()));
    }
    Err("write the name of a region, such as \"eu-central-1\"".to_owned())
}

fn recipients(text: &str) -> Result<Vec<String>, String> {
    let recipient = |word: &str| {
        let is_one = word.starts_with("age1") && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_one {
            Ok(word.to_owned())
        } else {
            Err("write age recipients, such as [\"age1…\"]".to_owned())
        }
    };
    words(text).map(recipient).collect()
}

fn every(text: &str) -> Result<Duration, String> {
    duration(text)
        .and_then(|time| if time < SHORTEST { Err("write 1s or more".to_owned()) } else { Ok(time) })
}

fn at(text: &str) -> Result<Option<TimeOfDay>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: TimeOfDayError| error.to_string())
}
