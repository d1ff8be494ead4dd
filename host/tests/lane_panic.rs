//! A panic of the host's own code between two calls: counted, charged to the one delivery that it was working on, and the
//! worker goes on. Where it cannot be told which of several it was, each runs alone.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bulkhead_host::clock::Clock;
use bulkhead_host::config;
use bulkhead_host::host::{Ended, Front, Host, Reading, Until, layout, prepare};
use bulkhead_host::ledger::{DeadSummary, Ledger, Settings};
use bulkhead_host::message::Draft;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::secret_store::SecretStore;
use bulkhead_host::telemetry::supervisor::Supervisor;
use tokio::sync::watch;

/// The log breaks at the next line about a dead letter, once.
static IS_ARMED: AtomicBool = AtomicBool::new(false);

struct Breaking;

impl Write for Breaking {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let is_it = String::from_utf8_lossy(bytes).contains("delivery became a dead letter");
        assert!(!is_it || !IS_ARMED.swap(false, SeqCst), "the log is broken");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Delivers these bodies, of which some are not JSON and die, until nothing is left to do.
async fn deliver(bodies: &[&str], folder: &Path) -> (Metrics, Vec<DeadSummary>) {
    let toml = folder.join("bulkhead.toml");
    let text = "[host]\ndata_dir = 'data'\nadmin = '127.0.0.1:0'\n[connectors.x]\nplugin = 'builtin:jq'\nconsume = 'in'\n\
                config = { program = '.', publish = 'out' }\nallow.publish = ['out']\n\
                retry = { first = '10ms', jitter = 'none' }\n";
    std::fs::write(&toml, text).unwrap();
    let loaded = config::load(&[toml], &|_| None).unwrap();
    let metrics = Metrics::default();
    let plugins = prepare(&loaded, &metrics).await.unwrap();
    let (config, reading) = (loaded.config.clone(), Reading::unchanging(&loaded));
    let data_dir = config.host.data_dir.clone();
    let ledger = Ledger::open(Settings::new(data_dir.clone()), Clock::default(), metrics.clone()).unwrap();
    let queue = ledger.configure(&layout(&config)).unwrap().queue("in").unwrap();
    let front = Front::bind(&config).await.unwrap();
    let secrets = SecretStore::empty(&data_dir);
    let host = Host::assemble(loaded, plugins, secrets, reading, ledger.clone(), metrics.clone()).await.unwrap();
    let drafts = bodies.iter().enumerate().map(|(number, body)| {
        (queue, Draft { id: number.to_string(), body: body.as_bytes().to_vec(), ..Draft::default() })
    });
    ledger.append(drafts.collect()).await.unwrap();
    IS_ARMED.store(true, SeqCst);
    let (_signals, signalled) = watch::channel(0);
    let ended = host.run(front, Until::Idle(Duration::from_secs(60)), signalled, Supervisor::default()).await.unwrap();
    assert_eq!(ended, Ended::Settled);
    assert!(!IS_ARMED.load(SeqCst), "the log broke");
    let ledger = Ledger::open(Settings::new(data_dir), Clock::default(), Metrics::default()).unwrap();
    (metrics, ledger.dead_list(None, 0, 9).unwrap())
}

fn counts(metrics: &Metrics, line: &str) {
    assert!(metrics.text().lines().any(|it| it == line), "{line} in\n{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_between_calls_costs_an_attempt_of_the_delivery_that_it_was_about() {
    let log = tracing_subscriber::fmt().with_writer(|| Breaking).finish();
    tracing::subscriber::set_global_default(log).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let (metrics, letters) = deliver(&["no JSON"], folder.path()).await;
    counts(&metrics, "bulkhead_panics_total 1");
    assert_eq!((letters.len(), letters[0].attempts), (1, 2));

    // Which of the two it was is not known: each runs alone, and neither is charged.
    let folder = tempfile::tempdir().unwrap();
    let (metrics, letters) = deliver(&["1", "no JSON", "3"], folder.path()).await;
    counts(&metrics, "bulkhead_panics_total 1");
    counts(&metrics, r#"bulkhead_deliveries_total{connector="x",outcome="done"} 2"#);
    assert_eq!((letters.len(), letters[0].attempts), (1, 1));
}
