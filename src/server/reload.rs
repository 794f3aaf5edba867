//! What a running server reads again: users, rules, certificates, credentials of upstreams, the schedule of backups, and how much
//! is logged.
//!
//! It looks at the configuration file and at the files that this names once a second, by what their names lead to, and reads
//! them when they have changed and then stood still for a look, so that nothing half-written counts. SIGHUP reads them at
//! once. What can't be used leaves everything that depends on it as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::Access;
use crate::config::{Config, Input, Loaded, Password};
use crate::fsio::append_to;
use crate::proxy::Cache;
use crate::snapshots::BackupSchedule;
use crate::telemetry::{Deed, set_audit_file, set_log_level};

use super::Hangups;
use super::cache::credentials;
use super::tls::Tls;

/// The time between two looks at the files.
const INTERVAL: Duration = Duration::from_secs(1);

/// What changes with a file: when it was last written and changed, which it is, and how long.
type FileState = (i64, i64, i64, i64, u64, u64);

/// The state of what a path leads to, through symbolic links.
fn state(path: &Path) -> Option<FileState> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    let (written, changed) = (metadata.mtime(), metadata.ctime());
    Some((written, metadata.mtime_nsec(), changed, metadata.ctime_nsec(), metadata.ino(), metadata.len()))
}

/// The states of several files.
type States = BTreeMap<PathBuf, Option<FileState>>;

/// Reads again what a server goes by.
#[derive(Debug)]
pub(super) struct Reload {
    access: Access,
    cache: Option<Cache>,
    tls: Option<Tls>,
    backups: BackupSchedule,
    /// Where the configuration comes from; none where the program that embeds the server has made it.
    input: Option<Input>,
    hangups: Option<Hangups>,
    /// What the server was started with, by which it goes in all that is not read again.
    started: Option<Loaded>,
    /// What it goes by in the rest.
    config: Config,
    /// The files as they were at the last look, and when they were last read.
    seen: States,
    read: Option<States>,
    /// What was wrong when they were, and what they change that needs a restart.
    complaints: Vec<String>,
    restart: Vec<String>,
}

impl Reload {
    /// Follows the files that `config` names.
    pub(super) fn new(
        config: Config,
        access: Access,
        cache: Option<Cache>,
        tls: Option<Tls>,
        backups: BackupSchedule,
    ) -> Reload {
        Reload {
            access,
            cache,
            tls,
            backups,
            input: None,
            hangups: None,
            started: None,
            config,
            seen: States::new(),
            // The first look reads them, since they may have changed since the server has.
            read: None,
            complaints: Vec::new(),
            restart: Vec::new(),
        }
    }

    /// Follows the configuration too, which `input` has loaded, and the operator's wish to read all of it.
    pub(super) fn follow(&mut self, input: Input, loaded: Loaded, hangups: Hangups) {
        (self.input, self.started, self.hangups) = (Some(input), Some(loaded), Some(hangups));
    }

    /// Reads what has changed, for ever.
    pub(super) async fn run(mut self) {
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(INTERVAL) => false,
                () = asked(&mut self.hangups) => true,
            };
            let looked = tokio::task::spawn_blocking(move || {
                self.look(asked);
                self
            });
            // Where it has panicked, that was logged; everything stays as it is.
            let Ok(next) = looked.await else { return };
            self = next;
        }
    }

    fn look(&mut self, asked: bool) {
        let states = self.states();
        if asked {
            self.reopen_audit_file();
        } else {
            let is_still = states == self.seen;
            self.seen.clone_from(&states);
            let is_read = self.read.as_ref() == Some(&states) && self.complaints.is_empty();
            if !is_still || is_read {
                return;
            }
        }
        let complaints = self.read_again();
        // Once for each mistake.
        for complaint in complaints.iter().filter(|complaint| asked || !self.complaints.contains(complaint)) {
            tracing::error!(error = complaint.as_str(), "what it says stays as it was");
        }
        self.complaints = complaints;
        self.read = Some(states);
        if asked {
            tracing::info!("the configuration and the files that it names were read again");
        }
    }

    fn states(&self) -> States {
        self.files().into_iter().map(|path| (path.clone(), state(&path))).collect()
    }

    /// The files that are followed.
    fn files(&self) -> Vec<PathBuf> {
        let file = self.input.as_ref().map(Input::file);
        let passwords = self.config.upstreams.iter().filter_map(|upstream| match &upstream.user {
            Some((_, Password::File(path))) => Some(path.clone()),
            Some((_, Password::Environment(_))) | None => None,
        });
        let tls = self.tls.iter().flat_map(Tls::files);
        file.into_iter().chain(self.config.access.htpasswd.clone()).chain(passwords).chain(tls).collect()
    }

    /// Reads everything, and returns what is wrong with it.
    fn read_again(&mut self) -> Vec<String> {
        let mut complaints = self.read_configuration().err().unwrap_or_default();
        match self.access.reload(self.config.access.clone()) {
            Ok(true) => {
                tracing::info!("read the users again, and the rules");
                tell("reload_access", "htpasswd and rules");
            }
            Ok(false) => {}
            Err(error) => complaints.push(error.to_string()),
        }
        match self.tls.as_ref().map(Tls::reload).transpose() {
            Ok(Some(true)) => tracing::info!("read the certificate and its key again"),
            Ok(_) => {}
            Err(error) => complaints.push(error.to_string()),
        }
        for upstream in &self.config.upstreams {
            match credentials(upstream) {
                Ok(Some(credentials)) => {
                    let cache = self.cache.as_ref();
                    if cache.is_some_and(|cache| cache.set_credentials(&upstream.host, credentials)) {
                        tracing::info!(
                            upstream = upstream.host,
                            "read the credentials of the upstream again"
                        );
                    }
                }
                Ok(None) => {}
                Err(error) => complaints.push(error.to_string()),
            }
        }
        complaints
    }

    fn read_configuration(&mut self) -> Result<(), Vec<String>> {
        let (Some(input), Some(started)) = (&self.input, &self.started) else { return Ok(()) };
        let next = input.load();
        let next = next.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        if started.file.is_some() && next.file.is_none() {
            let path = input.file();
            return Err(vec![format!("there is no configuration file {} any more", path.display())]);
        }
        let restart = restart(started, &next);
        if !restart.is_empty() && restart != self.restart {
            let keys = restart.join(", ");
            tracing::warn!(keys, "what was changed of these holds only after a restart");
        }
        self.restart = restart;
        let (before, after) = ((self.config.log.level, self.config.log.audit), (&next.config.log));
        self.config = next.config.clone();
        // As long as TLS is what it was.
        self.config.access.knows_certificates = started.config.access.knows_certificates;
        if self.backups.set_targets(&self.config.backups) {
            tracing::info!(targets = self.config.backups.len(), "backups are taken by the new schedule");
        }
        let after = (after.level, after.audit);
        if before != after {
            let tell = || {
                tracing::info!(level = %after.0, audit = %after.1, "the level of the log was changed");
            };
            // In the one of both in which it is heard.
            if after.0 < before.0 {
                tell();
            }
            set_log_level(after.0, after.1);
            if after.0 >= before.0 {
                tell();
            }
        }
        Ok(())
    }

    /// Goes on in the file that has the name now, since the other may have been renamed.
    fn reopen_audit_file(&self) {
        let started = self.started.as_ref().and_then(|started| started.config.log.audit_file.as_ref());
        match started.map(|path| append_to(path)).transpose() {
            Ok(Some(file)) => set_audit_file(file),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "log.audit_file goes on as it was"),
        }
    }
}

/// The keys and lists of which a change holds only after a restart.
fn restart(started: &Loaded, next: &Loaded) -> Vec<String> {
    let mut names: Vec<String> = started.needs_restart(next).into_iter().map(str::to_owned).collect();
    // Whether what it has is private was decided by that when the registry was opened.
    let has_user = |loaded: &Loaded, host: &str| {
        let upstream = loaded.config.upstreams.iter().find(|upstream| upstream.host == host);
        upstream.map(|upstream| upstream.user.is_some())
    };
    for upstream in &started.config.upstreams {
        let (before, after) = (Some(upstream.user.is_some()), has_user(next, &upstream.host));
        if after.is_some() && before != after {
            names.push(format!("upstream.username of {}", upstream.host));
        }
    }
    names
}

/// Tells that a file which the operator has written holds from now on.
fn tell(action: &'static str, subject: &str) {
    Deed { action, actor: "configuration", actor_kind: "local", subject: Some(subject), ..Deed::default() }
        .write();
}

/// Ready when the operator asks for it.
async fn asked(hangups: &mut Option<Hangups>) {
    match hangups {
        Some(hangups) => hangups.next().await,
        None => std::future::pending().await,
    }
}
