//! `config/COMMANDS.md` has a section for every command on stored data, and in it a row for each of its flags.

use std::collections::BTreeSet;

use clap::CommandFactory;

use super::Cli;

const DOCUMENT: &str = include_str!("../../../../config/COMMANDS.md");

/// The flags in the table of a section.
fn documented(title: &str) -> Option<BTreeSet<String>> {
    let heading = |line: &&str| line.starts_with('#');
    // What stands behind the command are its arguments, in capitals.
    let is_of = |line: &str| {
        let text = line.trim_start_matches('#').trim().trim_matches('`');
        text.strip_prefix(title)
            .is_some_and(|rest| rest.trim_start().starts_with(|c: char| !c.is_lowercase()) || rest.is_empty())
    };
    let mut lines = DOCUMENT.lines().skip_while(|line| !heading(line) || !is_of(line));
    lines.next()?;
    let rows = lines.take_while(|line| !heading(line)).filter_map(|line| line.strip_prefix("| `--"));
    Some(rows.filter_map(|row| Some(row.split(['`', ' ']).next()?.to_owned())).collect())
}

fn check(command: &clap::Command, title: &str) {
    let flags: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .filter(|name| name != "help" && name != "version")
        .collect();
    if !flags.is_empty() {
        assert_eq!(documented(title), Some(flags), "flags of {title}");
    }
    for below in command.get_subcommands() {
        check(below, &format!("{} {}", title.trim_start_matches("trefoil "), below.get_name()));
    }
}

#[test]
fn every_command_on_stored_data_is_documented() {
    let mut cli = Cli::command();
    cli.build();
    for name in ["tsdb", "backup", "restore"] {
        check(cli.find_subcommand(name).unwrap(), &format!("trefoil {name}"));
    }
}
