//! `orlop backup`.

use std::ffi::OsString;
use std::io;
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::config::Config;
use crate::fsio::{Disk, RealDisk};
use crate::http::admin::{CreateBackup, RestoreBackup, told};
use crate::registry::NamePattern;
use crate::server::registry_options;
use crate::snapshots::{
    self, Backup, Change, Difference, Fate, Keep, PrunePlan, Pruned, RestoreOptions, Restored, RestoredItem,
    RestoredParts, Snapshot, SnapshotName, TagChange, TaggedPattern, Verified, diff, prune, prune_dry,
    restore, verify,
};

use super::admin::{AdminArguments, AdminRequest};
use super::backup_place::{IdentityArguments, PlaceArguments};
use super::exit;
use super::output::{Output, bytes};
use super::progress::ProgressBars;
use super::table;

const CREATE_EXAMPLES: &str = "\
Examples:
  orlop backup create /mnt/backup
  orlop backup create /mnt/backup --include-cache --data /var/lib/orlop";

const RESTORE_EXAMPLES: &str = "\
Examples:
  orlop backup restore /mnt/backup latest --data /var/lib/orlop
  orlop backup restore /mnt/backup 12 --data /var/lib/orlop --dry-run
  orlop backup restore /mnt/backup 12 --repository 'team/**' --dry-run
  orlop backup restore /mnt/backup 12 --tag team/app:v1 --tag 'base:2026-*' --force";

const PRUNE_EXAMPLES: &str = "\
Examples:
  orlop backup prune /mnt/backup --keep-last 7 --dry-run
  orlop backup prune /mnt/backup --keep-daily 7 --keep-weekly 4 --keep-monthly 12";

const LOCK_EXAMPLES: &str = "\
Examples:
  orlop backup lock /mnt/backup -- rsync -a /mnt/backup/ elsewhere:/backup/";

#[derive(Debug, Subcommand)]
pub(super) enum BackupCommand {
    /// Take a snapshot of all that the registry holds.
    ///
    /// It is as of one instant, while pushes and pulls go on. What the directory has already isn't copied again. A server that
    /// runs takes it itself; without one this command does.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArguments),
    /// List the snapshots in a backup directory.
    List(ListArguments),
    /// Show what is in a snapshot.
    Show(ShowArguments),
    /// Check that snapshots are what they were.
    ///
    /// Looks at each file and its length, and with --full at every byte. The exit code is 0 when everything is in order and 3 when
    /// something is not.
    Verify(VerifyArguments),
    /// Show what is different between two snapshots: tags that are new, gone, or point elsewhere.
    Diff(DiffArguments),
    /// Remove snapshots, and the content that no other one needs.
    ///
    /// What any of the rules keeps stays; at least one has to be given. The plan is shown first. Waits while something else works in
    /// the directory.
    #[command(after_help = PRUNE_EXAMPLES)]
    Prune(PruneArguments),
    /// Run a command while no snapshot is added or removed, such as a copy to another machine.
    ///
    /// A snapshot that is taken meanwhile gets its name afterwards, and prune waits. The exit code is that of the command.
    #[command(after_help = LOCK_EXAMPLES)]
    Lock(LockArguments),
    /// Make a data directory of a snapshot, or bring some of its repositories or tags to a registry.
    ///
    /// With --repository or --tag, what these patterns match is brought to the registry of the data directory, while it serves
    /// or while it doesn't: images with all that they name and that refers to them, each tag last. A tag that points elsewhere
    /// there is told of and stays, unless --force is given, and the exit code is 3 then. What is there already isn't copied.
    ///
    /// Without them the whole snapshot becomes a data directory.
    /// Every byte is compared with its digest on the way; where one is missing or wrong, nothing is restored. The data directory
    /// has to be empty, or not there yet. A restore that was interrupted goes on when it is started again.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(RestoreArguments),
}

#[derive(Debug, Args)]
pub(super) struct CreateArguments {
    #[command(flatten)]
    to: PlaceArguments,
    /// Encrypt to this age recipient; may be given more than once. A backup is encrypted from its first snapshot on or never
    #[arg(long, value_name = "RECIPIENT")]
    encrypt_to: Vec<String>,
    /// Also what is cached of other registries
    #[arg(long)]
    include_cache: bool,
    /// Take blobs by hard links where that can be done: the registry and the backup share the files then, and the sector that fails
    #[arg(long)]
    link: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    from: PlaceArguments,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    #[command(flatten)]
    from: PlaceArguments,
    /// The snapshot, by its name or its number
    #[arg(default_value = "latest")]
    snapshot: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    from: PlaceArguments,
    #[command(flatten)]
    identity: IdentityArguments,
    /// The snapshot, by its name or its number; all of them without it
    snapshot: Option<String>,
    /// Compare every byte with its digest
    #[arg(long)]
    full: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DiffArguments {
    #[command(flatten)]
    from: PlaceArguments,
    #[command(flatten)]
    identity: IdentityArguments,
    /// The earlier snapshot, by its name or its number
    earlier: String,
    /// The later one
    #[arg(default_value = "latest")]
    later: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PruneArguments {
    #[command(flatten)]
    from: PlaceArguments,
    /// Keep this many of the newest snapshots
    #[arg(long, value_name = "NUMBER", default_value_t)]
    keep_last: usize,
    /// Keep the newest one of each of this many hours
    #[arg(long, value_name = "NUMBER", default_value_t)]
    keep_hourly: usize,
    /// Keep the newest one of each of this many days
    #[arg(long, value_name = "NUMBER", default_value_t)]
    keep_daily: usize,
    /// Keep the newest one of each of this many weeks
    #[arg(long, value_name = "NUMBER", default_value_t)]
    keep_weekly: usize,
    /// Keep the newest one of each of this many months
    #[arg(long, value_name = "NUMBER", default_value_t)]
    keep_monthly: usize,
    /// Only show what would go
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Print the plan and what went as JSON, a line each
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct LockArguments {
    #[command(flatten)]
    from: PlaceArguments,
    /// The command
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    from: PlaceArguments,
    #[command(flatten)]
    identity: IdentityArguments,
    /// The snapshot, by its name or its number, or latest
    snapshot: String,
    /// Only these repositories, such as team/**; the registry may be in use
    #[arg(long = "repository", value_name = "PATTERN")]
    repositories: Vec<NamePattern>,
    /// Only these tags, such as team/app:v1 or 'team/**:v1.*'; the registry may be in use
    #[arg(long = "tag", value_name = "PATTERN")]
    tags: Vec<TaggedPattern>,
    /// Move tags that point elsewhere now; without patterns, move what the data directory has into its folder former
    #[arg(long)]
    force: bool,
    /// Only say what would come, and whether all of it is there
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

impl BackupCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(arguments) => run_create(arguments, output),
            Self::List(arguments) => run_list(&arguments, output),
            Self::Show(arguments) => run_show(&arguments, output),
            Self::Verify(arguments) => run_verify(&arguments, output),
            Self::Diff(arguments) => run_diff(&arguments, output),
            Self::Prune(arguments) => run_prune(&arguments, output),
            Self::Lock(arguments) => run_lock(&arguments),
            Self::Restore(arguments) => run_restore(&arguments, output),
        }
    }
}

fn run_create(arguments: CreateArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let CreateArguments { to, encrypt_to, include_cache, link, admin } = arguments;
    // The server may work in another directory.
    let (to, s3) = to.absolute()?;
    let asked = CreateBackup { to, include_cache, link, s3, encrypt_to };
    let request = AdminRequest::post("backup/create", &asked)?;
    let snapshot: Snapshot = admin.ask(request, output, print_snapshot)?;
    Ok(exit::done(snapshot.lost.is_empty()))
}

fn run_list(arguments: &ListArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let backup = arguments.from.open()?;
    let snapshots: Result<Vec<Snapshot>, _> =
        backup.names()?.iter().map(|name| backup.snapshot(name)).collect();
    let snapshots = snapshots?;
    if arguments.json {
        output.json(&snapshots)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<[String; 7]> = snapshots
        .iter()
        .map(|snapshot| {
            [
                snapshot.name.to_string(),
                snapshot.taken_at.clone(),
                snapshot.tags.to_string(),
                snapshot.manifests.to_string(),
                snapshot.blobs.to_string(),
                bytes(snapshot.bytes),
                bytes(snapshot.added_bytes),
            ]
        })
        .collect();
    if rows.is_empty() {
        output.line("There is no snapshot yet.")?;
    } else {
        let head = ["SNAPSHOT", "TAKEN", "TAGS", "MANIFESTS", "BLOBS", "SIZE", "ADDED"];
        table::print(output, head, &[2, 3, 4, 5, 6], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_show(arguments: &ShowArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let backup = arguments.from.open()?;
    let snapshot = backup.snapshot(&backup.find(&arguments.snapshot)?)?;
    if arguments.json {
        output.json(&snapshot)?;
    } else {
        print_snapshot(&snapshot, output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_verify(arguments: &VerifyArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let backup = arguments.from.open_with(&arguments.identity)?;
    let names: Vec<SnapshotName> = match &arguments.snapshot {
        Some(snapshot) => vec![backup.find(snapshot)?],
        None => backup.names()?,
    };
    let mut bars = ProgressBars::default();
    let verified = verify(&backup, &names, arguments.full, &mut |progress| show(&mut bars, progress))?;
    drop(bars);
    if arguments.json {
        output.json(&verified)?;
    } else {
        print_verified(&backup, &verified, output)?;
    }
    Ok(exit::done(verified.count == 0))
}

fn run_diff(arguments: &DiffArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let backup = arguments.from.open_with(&arguments.identity)?;
    let (earlier, later) = (backup.find(&arguments.earlier)?, backup.find(&arguments.later)?);
    let mut failed = None;
    let mut print = |change: TagChange| {
        let printed = if arguments.json {
            output.json(&change)
        } else {
            print_change(&change, output).map_err(Into::into)
        };
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let compared = diff(&backup, &earlier, &later, &mut print);
    if let Some(error) = failed {
        return Err(error);
    }
    let difference = compared?;
    if arguments.json {
        output.json(&difference)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Difference { added, gone, moved, bytes: more } = difference;
    let sign = if more < 0 { "-" } else { "+" };
    let size = bytes(more.unsigned_abs());
    output.line(format!("{added} tags added, {gone} gone, {moved} moved; {sign}{size}"))?;
    Ok(ExitCode::SUCCESS)
}

fn print_change(TagChange { tag, change }: &TagChange, output: &mut Output) -> io::Result<()> {
    output.line(match change {
        Change::Added { digest } => format!("+ {tag} {digest}"),
        Change::Gone { digest } => format!("- {tag} {digest}"),
        Change::Moved { former, digest } => format!("~ {tag} {former} -> {digest}"),
    })
}

fn run_prune(arguments: &PruneArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let &PruneArguments { keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, dry_run, .. } =
        arguments;
    let keep = Keep {
        last: keep_last,
        hourly: keep_hourly,
        daily: keep_daily,
        weekly: keep_weekly,
        monthly: keep_monthly,
    };
    if keep.is_nothing() {
        bail!("say which snapshots stay, for example with --keep-last 7 --keep-weekly 4");
    }
    let backup = arguments.from.open()?;
    let snapshots: Result<Vec<Snapshot>, _> =
        backup.names()?.iter().map(|name| backup.snapshot(name)).collect();
    let PrunePlan { keep, remove } = keep.plan(&snapshots?);
    let plan = PrunePlan { keep, remove };
    if arguments.json {
        output.json(&plan)?;
    } else {
        for (name, rules) in &plan.keep {
            output.line(format!("keep    {name}  {}", rules.join(", ")))?;
        }
        for name in &plan.remove {
            output.line(format!("remove  {name}"))?;
        }
    }
    let mut bars = ProgressBars::default();
    let work = if dry_run { prune_dry } else { prune };
    let pruned = work(&backup, &plan.remove, &mut |progress| show(&mut bars, progress))?;
    drop(bars);
    if arguments.json {
        output.json(&pruned)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Pruned { snapshots, files, bytes: freed } = pruned;
    let did = if dry_run { "would be" } else { "are" };
    output.line(format!("{snapshots} snapshots and {files} files ({}) {did} removed.", bytes(freed)))?;
    Ok(ExitCode::SUCCESS)
}

fn run_lock(arguments: &LockArguments) -> anyhow::Result<ExitCode> {
    let _hold = arguments.from.open()?.hold()?;
    let [program, rest @ ..] = &arguments.command[..] else { bail!("name a command behind --") };
    let status = std::process::Command::new(program).args(rest).status();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    // One that a signal has ended has no code.
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn run_restore(arguments: &RestoreArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let config = arguments.admin.config.load()?.config;
    if !(arguments.repositories.is_empty() && arguments.tags.is_empty()) {
        return run_restore_parts(arguments, &config, output);
    }
    let backup = arguments.from.open_with(&arguments.identity)?;
    let name = backup.find(&arguments.snapshot)?;
    let &RestoreArguments { dry_run, force, .. } = arguments;
    let options = RestoreOptions { registry: registry_options(&config), dry_run, force };
    let mut bars = ProgressBars::default();
    let restored = restore(&backup, &name, options, &mut |progress| show(&mut bars, progress))?;
    drop(bars);
    if arguments.admin.json {
        output.json(&restored)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Restored { snapshot, data, dry_run, former } = restored;
    let did = if dry_run { "can be restored to" } else { "is restored to" };
    output.line(format!("{} {did} {}", snapshot.name, data.display()))?;
    if let Some(former) = former {
        output.line(format!(
            "What was there is in {}; remove it when nothing of it is needed",
            former.display()
        ))?;
    }
    if !dry_run {
        output.line(format!("Start it with: orlop serve --data {}", data.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_restore_parts(
    arguments: &RestoreArguments,
    config: &Config,
    output: &mut Output,
) -> anyhow::Result<ExitCode> {
    let RestoreArguments { from, identity, snapshot, repositories, tags, force, dry_run, admin } = arguments;
    // The server may work in another directory.
    let (from, s3) = from.absolute()?;
    let identities = identity.absolute()?;
    if !dry_run {
        RealDisk.create_dir(&config.data)?;
    }
    let asked = RestoreBackup {
        from,
        s3,
        identities,
        snapshot: snapshot.clone(),
        repositories: repositories.iter().map(ToString::to_string).collect(),
        tags: tags.iter().map(ToString::to_string).collect(),
        force: *force,
        dry_run: *dry_run,
    };
    let request = AdminRequest::post("backup/restore", &asked)?;
    let item = |item: Option<RestoredItem>, output: &mut Output| match item {
        Some(item) => print_item(&item, output),
        None => Ok(()),
    };
    let restored: RestoredParts = admin.ask_in_parts(request, output, item, print_parts)?;
    Ok(exit::done(restored.is_whole()))
}

fn print_item(item: &RestoredItem, output: &mut Output) -> io::Result<()> {
    let RestoredItem { name, digest, fate } = item;
    output.line(match fate {
        Fate::Came => format!("+ {name} {digest}"),
        Fate::Here => format!("= {name} {digest}"),
        Fate::Moved { former } => format!("~ {name} {former} -> {digest}"),
        Fate::Conflict { here } => {
            format!("! {name} points to {here} here, and to {digest} in the snapshot; --force moves it")
        }
        Fate::Failed { reason } => format!("! {name}: {reason}"),
    })
}

fn print_parts(restored: &RestoredParts, output: &mut Output) -> io::Result<()> {
    let came = if restored.dry_run { "would come" } else { "came" };
    let mut rows = vec![
        ("repositories", restored.repositories.to_string()),
        ("tags", format!("{} {came}, {} were here", restored.tags, restored.known_tags)),
        ("manifests", format!("{} {came}", restored.manifests)),
        ("blobs", format!("{} {came} ({})", restored.blobs, bytes(restored.bytes))),
        ("conflicts", restored.conflicts.to_string()),
        ("failed", restored.failed.to_string()),
    ];
    if restored.cached_repositories > 0 {
        let left = format!(
            "{} left out: what is cached comes from its upstream again",
            restored.cached_repositories
        );
        rows.push(("cached", left));
    }
    rows.iter().try_for_each(|(name, value)| output.line(format!("{name:16} {value}")))
}

fn show(bars: &mut ProgressBars, progress: snapshots::Progress) -> ControlFlow<()> {
    bars.show(&told(progress));
    ControlFlow::Continue(())
}

fn print_snapshot(snapshot: &Snapshot, output: &mut Output) -> io::Result<()> {
    let cached = if snapshot.with_cached { "with what is cached" } else { "without what is cached" };
    let rows = [
        ("snapshot", snapshot.name.to_string()),
        ("taken", format!("{}, {cached}", snapshot.taken_at)),
        ("tags", snapshot.tags.to_string()),
        ("manifests", snapshot.manifests.to_string()),
        ("blobs", snapshot.blobs.to_string()),
        ("size", bytes(snapshot.bytes)),
        ("added", format!("{} files ({})", snapshot.added_files, bytes(snapshot.added_bytes))),
        ("absent", snapshot.absent.to_string()),
    ];
    output.facts(rows)?;
    for lost in &snapshot.lost {
        output.line(format!("lost             {lost}"))?;
    }
    if !snapshot.lost.is_empty() {
        output.line(
            "The registry has lost these, and the snapshot hasn't got them: orlop verify names the images.",
        )?;
    }
    Ok(())
}

fn print_verified(backup: &Backup, verified: &Verified, output: &mut Output) -> io::Result<()> {
    for problem in &verified.problems {
        output.line(format!("problem: {}: {}", problem.path.display(), problem.reason))?;
    }
    let unlisted = verified.count - verified.problems.len() as u64;
    if unlisted > 0 {
        output.line(format!("problem: … and {unlisted} more"))?;
    }
    let is_damaged_below = |folder: &str| {
        let dir = backup.dir().join(folder);
        verified.problems.iter().any(|problem| problem.path.starts_with(&dir) && !problem.was_lost)
    };
    if is_damaged_below("blobs") {
        output.line(
            "Remove what is damaged below blobs: the next snapshot copies it anew, as long as the registry has it.",
        )?;
    }
    if is_damaged_below("snapshots") {
        output.line(
            "A snapshot whose own files are damaged can't be mended: remove its directory below snapshots.",
        )?;
    }
    let hashed = match verified.hashed_files {
        0 => "nothing; --full does".to_owned(),
        files => format!("{files} files ({})", bytes(verified.hashed_bytes)),
    };
    if verified.linked > 0 {
        output.line(format!(
            "warning: {} files share their bytes with another name, such as the registry's: a sector that fails takes both",
            verified.linked
        ))?;
    }
    if verified.resumed {
        output.line(
            "An interrupted check was gone on with: what it has hashed is counted, and wasn't read again.",
        )?;
    }
    if verified.hashed_files > 0 && !verified.resumable {
        output.line("How far it had come couldn't be noted there: an interrupted check begins again.")?;
    }
    let rows = [
        ("snapshots", verified.snapshots.len().to_string()),
        ("hashed", hashed),
        ("problems", verified.count.to_string()),
    ];
    output.facts(rows)
}
