//! The log: structured lines on standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{Filtered, Targets};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::{Layer, fmt as lines, reload};

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Failures of the registry itself.
    Error,
    /// Also what somebody should look at.
    Warn,
    /// Also one line per request, start and stop.
    Info,
    /// Also the steps of a request, and the libraries' remarks.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All levels, the quietest first.
    pub const ALL: [Self; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The level's name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }

    /// The level for the libraries below: one step quieter, since their information is our detail.
    fn libraries(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn | Self::Info => LevelFilter::WARN,
            Self::Debug => LevelFilter::INFO,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

impl FromStr for LogLevel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or(())
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, message and `name=value` fields; colours on a terminal.
    Text,
    /// For machines: one JSON object per line, the fields beside `timestamp`, `level`, `target` and `message`.
    Json,
}

impl LogFormat {
    /// Both formats.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// The format's name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(())
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is told of who did what. These lines have a target of their own and don't depend on the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditLevel {
    /// Nothing.
    Off,
    /// Changes, what the operator does, tokens that are issued, and refusals.
    Changes,
    /// Also pulls of manifests.
    Pulls,
}

impl AuditLevel {
    /// All levels, the quietest first.
    pub const ALL: [Self; 3] = [Self::Off, Self::Changes, Self::Pulls];

    /// The level's name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Changes => "changes",
            Self::Pulls => "pulls",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Changes => LevelFilter::INFO,
            Self::Pulls => LevelFilter::DEBUG,
        }
    }
}

impl fmt::Display for AuditLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The target of the lines that say who did what.
pub(super) const AUDIT: &str = "audit";

/// What of the log can be changed while the process runs.
static RUNNING: OnceLock<Running> = OnceLock::new();

struct Running {
    log: reload::Handle<Targets, Registry>,
    /// Where there is a file of its own.
    audit: Option<reload::Handle<Targets, Logged>>,
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;
type Logged = Layered<Filtered<Lines, reload::Layer<Targets, Registry>, Registry>, Registry>;

/// The file that says who did what.
static AUDIT_FILE: Mutex<Option<File>> = Mutex::new(None);

/// Adds to it, and to standard error what it doesn't take.
struct AuditWriter;

impl Write for AuditWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut file = AUDIT_FILE.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.as_mut().map(|file| file.write_all(line));
        if !matches!(written, Some(Ok(()))) {
            io::stderr().write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Adds the lines that say who did what to this file from now on, if the log was started with such a file.
pub fn set_audit_file(file: File) {
    let mut present = AUDIT_FILE.lock().unwrap_or_else(PoisonError::into_inner);
    if present.is_some() {
        *present = Some(file);
    }
}

fn log_filter(level: LogLevel, audit: AuditLevel) -> Targets {
    let all = Targets::new().with_default(level.libraries()).with_target("orlop", level.filter());
    all.with_target(AUDIT, audit.filter())
}

fn audit_filter(audit: AuditLevel) -> Targets {
    Targets::new().with_target(AUDIT, audit.filter())
}

/// Sends the log of the whole process to standard error from now on, and to `audit_file`, if there is one, who did what.
///
/// Only the first call has an effect: a process has one log.
pub fn start_logs(level: LogLevel, format: LogFormat, audit: AuditLevel, audit_file: Option<File>) {
    let here = if audit_file.is_some() { AuditLevel::Off } else { audit };
    let (filter, log) = reload::Layer::new(log_filter(level, here));
    let lines: Lines = match format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal();
            lines::layer().with_writer(io::stderr).with_ansi(colours).with_target(false).boxed()
        }
        LogFormat::Json => lines::layer().json().flatten_event(true).with_writer(io::stderr).boxed(),
    };
    let logged: Logged = Registry::default().with(lines.with_filter(filter));
    // A second call comes from a program that embeds the library and has set up its own log.
    let (is_first, audit) = match audit_file {
        None => (tracing::subscriber::set_global_default(logged).is_ok(), None),
        Some(file) => {
            *AUDIT_FILE.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
            let (filter, handle) = reload::Layer::new(audit_filter(audit));
            let lines = lines::layer().json().flatten_event(true).with_writer(|| AuditWriter);
            let both = logged.with(lines.with_filter(filter));
            (tracing::subscriber::set_global_default(both).is_ok(), Some(handle))
        }
    };
    if is_first {
        // Nobody else sets it.
        let _ = RUNNING.set(Running { log, audit });
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Logs this much from now on, if [`start_logs`] has started the log.
pub fn set_log_level(level: LogLevel, audit: AuditLevel) {
    let Some(running) = RUNNING.get() else { return };
    let here = if running.audit.is_some() { AuditLevel::Off } else { audit };
    // Neither fails while the process has its log.
    let _ = running.log.reload(log_filter(level, here));
    if let Some(handle) = &running.audit {
        let _ = handle.reload(audit_filter(audit));
    }
}

/// Logs a panic as one line like any other, since whoever parses the log can't parse the default's text.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
    let location = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let thread = std::thread::current();
    tracing::error!(
        message = message.unwrap_or("panicked without a message"),
        location,
        thread = thread.name(),
        backtrace,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_and_format_is_read_back_from_its_name() {
        for level in LogLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        for format in LogFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("verbose".parse::<LogLevel>(), Err(()));
    }

    /// Runs itself as another process, since a process has one log and one hook.
    #[test]
    fn a_panic_is_one_json_line() {
        const VARIABLE: &str = "A_PANIC_IS_ONE_JSON_LINE";
        if std::env::var_os(VARIABLE).is_some() {
            start_logs(LogLevel::Error, LogFormat::Json, AuditLevel::Off, None);
            let defect =
                std::thread::Builder::new().name("worker".to_owned()).spawn(|| panic!("a defect")).unwrap();
            defect.join().unwrap_err();
            return;
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "telemetry::logs::tests::a_panic_is_one_json_line", "--nocapture"])
            .env(VARIABLE, "1")
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some("ERROR"), Some("a defect")));
        assert_eq!(line["thread"], "worker");
        assert!(line["location"].as_str().unwrap().contains("logs.rs:"), "{line}");
        assert!(line["backtrace"].is_string(), "{line}");
    }

    #[test]
    fn libraries_are_never_louder_than_the_registry() {
        for level in LogLevel::ALL {
            assert!(level.libraries() <= level.filter());
        }
    }
}
