//! The command line: which verbs there are, what they take, and how they end.
//!
//! Only parses: each verb's work lies in a file of its own. Invariant: arguments are checked types from here on.

pub mod audit;
pub mod backup;
pub mod check;
pub mod dead;
pub mod diagnostic;
pub mod docs;
pub mod doctor;
pub mod explain;
pub mod generate;
pub mod graph;
pub mod inspect;
mod lines;
pub mod lock;
mod main;
pub mod output;
pub mod pause;
pub mod queues;
pub mod reload;
pub mod run;
pub mod schedules;
pub mod schema;
pub mod secrets;
pub mod send;
pub mod target;
pub mod top;
pub mod trace;
pub mod ui;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

pub use top::Top;

use crate::admin::api::schedules::NEXT;
use crate::config;
use crate::id::Name;
use crate::plugin_store::compiler::VERB;
use crate::telemetry::LogFormat;

/// Nothing was started or changed: configuration, arguments, a plugin or the data directory is not usable.
pub const EXIT_UNUSABLE: u8 = 2;

/// Runs integration connectors as sandboxed WebAssembly components, durably.
#[derive(Clone, Debug, Parser)]
#[command(name = "bulkhead", version, propagate_version = true)]
pub struct Cli {
    /// Configuration file; given several times, later files override earlier ones
    #[arg(long, global = true, value_name = "FILE", default_value = "bulkhead.toml")]
    pub config: Vec<PathBuf>,
    /// Print data as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// How log lines are written on standard error
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A verb and what it takes.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the configured connectors
    Run(Run),
    /// Report every problem of the configuration and of the plugins that it names
    Check(Check),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Have the running host read its configuration again, and say what that has changed
    Reload,
    /// Show what a plugin exports, imports and asks for
    Inspect(Inspect),
    /// Accept the plugins as they are: from now on others are refused
    Lock(Lock),
    /// Compile a plugin from standard input to standard output: what the host starts for itself
    #[command(name = VERB, hide = true)]
    CompilePlugin,
    /// Write manual pages and completions for shells into a folder: for those who make packages
    #[command(hide = true)]
    Generate {
        /// The folder
        folder: PathBuf,
    },
    /// Put messages into a queue
    Send(Send),
    /// List the queues and who reads them
    Queues {
        /// What to do with one of them.
        #[command(subcommand)]
        command: Option<Queues>,
    },
    /// List the schedules: when each fires next, and what its last tick came to
    Schedules(Schedules),
    /// Stop a connector until it is resumed; its messages stay
    Pause(Of),
    /// Let a paused connector go on, also one that its brake has stopped
    Resume(Of),
    /// Look at dead letters, deliver them again or drop them
    Dead {
        /// What to do with them.
        #[command(subcommand)]
        command: Dead,
    },
    /// Show what a message was made from, where it lies, how far its deliveries are, and what was made of it
    Trace {
        /// Its id
        #[arg(value_name = "MESSAGE_ID")]
        message_id: String,
    },
    /// Show the running host at a glance, each second anew
    Top(Top),
    /// Keep values of secrets encrypted in the data directory
    Secrets {
        /// What to do with them.
        #[command(subcommand)]
        command: Secrets,
    },
    /// Draw how data flows, from the configuration
    Graph {
        /// The language of the drawing
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
        format: GraphFormat,
    },
    /// Write a page in Markdown for each connector: what it connects, what it may do, when it runs, what it takes
    Docs(Docs),
    /// Print the address of the web page of the host that runs here, with its token: open it in a browser
    Ui,
    /// Look at the machine, the data directory, secrets and plugins: exit code 1 where something would not work
    Doctor,
    /// Copy the ledger, the sealed secrets and the audit record into one file, also while a host runs
    Backup {
        /// The file to make; nothing is written over
        file: PathBuf,
    },
    /// Make a data directory from the file of a backup
    Restore {
        /// The file of `bulkhead backup`
        file: PathBuf,
    },
    /// The record of what was refused, used and changed
    Audit {
        /// What to do with it.
        #[command(subcommand)]
        command: Audit,
    },
}

/// `bulkhead run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// End when nothing is left to do
    #[arg(long)]
    pub until_idle: bool,
    /// What is due later than this from now does not keep the run from ending
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = config::duration, requires = "until_idle")]
    pub idle_horizon: Duration,
    /// Read the configuration again whenever one of its files or plugins changes
    #[arg(long)]
    pub watch: bool,
}

/// `bulkhead check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Say in plain words what this connector may do, instead of checking
    #[arg(long, value_name = "CONNECTOR", value_parser = Name::parse)]
    pub explain: Option<Name>,
    /// Say what a reload would change in the host whose admin listener is there, as in http://127.0.0.1:9100
    #[arg(long, value_name = "URL", value_parser = parse_admin, conflicts_with = "explain")]
    pub against: Option<SocketAddr>,
}

/// `bulkhead lock`.
#[derive(Clone, Debug, Args)]
pub struct Lock {
    /// Accept that the plugin of this connector needs more than before; may be given several times
    #[arg(long, value_name = "CONNECTOR", value_parser = Name::parse)]
    pub accept: Vec<Name>,
}

/// `bulkhead pause` and `bulkhead resume`.
#[derive(Clone, Debug, Args)]
pub struct Of {
    /// The connector
    #[arg(value_parser = Name::parse)]
    pub connector: Name,
}

/// `bulkhead queues`.
#[derive(Clone, Debug, Subcommand)]
pub enum Queues {
    /// Drop at once what is kept for a connector that has left the configuration
    Forget {
        /// The queue; the inbox of a connector is @NAME
        #[arg(value_parser = parse_queue)]
        queue: Name,
        /// The connector that read it
        #[arg(value_parser = Name::parse)]
        connector: Name,
    },
}

/// `bulkhead schedules`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Schedules {
    /// What to do with one of them.
    #[command(subcommand)]
    pub command: Option<SchedulesVerb>,
    /// So many of the times to come, 1000 at most
    #[arg(long, value_name = "N", default_value_t = NEXT)]
    pub next: usize,
    /// The times after this one, as RFC 3339, instead of those after now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub from: Option<Timestamp>,
}

/// `bulkhead schedules fire`.
#[derive(Clone, Debug, Subcommand)]
pub enum SchedulesVerb {
    /// Make a tick now, also one for a time that has passed
    Fire {
        /// The connector whose schedule it is
        #[arg(value_parser = Name::parse)]
        connector: Name,
        /// The schedule's name, where the connector has several
        #[arg(long, value_name = "NAME", value_parser = Name::parse)]
        schedule: Option<Name>,
        /// The planned time that the plugin is told, as RFC 3339; firing the same one again adds nothing
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        at: Option<Timestamp>,
    },
}

/// The language of `bulkhead graph`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// As GitHub and many wikis draw it.
    #[default]
    Mermaid,
    /// As Graphviz draws it.
    Dot,
}

/// `bulkhead docs`.
#[derive(Clone, Debug, Args)]
pub struct Docs {
    /// The folder of the pages; made where it is missing
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Show the times after this one, as RFC 3339, instead of those after now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub from: Option<Timestamp>,
}

/// `bulkhead inspect`.
#[derive(Clone, Debug, Args)]
pub struct Inspect {
    /// Path of a component, or builtin:NAME
    pub plugin: String,
}

/// `bulkhead send`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("payload").required(true).args(["body", "lines"]))]
pub struct Send {
    /// The queue
    #[arg(value_parser = Name::parse)]
    pub queue: Name,
    /// The body itself, or @FILE to read it from a file (@- is standard input)
    #[arg(long, value_name = "TEXT|@FILE", value_parser = parse_body, allow_hyphen_values = true)]
    pub body: Option<Body>,
    /// Every line of standard input is a message
    #[arg(long)]
    pub lines: bool,
    /// What the messages are ordered by
    #[arg(long)]
    pub key: Option<String>,
    /// A header; may be given several times
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = parse_header)]
    pub headers: Vec<(String, String)>,
    /// The id of the message, instead of a random one
    #[arg(long, conflicts_with = "lines")]
    pub id: Option<String>,
}

/// Where a body comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The argument itself.
    Text(String),
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// `bulkhead audit`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Audit {
    /// Find out whether the record is as it was written: exit code 1 where it is not
    Verify,
}

/// `bulkhead secrets`.
#[derive(Clone, Debug, Subcommand)]
pub enum Secrets {
    /// Seal a value, read from standard input
    Set {
        /// The secret's name
        #[arg(value_parser = parse_secret_name)]
        name: String,
    },
    /// List the names of what is sealed
    List,
    /// Remove a sealed value for ever
    Rm {
        /// The secret's name
        #[arg(value_parser = parse_secret_name)]
        name: String,
    },
    /// Seal everything with another key
    RotateKey {
        /// The file of the new key, instead of a new key of the host's own
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

pub use dead::Dead;
pub use main::main;

/// Reads the process's arguments; wrong ones end it with a message and exit code 2.
#[must_use]
pub fn parse() -> Cli {
    Cli::parse()
}

/// The exit code for what cannot be used.
#[must_use]
pub fn unusable() -> ExitCode {
    ExitCode::from(EXIT_UNUSABLE)
}

/// Reads the configuration that the arguments name, with the process's environment.
///
/// # Errors
/// Every problem at once.
#[expect(clippy::disallowed_methods, reason = "the entry hands the environment to the configuration")]
pub fn load(cli: &Cli) -> Result<config::Loaded, Vec<config::Problem>> {
    config::load(&cli.config, &|name| std::env::var(name).ok())
}

/// The address of an admin listener.
fn parse_admin(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let address = address.strip_prefix("localhost:").map_or(address.to_owned(), |port| format!("127.0.0.1:{port}"));
    address.parse().map_err(|_| "write the address of its admin listener, such as http://127.0.0.1:9100".to_owned())
}

fn parse_body(text: &str) -> Result<Body, String> {
    match text.strip_prefix('@') {
        None => Ok(Body::Text(text.to_owned())),
        Some("") => Err("name a file after `@`, or `-` for standard input".into()),
        Some("-") => Ok(Body::Stdin),
        Some(path) => Ok(Body::File(path.into())),
    }
}

fn parse_secret_name(text: &str) -> Result<String, String> {
    if config::is_secret_name(text) {
        return Ok(text.to_owned());
    }
    Err("use 1 to 63 of A-Z, a-z, 0-9, `_` and `-`; the value is read from standard input".into())
}

/// The name of a queue or of an inbox.
fn parse_queue(text: &str) -> Result<Name, String> {
    match text.strip_prefix('@') {
        Some(connector) => Name::parse(connector).map(|connector| Name::inbox_of(&connector)),
        None => Name::parse(text),
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "write a date with its time and offset, such as 2026-03-01T09:00:00Z".to_owned())
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_lowercase(), value.trim().to_owned())),
        _ => Err("write NAME:VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot parse has failed")]

    use super::*;
    use clap::CommandFactory as _;

    fn check(line: &str) -> Result<Command, clap::error::ErrorKind> {
        let words = std::iter::once("bulkhead").chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| error.kind())
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_minute_is_the_idle_horizon_unless_said_otherwise() {
        for (line, seconds) in [("run --until-idle", 60), ("run --until-idle --idle-horizon 5m", 300)] {
            let Ok(Command::Run(run)) = check(line) else { panic!("{line}") };
            assert_eq!((run.until_idle, run.idle_horizon), (true, Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn a_message_comes_from_the_argument_a_file_or_standard_input() {
        for (line, body) in [
            ("send q --body {}", Some(Body::Text("{}".into()))),
            ("send q --body @a.json", Some(Body::File("a.json".into()))),
            ("send q --body @-", Some(Body::Stdin)),
            ("send q --lines", None),
        ] {
            let Ok(Command::Send(send)) = check(line) else { panic!("{line}") };
            assert_eq!(send.body, body, "{line}");
        }
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for line in [
            "",
            "send q",
            "send q --body a --lines",
            "send Q --lines",
            "send q --lines --id 1",
            "send q --lines --header nothing",
            "run --until-idle --idle-horizon 5",
            "run --idle-horizon 5s",
            "dead retry",
            "secrets set",
            "secrets set a b",
            "secrets set a:b",
            "dead drop --all 7",
            "dead drop --all --connector a",
            "dead retry 7 --reason a",
            "dead retry --all --edit-body a",
            "dead retry --all --rate 100",
            "dead list --since yesterday",
            "inspect",
            "check --against here",
            "check --against http://127.0.0.1:9100 --explain a",
            "schedules --from yesterday",
            "schedules --next -1",
            "schedules fire",
            "schedules --next 3 fire a",
            "schedules fire a --at 2026-03-01T09:00:00",
        ] {
            assert!(check(line).is_err(), "{line}");
        }
    }

    #[test]
    fn global_options_stand_before_or_after_the_verb() {
        let cli = Cli::try_parse_from(["bulkhead", "check", "--config", "a", "--config", "b", "--json"]).unwrap();
        assert_eq!(cli.config, [PathBuf::from("a"), PathBuf::from("b")]);
        assert!(cli.json);
        let cli = Cli::try_parse_from(["bulkhead", "--log-format", "json", "queues"]).unwrap();
        assert_eq!((cli.config, cli.log_format), (vec![PathBuf::from("bulkhead.toml")], LogFormat::Json));
    }
}
