//! `orlop token`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::auth::Scope;
use crate::config;
use crate::http::admin::{
    AccessTokenEntry, AccessTokens, CreateToken, CreatedToken, RevokeToken, RevokedToken,
};
use crate::registry::AccountName;

use super::admin::{AdminArguments, AdminRequest};
use super::output::Output;
use super::table;
use super::user::OPENS;

const CREATE_EXAMPLES: &str = "\
Examples:
  orlop token create ci --scope 'team/**:pull,push' --expires 90d
  orlop token create laptop --user anna           all that anna may do, under her name
  orlop token create deploy                       what rules let token:deploy do
  orlop token create ci --scope '**:pull' --json | jq -r .secret";

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make an access token, and show its secret this once.
    ///
    /// With --user it stands for that user. Without, it is a robot account: with a scope it may do what the scope says and nothing
    /// else, and without one what rules say of token:NAME. The secret is a password for docker login, or a Bearer token.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArguments),
    /// List the access tokens, with what they are for and when they were last used. No secret is shown.
    List(ListArguments),
    /// Revoke an access token: it opens nothing from now on.
    Revoke(RevokeArguments),
}

#[derive(Debug, Args)]
pub(super) struct CreateArguments {
    /// A name that no other access token has; a robot account logs in with it
    name: AccountName,
    /// The user whom it stands for
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// What it may be used for, such as team/**:pull,push; may be given several times
    #[arg(long, value_name = "PATTERN:ACTIONS")]
    scope: Vec<Scope>,
    /// After what time it is worth nothing: 90d, 12h
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<Duration>,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArguments {
    /// The access token
    name: AccountName,
    #[command(flatten)]
    admin: AdminArguments,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let duration = config::parse_duration(text)?;
    if duration.as_secs() == 0 { Err("write at least a second".to_owned()) } else { Ok(duration) }
}

impl TokenCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(CreateArguments { name, user, scope, expires, admin }) => {
                let body = CreateToken {
                    name,
                    user,
                    scope: scope.iter().map(Scope::to_string).collect(),
                    expires_in: expires.map(|expires| expires.as_secs()),
                };
                let is_robot = body.user.is_none();
                admin.ask(AdminRequest::post("tokens/create", &body)?, output, |answer, output| {
                    print_created(answer, is_robot, output)
                })?;
            }
            Self::List(ListArguments { admin }) => {
                admin.ask(AdminRequest::get("tokens"), output, print)?;
            }
            Self::Revoke(RevokeArguments { name, admin }) => {
                let request = AdminRequest::post("tokens/revoke", &RevokeToken { name: name.clone() })?;
                admin.ask(request, output, |answer: &RevokedToken, output| {
                    output.line(format!("{name} is revoked."))?;
                    if answer.opens_at_next_start { output.line(OPENS) } else { Ok(()) }
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_created(answer: &CreatedToken, is_robot: bool, output: &mut Output) -> io::Result<()> {
    let CreatedToken { name, login, scope, expires_at, secret } = answer;
    let scope = match (scope.is_empty(), is_robot) {
        (false, _) => scope.join(" "),
        (true, true) => format!("what rules say of token:{name}"),
        (true, false) => format!("what {login} may do"),
    };
    let expires = expires_at.clone().unwrap_or_else(|| "never".to_owned());
    for (what, value) in [("name", name), ("user name", login), ("may", &scope), ("expires", &expires)] {
        output.line(format!("{what:16} {value}"))?;
    }
    output.line(format!("{:16} {secret}", "secret"))?;
    output.line("The secret is the password. It isn't shown again.")
}

fn print(answer: &AccessTokens, output: &mut Output) -> io::Result<()> {
    if answer.tokens.is_empty() {
        return output.line("There are no access tokens.");
    }
    let row = |token: &AccessTokenEntry| {
        let or = |value: &Option<String>, none: &str| value.clone().unwrap_or_else(|| none.to_owned());
        let note = match (token.has_expired, token.is_orphaned) {
            (true, _) => "expired",
            (false, true) => "its user is gone",
            (false, false) => "",
        };
        [
            token.name.clone(),
            or(&token.user, "(robot)"),
            if token.scope.is_empty() { "-".to_owned() } else { token.scope.join(" ") },
            token.created_at.clone(),
            or(&token.expires_at, "never"),
            or(&token.used_at, "never"),
            note.to_owned(),
        ]
    };
    let rows: Vec<[String; 7]> = answer.tokens.iter().map(row).collect();
    table::print(output, ["token", "user", "scope", "made", "expires", "last used", ""], &[], &rows)
}
