//! The command line.
//!
//! A command prints what people asked for on standard output, and errors and the log on standard error. [`exit`] has the
//! exit codes.

#![expect(clippy::doc_markdown, reason = "the doc comments of arguments are help texts, printed as they are")]

mod access;
mod admin;
mod backup;
mod backup_place;
mod cache;
mod cache_status;
mod collection;
mod compact;
mod config;
mod deletions;
mod docker_config;
mod exit;
mod export;
mod import;
mod inspect;
mod list;
mod output;
mod pages;
mod password;
mod policy;
mod progress;
mod remove;
mod repository;
mod serve;
mod sizes;
mod status;
mod table;
mod tag;
mod target;
mod token;
mod user;
mod verify;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::pages::reference;

use self::access::AccessCommand;
use self::backup::BackupCommand;
use self::cache::CacheCommand;
use self::collection::GcArguments;
use self::compact::CompactArguments;
use self::config::{ConfigArguments, ConfigCommand};
use self::deletions::{DeletedArguments, PurgeArguments, UndeleteArguments};
use self::export::ExportCommand;
use self::import::ImportCommand;
use self::inspect::InspectArguments;
use self::list::{LsArguments, TagsArguments};
use self::output::Output;
use self::pages::{CompletionsArguments, ManArguments};
use self::policy::PolicyCommand;
use self::remove::RmArguments;
use self::repository::RepositoryCommand;
use self::sizes::DuArguments;
use self::status::StatusArguments;
use self::tag::TagCommand;
use self::token::TokenCommand;
use self::user::UserCommand;
use self::verify::VerifyArguments;

const OVERVIEW: &str = "\
Examples:
  orlop serve                                     a registry on 127.0.0.1:5000 with its data in ./data
  orlop serve --listen 0.0.0.0:5000 --set access.htpasswd=/etc/orlop/users
  orlop serve --cache docker.io                   a mirror of Docker Hub beside your own images
  orlop config example > orlop.toml               every setting with its default and what it means
  orlop status --data /var/lib/orlop              what runs, and what is stored
  orlop verify --data /var/lib/orlop              read and hash everything that is stored

Environment:
  Every setting can be given as a variable too: ORLOP_LISTEN, ORLOP_DATA, ORLOP_LOG_LEVEL, …
  ORLOP_CONFIG names the configuration file.

Exit codes:
  0 done, 1 not done, 2 a wrong command line, 3 done, and not everything is in order; orlop help exit-codes says more.";

/// A container registry in one binary.
///
/// Orlop stores container images and everything else that the OCI distribution specification describes, and loses nothing
/// that it has acknowledged. `orlop serve` starts it; nothing else has to be set up.
#[derive(Debug, Parser)]
#[command(name = "orlop", version, after_help = OVERVIEW, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the registry until SIGTERM or Ctrl-C.
    ///
    /// Creates the data directory when it is missing, says where it listens, and then logs one line per request on standard
    /// error. SIGTERM and SIGINT (Ctrl-C) let running requests finish first, within limits.drain_timeout; a second signal
    /// ends the server at once, which loses nothing that was acknowledged either.
    #[command(after_help = serve::EXAMPLES)]
    Serve(ConfigArguments),
    /// Show what runs and what is stored.
    #[command(after_help = status::EXAMPLES)]
    Status(StatusArguments),
    /// List the repositories, with their sizes.
    #[command(after_help = list::LS_EXAMPLES)]
    Ls(LsArguments),
    /// List the tags of a repository.
    #[command(after_help = list::TAGS_EXAMPLES)]
    Tags(TagsArguments),
    /// Show all that is known of an image.
    ///
    /// Its manifest, configuration, layers and platforms with their sizes, what is about it (signatures, bills of materials), and
    /// what its tag has pointed to. What is missing of it is marked.
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(InspectArguments),
    /// Delete a tag, an image by its digest, or a whole repository.
    ///
    /// Just as clients delete by the API, and by the same switches of the configuration (delete.tags and others); orlop undelete
    /// brings it back. Before a whole repository goes, it asks; where nobody can be asked, --yes has to be given.
    #[command(after_help = remove::EXAMPLES)]
    Rm(RmArguments),
    /// Give the free space of the metadata back.
    ///
    /// Copies metadata.redb into a fresh file and goes on with that one; beside a running server too, whose pushes and pulls
    /// go on. The copy needs room on the disk. Where anything fails, or is interrupted, the file stays as it was.
    #[command(after_help = compact::EXAMPLES)]
    Compact(CompactArguments),
    /// Show how the upstreams of the cache do, or fetch images into it.
    #[command(subcommand, arg_required_else_help = true)]
    Cache(CacheCommand),
    /// Say who may do what, or replace the key that signs tokens.
    #[command(subcommand, arg_required_else_help = true)]
    Access(AccessCommand),
    /// Take snapshots of the registry, check them, and restore them.
    #[command(subcommand, arg_required_else_help = true)]
    Backup(BackupCommand),
    /// Add, change, list or remove users.
    #[command(subcommand, arg_required_else_help = true)]
    User(UserCommand),
    /// Make, list or revoke access tokens: for robots, or instead of a user's password.
    #[command(subcommand, arg_required_else_help = true)]
    Token(TokenCommand),
    /// Check or show the configuration.
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Run or show the retention policies: which tags stay and which go.
    #[command(subcommand, arg_required_else_help = true)]
    Policy(PolicyCommand),
    /// Check everything that is stored.
    ///
    /// Compares the metadata with the files and, unless --quick is given, reads and hashes every blob; beside a running
    /// server too, which goes on meanwhile. The exit code is 0 when everything is in order and 3 when something is not.
    /// Damaged files are moved into the directory quarantine, and the images that need them are named; a push of the same
    /// image heals them.
    #[command(after_help = verify::EXAMPLES)]
    Verify(VerifyArguments),
    /// Take over images: from another registry, its directory, or an archive.
    #[command(subcommand, arg_required_else_help = true)]
    Import(ImportCommand),
    /// Write images into an archive that other programs read.
    #[command(subcommand, arg_required_else_help = true)]
    Export(ExportCommand),
    /// Remove what nothing names any more, now.
    ///
    /// A server does this by itself, some seconds after something is due. What was deleted stays until its window to be
    /// undeleted ends, and what a push may still name until its lease does; no command shortens a lease.
    #[command(after_help = collection::EXAMPLES)]
    Gc(GcArguments),
    /// List what was deleted and can come back.
    #[command(after_help = deletions::LIST_EXAMPLES)]
    Deleted(DeletedArguments),
    /// Bring back what was deleted last under a name.
    ///
    /// A tag comes back with its manifest, a manifest with all that it names, its tags and its signatures, and a repository
    /// with everything that it had.
    #[command(after_help = deletions::UNDELETE_EXAMPLES)]
    Undelete(UndeleteArguments),
    /// End the time in which something that was deleted can come back.
    ///
    /// For a secret that leaked, or a full disk. The space is free when the lease of what was deleted has passed too.
    #[command(after_help = deletions::PURGE_EXAMPLES)]
    Purge(PurgeArguments),
    /// Show how much the repositories hold, or the tags of one.
    ///
    /// Unique is what goes with a repository, or with the image of a tag: what no other one has. Blobs are counted once.
    #[command(after_help = sizes::EXAMPLES)]
    Du(DuArguments),
    /// Show what a tag has pointed to, or point it back.
    #[command(subcommand, arg_required_else_help = true)]
    Tag(TagCommand),
    /// Rename or delete a repository.
    #[command(subcommand, arg_required_else_help = true, visible_alias = "repo")]
    Repository(RepositoryCommand),
    /// Print the completions of a shell for these commands.
    #[command(after_help = pages::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArguments),
    /// Print the manual page, or write those of all commands.
    #[command(after_help = pages::MAN_EXAMPLES)]
    Man(ManArguments),
    /// Say what the exit codes mean.
    #[command(after_long_help = exit::page(), hide = true)]
    ExitCodes,
}

/// The flags that set configuration keys, which most commands have.
const SHARED: [&str; 8] =
    ["config", "listen", "data", "log_level", "log_format", "cache", "insecure_open", "set"];

fn is_shared(argument: &Arg) -> bool {
    SHARED.contains(&argument.get_id().as_str())
}

/// The commands as they are parsed, shown, completed and documented.
///
/// Those of the shared flags that only a server goes by are taken everywhere, since they belong to the configuration, but
/// shown only where they matter.
fn definition() -> clap::Command {
    let tidy = |command: clap::Command| {
        if command.get_name() == "serve" || command.get_name() == "check" {
            return command;
        }
        command.mut_args(|argument| match argument.get_id().as_str() {
            "listen" | "insecure_open" | "cache" => argument.hide(true),
            _ if is_shared(&argument) => argument.help_heading("Configuration"),
            _ => argument,
        })
    };
    CommandLine::command().mut_subcommands(|command| tidy(command.mut_subcommands(tidy)))
}

/// Runs the command line `arguments`, of which the first is the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut definition = definition();
    let parsed = definition.try_get_matches_from_mut(arguments).and_then(|matches| {
        CommandLine::from_arg_matches(&matches).map_err(|error| error.format(&mut definition))
    });
    let command = match parsed {
        Ok(command_line) => command_line.command,
        Err(error) => {
            // Nothing can be done where even that can't be printed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let mut output = Output::standard();
    let result = match command {
        Command::Serve(arguments) => serve::run(&arguments, &mut output),
        Command::Status(arguments) => status::run(&arguments, &mut output),
        Command::Ls(arguments) => list::ls(&arguments, &mut output),
        Command::Tags(arguments) => list::tags(&arguments, &mut output),
        Command::Inspect(arguments) => inspect::run(&arguments, &mut output),
        Command::Rm(arguments) => remove::run(&arguments, &mut output),
        Command::Compact(arguments) => compact::run(&arguments, &mut output),
        Command::Cache(command) => command.run(&mut output),
        Command::Access(command) => command.run(&mut output),
        Command::Backup(command) => command.run(&mut output),
        Command::User(command) => command.run(&mut output),
        Command::Token(command) => command.run(&mut output),
        Command::Config(command) => command.run(&mut output),
        Command::Policy(command) => command.run(&mut output),
        Command::Verify(arguments) => verify::run(&arguments, &mut output),
        Command::Import(command) => command.run(&mut output),
        Command::Export(command) => command.run(&mut output),
        Command::Gc(arguments) => collection::run(&arguments, &mut output),
        Command::Deleted(arguments) => arguments.run(&mut output),
        Command::Undelete(arguments) => arguments.run(&mut output),
        Command::Purge(arguments) => arguments.run(&mut output),
        Command::Du(arguments) => sizes::run(&arguments, &mut output),
        Command::Tag(command) => command.run(&mut output),
        Command::Repository(command) => command.run(&mut output),
        Command::Completions(arguments) => pages::print_completions(&arguments, &mut output),
        Command::Man(arguments) => pages::print_manual(&arguments, &mut output),
        Command::ExitCodes => output.text(&exit::page()).map(|()| ExitCode::SUCCESS).map_err(Into::into),
    };
    result.unwrap_or_else(|error| {
        let closed = error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        if closed {
            // Whoever read our output has seen enough.
            return ExitCode::SUCCESS;
        }
        output::error(&error);
        ExitCode::FAILURE
    })
}
