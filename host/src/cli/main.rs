//! From arguments to a verb, and from its end to an exit code.
//!
//! 0 is done, 1 is failed, 2 is nothing started or changed. Errors are printed here and nowhere else, with all their
//! causes, on standard error.

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use super::diagnostic::Colours;
use super::{
    Cli, Command, audit, backup, check, dead, docs, doctor, explain, generate, graph, inspect, load, lock, parse,
    pause, queues, reload, run, schedules, schema, secrets, send, top, trace, ui, unusable,
};
use crate::admin::problem::Problem;
use crate::config::{self, Loaded};
use crate::egress::own_admin::Refused;
use crate::host;
use crate::metrics::Metrics;
use crate::runtime::compile;
use crate::secret_store::{Environment, forbid_core_dumps};
use crate::telemetry;

/// What kept a verb from ending well.
#[derive(Debug)]
pub enum Failed {
    /// Nothing was started or changed: exit code 2.
    Unusable(anyhow::Error),
    /// It broke on the way: exit code 1.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Failed {
    /// What was refused for its arguments changed nothing, whoever refused it.
    fn from(error: anyhow::Error) -> Self {
        let is_refused = error
            .chain()
            .any(|cause| cause.is::<Refused>() || cause.downcast_ref::<Problem>().is_some_and(Problem::is_refusal));
        if is_refused { Self::Unusable(error) } else { Self::Broken(error) }
    }
}

/// How a verb ends.
pub(super) type Outcome = Result<ExitCode, Failed>;

/// Runs the verb that the process's arguments name.
#[must_use]
pub fn main() -> ExitCode {
    forbid_core_dumps();
    let cli = parse();
    telemetry::start(cli.log_format);
    let outcome = match &cli.command {
        Command::Check(super::Check { explain: None, against: None }) => Ok(checked(&cli)),
        Command::Check(super::Check { against: Some(address), .. }) => {
            with_config(&cli, |loaded| block_on(reload::check(&loaded.config, *address, cli.json)))
        }
        Command::Reload => with_config(&cli, |loaded| block_on(reload::run(&loaded.config, cli.json))),
        Command::Check(super::Check { explain: Some(connector), .. }) => {
            with_config(&cli, |loaded| block_on(explain::run(&loaded, connector, cli.json)))
        }
        Command::Lock(arguments) => with_config(&cli, |loaded| block_on(lock::run(&loaded, arguments, cli.json))),
        Command::Schema => schema::run().map(|()| ExitCode::SUCCESS).map_err(Failed::Broken),
        Command::CompilePlugin => Ok(compile::serve()),
        Command::Generate { folder } => generate::run(folder),
        Command::Inspect(arguments) => block_on(inspect::run(arguments, cli.json)),
        Command::Run(arguments) => with_config(&cli, |loaded| {
            // No thread runs yet: this is the moment to take secrets out of the environment.
            let environment = Environment::take(&loaded.config.secrets, &loaded.config.host.data_dir);
            let again = cli.clone();
            block_on(run::run(loaded, environment, arguments.clone(), move || load(&again)))
        }),
        Command::Send(arguments) => {
            with_config(&cli, |loaded| done(send::run(&loaded.config, arguments.clone(), cli.json)))
        }
        Command::Queues { command: None } => with_config(&cli, |loaded| done(queues::list(&loaded.config, cli.json))),
        Command::Queues { command: Some(command) } => {
            with_config(&cli, |loaded| done(queues::change(&loaded.config, command, cli.json)))
        }
        Command::Schedules(arguments) => {
            with_config(&cli, |loaded| done(schedules::run(&loaded.config, arguments, cli.json)))
        }
        Command::Pause(of) => with_config(&cli, |loaded| done(pause::pause(&loaded.config, &of.connector, cli.json))),
        Command::Resume(of) => with_config(&cli, |loaded| done(pause::resume(&loaded.config, &of.connector, cli.json))),
        Command::Dead { command } => {
            with_config(&cli, |loaded| done(dead::run(&loaded.config, command.clone(), cli.json)))
        }
        Command::Trace { message_id } => {
            with_config(&cli, |loaded| done(trace::run(&loaded.config, message_id, cli.json)))
        }
        Command::Top(arguments) => with_config(&cli, |loaded| done(top::run(&loaded.config, *arguments))),
        Command::Ui => with_config(&cli, |loaded| ui::run(&loaded.config, cli.json).map(|()| ExitCode::SUCCESS)),
        Command::Doctor => doctor(&cli),
        Command::Graph { format } => with_config(&cli, |loaded| {
            graph::run(&loaded.config, *format, cli.json)?;
            Ok(ExitCode::SUCCESS)
        }),
        Command::Docs(arguments) => with_config(&cli, |loaded| block_on(docs::run(&loaded, arguments, cli.json))),
        Command::Backup { file } => with_config(&cli, |loaded| done(backup::make(&loaded.config, file, cli.json))),
        Command::Restore { file } => with_config(&cli, |loaded| backup::restore(&loaded.config, file, cli.json)),
        Command::Audit { command } => with_config(&cli, |loaded| audit::run(&loaded.config, command, cli.json)),
        Command::Secrets { command } => with_config(&cli, |loaded| {
            let config = &loaded.config;
            let environment = Environment::take(&config.secrets, &config.host.data_dir);
            done(secrets::run(config, &environment, command.clone(), cli.json))
        }),
    };
    outcome.unwrap_or_else(|failed| {
        let (error, code) = match failed {
            Failed::Unusable(error) => (error, unusable()),
            Failed::Broken(error) => (error, ExitCode::FAILURE),
        };
        complain(&format!("error: {error:#}\n"));
        code
    })
}

/// `check` also loads the plugins, and asks whether each secret has a value.
fn checked(cli: &Cli) -> ExitCode {
    check::run(cli, |loaded| {
        let environment = Environment::take(&loaded.config.secrets, &loaded.config.host.data_dir);
        let prepared = match runtime() {
            Ok(runtime) => runtime.block_on(host::prepare(loaded, &Metrics::default())).map(|plugins| plugins.warnings),
            Err(error) => Err(vec![loaded.problem("host", error.to_string(), "")]),
        };
        let mut found = prepared.unwrap_or_else(|problems| problems);
        found.extend(host::missing_secrets(loaded, &environment, host::Moment::Start));
        found.extend(check::unread(loaded));
        found
    })
}

/// Without a valid configuration it still looks at what needs none.
fn doctor(cli: &Cli) -> Outcome {
    let loaded = load(cli);
    let environment =
        loaded.as_ref().ok().map(|loaded| Environment::take(&loaded.config.secrets, &loaded.config.host.data_dir));
    block_on(doctor::run(loaded, environment, cli.json))
}

fn with_config(cli: &Cli, verb: impl FnOnce(Loaded) -> Outcome) -> Outcome {
    match load(cli) {
        Ok(loaded) => {
            complain_of(&loaded.warnings);
            verb(loaded)
        }
        Err(problems) => {
            complain_of(&problems);
            Ok(unusable())
        }
    }
}

/// A verb that needs the ledger, by itself or through the host that runs.
fn done(verb: impl Future<Output = Result<(), Failed>>) -> Outcome {
    block_on(async { verb.await.map(|()| ExitCode::SUCCESS) })
}

fn block_on(verb: impl Future<Output = Outcome>) -> Outcome {
    let runtime = runtime().map_err(|error| Failed::Broken(error.into()))?;
    let outcome = runtime.block_on(verb);
    // A name lookup that hangs in the system must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// Sockets, timers and the command's own work; guests have threads of their own.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("bulkhead-io").build()
}

/// Tells people what is wrong with the configuration.
pub(super) fn complain_of(problems: &[config::Problem]) {
    complain(&check::problems_text(problems, Colours::of(&std::io::stderr())));
}

/// Tells people, who may have closed standard error.
pub(super) fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
