//! How late ticks are made: 1,000 schedules in as many connectors, from each planned time until its tick is written.
//!
//! Read from the ledger afterwards, tick by tick, because the buckets of the metric are too coarse for a percentile.

use std::time::Duration;

use anyhow::ensure;
use bulkhead_tests::{Bulkhead, guest};

use crate::report::{Figure, percentile};

const SCHEDULES: usize = 1_000;
/// Phases spread the ticks over it.
const PERIOD: Duration = Duration::from_secs(5);
/// Ticks of each schedule, the one of the first start left out.
const TICKS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(300);

/// `schedule_lag_p99_ms`.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let host = Bulkhead::new(&toml());
    let running = host.start();
    // A scrape of a thousand connectors takes a core for some milliseconds: nobody asks while ticks are made.
    #[expect(clippy::disallowed_methods, reason = "there is nothing else to wait for")]
    std::thread::sleep(PERIOD * (u32::try_from(TICKS)? + 1));
    #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
    let wanted = (SCHEDULES * (TICKS + 1)) as f64;
    running.wait_until("ticks", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) >= wanted
    });
    let _ = running.terminate().ok();
    let lags = host.ledger().tick_lags();
    let enough = SCHEDULES * (TICKS - 1);
    ensure!(lags.len() >= enough, "{} ticks, where {enough} were to come", lags.len());
    let (median, most) = (percentile(&lags, 50), percentile(&lags, 100));
    let how = format!(
        "{} ticks of {SCHEDULES} schedules, every {} s each, one connector each; median {median:.0}, most {most:.0}",
        lags.len(),
        PERIOD.as_secs()
    );
    let value = percentile(&lags, 99);
    Ok(vec![Figure { name: "schedule_lag_p99_ms", value, unit: "ms", against: None, ratio: None, note: Some(how) }])
}

fn toml() -> String {
    let plugin = guest("hostile");
    let connector = |number: usize| {
        format!(
            "[connectors.c{number}]\nplugin = '{}'\nschedule = {{ every = '{}s', input = 'ok' }}\n",
            plugin.display(),
            PERIOD.as_secs()
        )
    };
    (0..SCHEDULES).map(connector).collect()
}
