//! `orlop user`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::auth::{hash_password, with_user};
use crate::fsio::replace_shared;
use crate::http::admin::{AddUser, Done, Password, RemoveUser, RemovedUser, SetUser, UserEntry, Users};
use crate::registry::AccountName;

use super::admin::{AdminArguments, AdminRequest};
use super::output::Output;
use super::password::new_password;
use super::table;

const ADD_EXAMPLES: &str = "\
Examples:
  orlop user add anna --group ops                 asks for the password
  printf '%s\\n' \"$PASSWORD\" | orlop user add ci --password-stdin
  orlop user add anna --htpasswd /etc/orlop/users into a file instead, which access.htpasswd names";

const SET_EXAMPLES: &str = "\
Examples:
  orlop user set anna --password                  asks for the new password
  orlop user set anna --group ops --group dev     these groups and no others
  orlop user set anna --no-groups";

/// What is said where the last account goes.
pub(super) const OPENS: &str = "No users, access tokens or rules are left: from its next start on the server lets \
    everybody in. Until then it lets in nobody.";

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user, with a password and groups.
    ///
    /// The password is asked for twice, or read from the first line of standard input. From the first user or access token on
    /// the registry lets in only those whom it knows.
    #[command(after_help = ADD_EXAMPLES)]
    Add(AddArguments),
    /// List the users, those in the file of access.htpasswd too.
    List(ListArguments),
    /// Give a user another password, or other groups.
    #[command(after_help = SET_EXAMPLES)]
    Set(SetArguments),
    /// Remove a user and revoke their access tokens.
    Remove(RemoveArguments),
}

#[derive(Debug, Args)]
pub(super) struct AddArguments {
    /// The name that they log in with
    name: AccountName,
    /// A group that they are in, as rules name it; may be given several times
    #[arg(long = "group", value_name = "GROUP", conflicts_with = "htpasswd")]
    groups: Vec<AccountName>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
    /// Write the user into this file, in place of their former line if they have one, and leave the database alone
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct SetArguments {
    /// The user
    name: AccountName,
    /// A group that they are in from now on, and no longer in others; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<AccountName>,
    /// They are in no group any more
    #[arg(long, conflicts_with = "groups")]
    no_groups: bool,
    /// Ask for a new password
    #[arg(long)]
    password: bool,
    /// Read the new password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct RemoveArguments {
    /// The user
    name: AccountName,
    #[command(flatten)]
    admin: AdminArguments,
}

impl UserCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Add(AddArguments { name, password_stdin, htpasswd: Some(file), .. }) => {
                write(&file, &name, &new_password(password_stdin)?)?;
                output.line(format!("{name} stands in {} now.", file.display()))?;
            }
            Self::Add(AddArguments { name, groups, password_stdin, htpasswd: None, admin }) => {
                let password = Password::new(new_password(password_stdin)?);
                let request =
                    AdminRequest::post("users/add", &AddUser { name: name.clone(), password, groups })?;
                admin.ask(request, output, |_: &Done, output| {
                    output.line(format!("{name} can log in now."))
                })?;
            }
            Self::List(ListArguments { admin }) => {
                admin.ask(AdminRequest::get("users"), output, print)?;
            }
            Self::Set(arguments) => set(arguments, output)?,
            Self::Remove(RemoveArguments { name, admin }) => {
                let request = AdminRequest::post("users/remove", &RemoveUser { name: name.clone() })?;
                admin.ask(request, output, |answer: &RemovedUser, output| {
                    let tokens = match answer.revoked_tokens {
                        0 => String::new(),
                        1 => ", with one access token".to_owned(),
                        more => format!(", with {more} access tokens"),
                    };
                    output.line(format!("{name} is removed{tokens}."))?;
                    if answer.opens_at_next_start { output.line(OPENS) } else { Ok(()) }
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn set(arguments: SetArguments, output: &mut Output) -> anyhow::Result<()> {
    let SetArguments { name, groups, no_groups, password, password_stdin, admin } = arguments;
    let groups = (no_groups || !groups.is_empty()).then_some(groups);
    if groups.is_none() && !password && !password_stdin {
        bail!("say what to change: --password, --password-stdin, --group or --no-groups");
    }
    let password = (password || password_stdin).then(|| new_password(password_stdin)).transpose()?;
    let body = SetUser { name: name.clone(), password: password.map(Password::new), groups };
    let request = AdminRequest::post("users/set", &body)?;
    admin.ask(request, output, |_: &Done, output| output.line(format!("{name} is changed.")))?;
    Ok(())
}

/// Sets a user in a file; every other line stays.
fn write(file: &Path, name: &AccountName, password: &str) -> anyhow::Result<()> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let hash = hash_password(password)?;
    let text = with_user(&text, name.as_str(), &hash)
        .with_context(|| format!("{} stays as it was", file.display()))?;
    replace_shared(file, text.as_bytes())?;
    Ok(())
}

fn print(answer: &Users, output: &mut Output) -> io::Result<()> {
    if answer.users.is_empty() {
        return output.line("There are no users.");
    }
    let row = |user: &UserEntry| {
        let changed = user.changed_at.clone().unwrap_or_else(|| "-".to_owned());
        [user.name.clone(), user.groups.join(", "), user.source.clone(), changed]
    };
    let rows: Vec<[String; 4]> = answer.users.iter().map(row).collect();
    table::print(output, ["user", "groups", "kept in", "changed"], &[], &rows)?;
    if answer.users.iter().any(|user| user.source == "hidden") {
        output.line("Those that are hidden can't log in: the user of the same name in the file is meant.")?;
    }
    Ok(())
}
