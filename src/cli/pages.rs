//! What is made of the definitions of the commands: completions of shells, manual pages, and the page `docs/commands.md`.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::builder::StyledStr;
use clap::{Arg, Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::fsio::replace_shared;

use super::output::Output;
use super::{definition, exit, is_shared};

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(orlop completions bash)
  orlop completions bash > /etc/bash_completion.d/orlop
  orlop completions zsh > ~/.zfunc/_orlop
  orlop completions fish > ~/.config/fish/completions/orlop.fish";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  orlop man | man -l -
  orlop man --dir /usr/local/share/man/man1       a page for each command: orlop-backup-create(1)";

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// Write the page of each command into this directory, which is there
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

pub(super) fn print_completions(
    arguments: &CompletionsArguments,
    output: &mut Output,
) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut definition(), "orlop", &mut script);
    output.text(&String::from_utf8(script).context("the completions are no text")?)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn print_manual(arguments: &ManArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let mut pages = Vec::new();
    let mut command = definition().disable_help_subcommand(true);
    command.build();
    manual(&command, &mut pages)?;
    match &arguments.dir {
        Some(dir) => {
            for (name, page) in &pages {
                replace_shared(&dir.join(name), page.as_bytes())?;
            }
            output.line(format!("{} pages are written into {}.", pages.len(), dir.display()))?;
        }
        // That of the whole program comes first.
        None => pages.first().map_or(Ok(()), |(_, page)| output.text(page))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The manual pages of a command and of those below it, with the names of their files.
fn manual(command: &Command, pages: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let source = format!("orlop {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source).manual("Orlop");
    let mut page = Vec::new();
    man.render(&mut page)?;
    let mut page = String::from_utf8(page).context("a manual page is no text")?;
    // Examples stay in their lines.
    page = page.replace("\n.SH EXTRA\nExamples:\n", "\n.SH EXAMPLES\n.nf\n");
    page.push_str(".SH \"EXIT STATUS\"\n");
    for (code, meaning) in exit::CODES {
        writeln!(page, ".TP\n{code}\n{meaning}")?;
    }
    pages.push((man.get_filename(), in_ascii(&page)));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        manual(below, pages)?;
    }
    Ok(())
}

/// A manual page as every formatter reads it, whatever it takes for the encoding of files.
fn in_ascii(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    for character in page.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            push(&mut text, format_args!("\\[u{:04X}]", u32::from(character)));
        }
    }
    text
}

/// The generated part of `docs/commands.md`.
pub fn reference() -> String {
    let mut command = definition().disable_help_subcommand(true);
    command.build();
    let mut commands = Vec::new();
    leaves(&command, &mut commands);
    let mut text = "| command | what it does |\n| --- | --- |\n".to_owned();
    for (path, command) in &commands {
        let anchor = path.replace(' ', "-");
        let about = one_line(command.get_about());
        push(&mut text, format_args!("| [`{path}`](#{anchor}) | {about} |\n"));
    }
    text.push_str("\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n");
    for (code, meaning) in exit::CODES {
        push(&mut text, format_args!("| {code} | {meaning} |\n"));
    }
    text.push_str("\n## Options of commands that use the configuration\n\n");
    let shared = commands.iter().find(|(path, _)| path == "orlop serve");
    options(&mut text, shared.iter().flat_map(|(_, command)| command.get_arguments()));
    text.push_str("\n## One by one\n");
    for (path, command) in &commands {
        one(&mut text, path, command);
    }
    text
}

/// Every command that does something, with its whole name.
fn leaves(command: &Command, into: &mut Vec<(String, Command)>) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        if below.has_subcommands() {
            leaves(below, into);
        } else {
            into.push((below.get_bin_name().unwrap_or_default().to_owned(), below.clone()));
        }
    }
}

fn one(text: &mut String, path: &str, command: &Command) {
    let about = command.get_long_about().or(command.get_about());
    push(text, format_args!("\n### {path}\n\n"));
    if let Some(about) = about {
        push(text, format_args!("{}\n\n", about.to_string().trim()));
    }
    let usage = command.clone().render_usage().to_string();
    push(text, format_args!("    {}\n", usage.trim_start_matches("Usage: ")));
    let uses_configuration = path != "orlop serve" && command.get_arguments().any(is_shared);
    let own: Vec<&Arg> =
        command.get_arguments().filter(|argument| path != "orlop serve" && !is_shared(argument)).collect();
    if own.iter().any(|argument| !is_help(argument)) {
        text.push('\n');
        options(text, own.into_iter());
    }
    if uses_configuration {
        let these = "and the [options of commands that use the configuration](#options-of-commands-that-use-the-configuration)";
        push(text, format_args!("\n… {these}.\n"));
    }
    if let Some(examples) = command.get_after_help() {
        push(text, format_args!("\n```text\n{}\n```\n", examples.to_string().trim_end()));
    }
}

fn is_help(argument: &Arg) -> bool {
    ["help", "version"].contains(&argument.get_id().as_str())
}

fn options<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    text.push_str("| option | meaning |\n| --- | --- |\n");
    for argument in arguments.filter(|argument| !is_help(argument) && !argument.is_hide_set()) {
        let shown = argument.to_string().replace('|', "\\|");
        let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
        push(text, format_args!("| {short}`{shown}` | {} |\n", one_line(argument.get_help())));
    }
}

fn one_line(text: Option<&StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    // What Markdown would take for the edge of a cell, or for emphasis.
    text.replace('\n', " ").replace('|', "\\|").replace('*', "\\*").trim().to_owned()
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("writing to a String does not fail");
}
