//! `bulkhead generate`: what a package of the program carries beside it, made from the same definitions that parse its
//! arguments: manual pages, and completions for shells.
//!
//! For those who make packages, and so not among the verbs that `--help` lists. Verbs that are hidden there are here, too.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use super::main::Outcome;
use super::output::{counted, print};
use crate::page;

const NAME: &str = "bulkhead";
const SOURCE: &str = concat!("bulkhead ", env!("CARGO_PKG_VERSION"));
const SHELLS: [(Shell, &str); 3] =
    [(Shell::Bash, "bulkhead.bash"), (Shell::Zsh, "_bulkhead"), (Shell::Fish, "bulkhead.fish")];

/// Writes all of them into `man/` and `completions/` of a folder.
///
/// # Errors
/// The folder cannot be written.
pub fn run(folder: &Path) -> Outcome {
    let mut command = visible(Cli::command());
    command.build();
    let mut files = BTreeMap::new();
    pages(&command, NAME, &mut files)?;
    for (shell, file) in SHELLS {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut visible(Cli::command()), NAME, &mut script);
        files.insert(format!("completions/{file}"), script);
    }
    page::write_files(folder, &files)?;
    print(&format!("{} in {}", counted(files.len(), "file"), folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The same without the verbs that are the program's own matter.
fn visible(command: Command) -> Command {
    let shown: Vec<Command> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
    let bare = Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about(command.get_about().cloned().unwrap_or_default())
        .args(command.get_arguments())
        .subcommand_required(true)
        .propagate_version(true);
    bare.subcommands(shown)
}

/// A page for a verb and for those below it, such as `bulkhead-dead-list.1`.
fn pages(command: &Command, name: &str, files: &mut BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .source(SOURCE)
        .manual("Bulkhead")
        .render(&mut page)?;
    files.insert(format!("man/{name}.1"), page);
    let verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set());
    verbs.into_iter().try_for_each(|verb| pages(verb, &format!("{name}-{}", verb.get_name()), files))
}
