//! `bulkhead run`: starts the host and waits for its end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch::{self as channel, Receiver};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Run;
use super::main::{Failed, Outcome, complain_of};
use super::{unusable, watch};
use crate::clock::Clock;
use crate::config::{Loaded, Problem};
use crate::host::{self, Asker, Ended, Front, Host, Moment, Reading, Reloader, Unchanged, Until, missing_secrets};
use crate::ledger::{Ledger, OpenError, Settings};
use crate::metrics::Metrics;
use crate::secret_store::{Environment, SecretStore};
use crate::telemetry::supervisor::Supervisor;

/// A verb without a host works on the data directory itself, and is done by then; another host stays.
const VERB_ENDS_WITHIN: Duration = Duration::from_secs(2);
/// Until the data directory is tried again.
const LOOK_EACH: Duration = Duration::from_millis(20);

/// Runs the configured connectors until a signal, or until nothing is left to do.
///
/// # Errors
/// Plugins, secrets or the data directory are not usable (nothing was started), or the host broke on its way.
pub async fn run(
    loaded: Loaded,
    environment: Environment,
    arguments: Run,
    read_again: impl Fn() -> Result<Loaded, Vec<Problem>> + Send + Sync + 'static,
) -> Outcome {
    let traces = loaded.config.host.otlp.is_some();
    let metrics = if traces { Metrics::with_examples() } else { Metrics::default() };
    let seen = watch::look(loaded.files());
    let problems = missing_secrets(&loaded, &environment, Moment::Start);
    let plugins = match host::prepare(&loaded, &metrics).await {
        Ok(plugins) if problems.is_empty() => plugins,
        Ok(_) => return Ok(refuse(&problems)),
        Err(more) => return Ok(refuse(&[problems, more].concat())),
    };
    complain_of(&plugins.warnings);
    let config = &loaded.config;
    // Nothing is missing, so nothing can be refused here but a file that has just gone.
    let empty = |_| SecretStore::empty(&config.host.data_dir);
    let secrets = SecretStore::open(&config.secrets, &environment).unwrap_or_else(empty);
    let settings = Settings { min_free: config.host.min_free, ..Settings::new(config.host.data_dir.clone()) };
    let ledger = open(&settings, &metrics).await.map_err(|error| Failed::Unusable(anyhow::Error::new(error)))?;
    plugins.keep(&config.host.data_dir);
    let (signals, _watching) = signals().context("cannot wait for signals")?;
    let hangups = signal(SignalKind::hangup()).context("cannot wait for signals")?;
    let front = Front::bind(config).await.map_err(Failed::Unusable)?;
    let reading = Reading::new(environment, read_again);
    let assembled = Host::assemble(loaded, plugins, secrets, reading, ledger.clone(), metrics).await;
    // Nothing runs yet, so what is wrong here is wrong with the configuration or the data directory.
    let host = assembled.map_err(|error| {
        ledger.close();
        Failed::Unusable(ledger.behind(error))
    })?;
    let until = if arguments.until_idle { Until::Idle(arguments.idle_horizon) } else { Until::Stopped };
    let mut reloading = JoinSet::new();
    let supervisor = Supervisor::of_environment();
    reloading.spawn(reload_on_hangup(hangups, host.reloader(), supervisor.clone()));
    if arguments.watch {
        reloading.spawn(watch::reload_on_change(host.reloader(), seen));
    }
    match host.run(front, until, signals, supervisor).await? {
        Ended::Settled => Ok(ExitCode::SUCCESS),
        Ended::Cut | Ended::Held => Ok(ExitCode::FAILURE),
    }
}

/// Opens the ledger, when a verb that just works on it has ended.
async fn open(settings: &Settings, metrics: &Metrics) -> Result<Ledger, OpenError> {
    let deadline = Instant::now() + VERB_ENDS_WITHIN;
    let mut is_said = false;
    loop {
        match Ledger::open(settings.clone(), Clock::default(), metrics.clone()) {
            Err(OpenError::Locked { dir, .. }) if Instant::now() < deadline => {
                if !is_said {
                    tracing::info!(dir = %dir.display(), "waits for another process that works on the data directory");
                }
                is_said = true;
                tokio::time::sleep(LOOK_EACH).await;
            }
            opened => return opened,
        }
    }
}

fn refuse(problems: &[Problem]) -> ExitCode {
    complain_of(problems);
    unusable()
}

/// Reads the configuration again with each SIGHUP; those that come together count as one.
async fn reload_on_hangup(mut hangups: Signal, reloader: Reloader, supervisor: Supervisor) {
    while hangups.recv().await.is_some() {
        supervisor.is_reloading();
        match reloader.reload(Asker::Signal).await {
            Ok(_) => supervisor.is_ready("the configuration was read again and is in use"),
            Err(Unchanged::Refused(_)) => supervisor.is_ready("the configuration is refused: see the log"),
            Err(Unchanged::Stopping) => {}
        }
    }
}

/// Counts SIGTERM and SIGINT, as long as the set is kept.
fn signals() -> std::io::Result<(Receiver<u32>, JoinSet<()>)> {
    let (sender, receiver) = channel::channel(0);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut watching = JoinSet::new();
    watching.spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = sender.closed() => return,
            }
            sender.send_modify(|count| *count += 1);
        }
    });
    Ok((receiver, watching))
}
