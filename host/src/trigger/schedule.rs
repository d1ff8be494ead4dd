//! Ticks by the clock: when a schedule fires next.
//!
//! Pure: last planned time and now in, what is to be done out. Planned times are those of the period or of the cron
//! expression, never moved by a restart, a late start or `jitter`, which only puts off when a tick is made. The loop that
//! enqueues ticks is in [`super::clockwork`]. Invariant: planned times strictly increase, and lie within `start` and `end`.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::cron::Cron;
use super::overlap::Overlap;
use crate::id::{self, Kind};
use crate::message::{Draft, Tick};

/// A tick that is made no later than this after it was due is on time: a wall clock that was set is noticed by then.
const ON_TIME_MS: u64 = 60_000;
/// Nor is one missed that is less late than this, however close the next one is.
const LATE_MS_MIN: u64 = 1_000;
/// More missed ticks than this are not counted for the log.
pub const MISSED_MAX: u64 = 10_000;
/// For so long a planned time is not enqueued again: a day,
const REMEMBERED_MS: u64 = 86_400_000;
/// or as long as so many periods take, where that is shorter.
const REMEMBERED_PERIODS: u64 = 10_000;

/// One entry of a connector's `schedule`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// "default" where it has no name of its own.
    pub name: String,
    /// What its planned times are.
    pub when: When,
    /// No tick before; in milliseconds since the Unix epoch.
    pub start_ms: Option<u64>,
    /// No tick after; in milliseconds since the Unix epoch.
    pub end_ms: Option<u64>,
    /// The most that a tick is put off.
    pub jitter: Duration,
    /// What happens while the tick before is still running.
    pub overlap: Overlap,
    /// What happens to ticks that were missed.
    pub catch_up: CatchUp,
    /// How far back missed ticks count.
    pub window: Duration,
    /// What the tick hands to the plugin, as JSON.
    pub input: Option<String>,
}

/// Who makes a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// The schedule itself.
    Clock,
    /// Somebody who fires it.
    Hand,
}

impl Settings {
    /// The tick of a planned time; its id is the same whoever makes it.
    #[must_use]
    pub fn tick(&self, lineage: &str, planned_ms: u64, by: MadeBy) -> Draft {
        let (schedule, input, by_hand) = (self.name.clone(), self.input.clone(), by == MadeBy::Hand);
        Draft {
            id: id::derive(Kind::Tick, &[lineage, &schedule], planned_ms),
            body: Tick { schedule, planned_at_ms: planned_ms, input, by_hand }.to_json(),
            ..Draft::default()
        }
    }
}

/// What planned times come from.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// A period.
    Every(Duration),
    /// A cron expression in a time zone.
    Cron(Arc<Cron>),
}

/// What happens to ticks that were missed, because the host was down or the clock has jumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// They are dropped.
    None,
    /// The latest one stands for all of them.
    Once,
    /// Each of them is made.
    All,
}

/// The planned times of one schedule, in milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct Plan {
    times: Times,
    start_ms: u64,
    end_ms: u64,
    jitter_ms: u64,
    /// From which the delay of each tick is derived.
    seed: [u8; 32],
    catch_up: CatchUp,
    window_ms: u64,
}

#[derive(Clone, Debug)]
enum Times {
    Every { period_ms: u64, phase_ms: u64 },
    Cron(Arc<Cron>),
}

/// What a schedule does at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A tick is due.
    Due(Due),
    /// Nothing until this time.
    At(u64),
    /// Nothing is due, and everything planned up to here is over.
    Passed {
        /// Up to which planned time.
        until_ms: u64,
        /// Ticks among them that are dropped, [`MISSED_MAX`] at most.
        missed: u64,
    },
    /// Nothing any more.
    Never,
}

/// A tick that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its planned time.
    pub planned_ms: u64,
    /// Ticks before it that were missed and are dropped, [`MISSED_MAX`] at most.
    pub missed: u64,
    /// Whether it was missed itself, and is one of several that are made up for.
    pub is_made_up: bool,
}

impl Plan {
    /// The plan of a connector's schedule; its phase stays through every rename, as `lineage` does.
    #[must_use]
    pub fn new(lineage: &str, settings: &Settings) -> Self {
        let mut hash = Sha256::new();
        hash.update(lineage);
        hash.update([0]);
        hash.update(&settings.name);
        let seed: [u8; 32] = hash.finalize().into();
        let times = match &settings.when {
            When::Every(period) => {
                let period_ms = millis(*period).max(1);
                Times::Every { period_ms, phase_ms: first_number(&seed) % period_ms }
            }
            When::Cron(cron) => Times::Cron(cron.clone()),
        };
        Self {
            times,
            start_ms: settings.start_ms.unwrap_or(0),
            end_ms: settings.end_ms.unwrap_or(u64::MAX),
            jitter_ms: millis(settings.jitter),
            seed,
            catch_up: settings.catch_up,
            window_ms: millis(settings.window),
        }
    }

    /// What is to be done at `now_ms`, given the last planned time that was dealt with.
    #[must_use]
    pub fn next(&self, last_ms: Option<u64>, now_ms: u64) -> Next {
        let Some(last_ms) = last_ms else { return self.first(now_ms) };
        let Some(first_ms) = self.after(last_ms) else { return Next::Never };
        let due_ms = self.due_ms(first_ms);
        if due_ms > now_ms {
            return Next::At(due_ms);
        }
        match self.catch_up {
            CatchUp::All => self.next_of_all(last_ms, first_ms, now_ms),
            CatchUp::None | CatchUp::Once => self.latest_of_all(last_ms, first_ms, now_ms),
        }
    }

    /// The first planned time after a moment.
    #[must_use]
    pub fn after(&self, ms: u64) -> Option<u64> {
        let ms = ms.max(self.start_ms.saturating_sub(1));
        let planned_ms = match &self.times {
            Times::Every { period_ms, phase_ms } => next_of_period(*period_ms, *phase_ms, ms),
            Times::Cron(cron) => {
                u64::try_from(cron.after(i64::try_from(ms / 1_000).ok()?)?).ok()?.checked_mul(1_000)?
            }
        };
        (planned_ms <= self.end_ms).then_some(planned_ms)
    }

    /// When a tick is made: at its planned time, and up to `jitter` later. The same after every restart.
    #[must_use]
    pub fn due_ms(&self, planned_ms: u64) -> u64 {
        if self.jitter_ms == 0 {
            return planned_ms;
        }
        let digest: [u8; 32] =
            Sha256::new().chain_update(self.seed).chain_update(planned_ms.to_le_bytes()).finalize().into();
        planned_ms.saturating_add(first_number(&digest) % (self.jitter_ms + 1))
    }

    /// For how long a planned time that was enqueued is remembered, in milliseconds.
    #[must_use]
    pub fn remember_ms(&self) -> u64 {
        match self.times {
            Times::Every { period_ms, .. } => REMEMBERED_MS.min(period_ms.saturating_mul(REMEMBERED_PERIODS)),
            Times::Cron(_) => REMEMBERED_MS,
        }
    }

    /// Whether a stored time cannot be believed: it lies more than one period ahead of the clock.
    #[must_use]
    pub fn is_ahead(&self, last_ms: u64, now_ms: u64) -> bool {
        match &self.times {
            Times::Every { period_ms, .. } => last_ms > now_ms.saturating_add(*period_ms),
            Times::Cron(_) => self.after(now_ms).is_some_and(|next_ms| last_ms > next_ms),
        }
    }

    /// Without history a period fires at once; a cron expression waits for its time.
    fn first(&self, now_ms: u64) -> Next {
        match self.times {
            Times::Every { .. } if (self.start_ms..=self.end_ms).contains(&now_ms) => {
                Next::Due(Due { planned_ms: now_ms, missed: 0, is_made_up: false })
            }
            _ if self.after(now_ms).is_some() => Next::Passed { until_ms: now_ms, missed: 0 },
            _ => Next::Never,
        }
    }

    /// The oldest tick that the window still holds; what is older is dropped first.
    fn next_of_all(&self, last_ms: u64, first_ms: u64, now_ms: u64) -> Next {
        let oldest_ms = now_ms.saturating_sub(self.window_ms);
        if first_ms < oldest_ms {
            let until_ms = oldest_ms - 1;
            return Next::Passed { until_ms, missed: self.count(last_ms, until_ms) };
        }
        let gap_ms = self.after(first_ms).map_or(u64::MAX, |next_ms| next_ms - first_ms);
        let late_ms = now_ms - self.due_ms(first_ms);
        let is_made_up = late_ms > gap_ms.clamp(LATE_MS_MIN, ON_TIME_MS);
        Next::Due(Due { planned_ms: first_ms, missed: 0, is_made_up })
    }

    /// The latest of the ticks that are due; what lies before it is dropped, and so is the whole where it is too late.
    fn latest_of_all(&self, last_ms: u64, first_ms: u64, now_ms: u64) -> Next {
        let mut planned_ms = self.latest(last_ms, now_ms);
        while self.due_ms(planned_ms) > now_ms {
            planned_ms = self.latest(last_ms, planned_ms - 1);
        }
        let is_late = |planned_ms| now_ms - self.due_ms(planned_ms) > ON_TIME_MS;
        // A busy host that lets one of many ticks pass has not missed it.
        let missed = if is_late(first_ms) { self.count(last_ms, planned_ms - 1) } else { 0 };
        let is_over = self.catch_up == CatchUp::None || planned_ms < now_ms.saturating_sub(self.window_ms);
        if is_late(planned_ms) && is_over {
            return Next::Passed { until_ms: planned_ms, missed: missed + 1 };
        }
        Next::Due(Due { planned_ms, missed, is_made_up: false })
    }

    /// The last planned time up to `until_ms`, given one moment before it.
    fn latest(&self, since_ms: u64, until_ms: u64) -> u64 {
        if let Times::Every { period_ms, phase_ms } = self.times {
            return last_of_period(period_ms, phase_ms, until_ms.min(self.end_ms));
        }
        let (mut before, mut beyond) = (since_ms, until_ms);
        while beyond - before > 1 {
            let middle = before + (beyond - before) / 2;
            let is_before = self.after(middle).is_some_and(|planned_ms| planned_ms <= until_ms);
            *if is_before { &mut before } else { &mut beyond } = middle;
        }
        self.after(before).unwrap_or(until_ms)
    }

    /// Planned times after the first moment and up to the second, [`MISSED_MAX`] at most.
    fn count(&self, after_ms: u64, until_ms: u64) -> u64 {
        let times = std::iter::successors(self.after(after_ms), |planned_ms| self.after(*planned_ms));
        let bound = usize::try_from(MISSED_MAX).unwrap_or(usize::MAX);
        times.take_while(|planned_ms| *planned_ms <= until_ms).take(bound).count() as u64
    }
}

fn next_of_period(period_ms: u64, phase_ms: u64, ms: u64) -> u64 {
    if ms < phase_ms {
        return phase_ms;
    }
    last_of_period(period_ms, phase_ms, ms).saturating_add(period_ms)
}

fn last_of_period(period_ms: u64, phase_ms: u64, ms: u64) -> u64 {
    (ms.saturating_sub(phase_ms) / period_ms) * period_ms + phase_ms
}

fn first_number(digest: &[u8; 32]) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(number)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;
    /// A Monday.
    const MONDAY: u64 = 20_003 * DAY;

    fn settings(when: When) -> Settings {
        Settings {
            name: "default".to_owned(),
            when,
            start_ms: None,
            end_ms: None,
            jitter: Duration::ZERO,
            overlap: Overlap::Skip,
            catch_up: CatchUp::Once,
            window: Duration::from_secs(86_400),
            input: None,
        }
    }

    fn every(period: Duration) -> Settings {
        settings(When::Every(period))
    }

    fn cron(text: &str) -> Settings {
        settings(When::Cron(Arc::new(Cron::parse(text, TimeZone::UTC).expect("it is one"))))
    }

    fn plan(settings: &Settings) -> Plan {
        Plan::new("it", settings)
    }

    fn due(planned_ms: u64, missed: u64) -> Next {
        Next::Due(Due { planned_ms, missed, is_made_up: false })
    }

    #[test]
    fn a_period_fires_once_at_start_without_history_and_counts_from_the_epoch_and_its_phase() {
        let plan = plan(&every(Duration::from_secs(1)));
        assert_eq!(plan.next(None, 5_000), due(5_000, 0));
        let first = plan.after(5_000).expect("a period has no end");
        assert!((5_001..=6_000).contains(&first));
        assert_eq!(plan.next(Some(5_000), first - 1), Next::At(first));
        assert_eq!(plan.next(Some(5_000), first), due(first, 0));
        assert_eq!(plan.after(first), Some(first + 1_000));
    }

    #[test]
    fn a_cron_expression_waits_for_its_time_at_the_first_start() {
        let plan = plan(&cron("0 9 * * *"));
        assert_eq!(plan.next(None, MONDAY), Next::Passed { until_ms: MONDAY, missed: 0 });
        assert_eq!(plan.next(Some(MONDAY), MONDAY), Next::At(MONDAY + 9 * HOUR));
        assert_eq!(plan.next(Some(MONDAY), MONDAY + 9 * HOUR), due(MONDAY + 9 * HOUR, 0));
    }

    #[test]
    fn of_many_that_come_together_on_a_busy_host_only_the_latest_is_due() {
        let plan = plan(&every(Duration::from_millis(10)));
        let first = plan.after(5_000).expect("a period has no end");
        assert_eq!(plan.next(Some(first), first + 57), due(first + 50, 0));
    }

    /// After three days without a host; ticks are planned at 9:00.
    fn after_three_days(catch_up: CatchUp, hour: u64) -> Next {
        let plan = plan(&Settings { catch_up, ..cron("0 9 * * *") });
        plan.next(Some(MONDAY + 9 * HOUR), MONDAY + 3 * DAY + hour * HOUR)
    }

    #[test]
    fn missed_ticks_are_dropped_stand_for_each_other_or_are_all_made_within_the_window() {
        let thursday = MONDAY + 3 * DAY + 9 * HOUR;
        assert_eq!(after_three_days(CatchUp::None, 10), Next::Passed { until_ms: thursday, missed: 3 });
        assert_eq!(after_three_days(CatchUp::None, 9), due(thursday, 2));
        assert_eq!(after_three_days(CatchUp::Once, 10), due(thursday, 2));
        let until_ms = MONDAY + 2 * DAY + 10 * HOUR - 1;
        assert_eq!(after_three_days(CatchUp::All, 10), Next::Passed { until_ms, missed: 2 });
        let plan = plan(&Settings { catch_up: CatchUp::All, ..cron("0 9 * * *") });
        let made_up = Due { planned_ms: thursday, missed: 0, is_made_up: true };
        assert_eq!(plan.next(Some(until_ms), thursday + HOUR), Next::Due(made_up));
    }

    #[test]
    fn a_missed_tick_that_is_older_than_the_window_is_dropped_alone_too() {
        let plan = plan(&Settings { window: Duration::from_secs(1_800), ..cron("0 9 * * *") });
        let planned_ms = MONDAY + 9 * HOUR;
        assert_eq!(plan.next(Some(MONDAY), planned_ms + HOUR / 2), due(planned_ms, 0));
        assert_eq!(plan.next(Some(MONDAY), planned_ms + HOUR), Next::Passed { until_ms: planned_ms, missed: 1 });
    }

    #[test]
    fn nothing_is_planned_before_the_start_or_after_the_end() {
        let (start_ms, end_ms) = (Some(MONDAY + DAY), Some(MONDAY + 2 * DAY));
        for settings in [cron("0 9 * * *"), every(Duration::from_millis(DAY))] {
            let plan = plan(&Settings { start_ms, end_ms, ..settings });
            let planned = plan.after(0).expect("one lies between");
            assert!((MONDAY + DAY..=MONDAY + 2 * DAY).contains(&planned));
            assert_eq!(plan.next(None, MONDAY), Next::Passed { until_ms: MONDAY, missed: 0 });
            assert_eq!(plan.next(Some(planned), planned), Next::Never);
            assert_eq!(plan.next(None, MONDAY + 3 * DAY), Next::Never);
        }
    }

    #[test]
    fn jitter_puts_a_tick_off_by_the_same_after_every_restart_and_not_its_planned_time() {
        let jittered = Settings { jitter: Duration::from_secs(600), ..cron("0 * * * *") };
        let (one, other) = (plan(&jittered), Plan::new("other", &jittered));
        let hours: Vec<u64> = (1..200).map(|hour| MONDAY + hour * HOUR).collect();
        let delays = |plan: &Plan| hours.iter().map(|hour| plan.due_ms(*hour) - hour).collect::<Vec<_>>();
        assert_eq!(delays(&one), delays(&plan(&jittered)));
        assert_ne!(delays(&one), delays(&other));
        // Over the whole of it, tick by tick.
        let (least, most) = (delays(&one).into_iter().min(), delays(&one).into_iter().max());
        assert!(least < Some(100_000) && (Some(500_000)..=Some(600_000)).contains(&most), "{least:?} to {most:?}");
        let due_ms = one.due_ms(MONDAY + HOUR);
        assert_eq!(one.next(Some(MONDAY), due_ms - 1), Next::At(due_ms));
        assert_eq!(one.next(Some(MONDAY), due_ms), due(MONDAY + HOUR, 0));
    }

    #[test]
    fn a_stored_time_far_ahead_is_not_believed() {
        let period = plan(&every(Duration::from_secs(1)));
        assert!(period.is_ahead(10_000, 8_999) && !period.is_ahead(10_000, 9_000));
        let daily = plan(&cron("0 9 * * *"));
        let nine = MONDAY + 9 * HOUR;
        assert!(!daily.is_ahead(nine, nine - HOUR) && daily.is_ahead(nine + DAY, nine - HOUR));
    }

    /// Lets a schedule run as the clockwork does, woken at these times of a simulated clock; what it makes.
    fn run(plan: &Plan, clock: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let (mut last, mut made) = (None, Vec::new());
        for now_ms in clock {
            last = last.filter(|last_ms| !plan.is_ahead(*last_ms, now_ms));
            loop {
                match plan.next(last, now_ms) {
                    Next::Due(due) => {
                        made.push(due.planned_ms);
                        last = Some(due.planned_ms);
                    }
                    Next::Passed { until_ms, .. } => last = Some(until_ms),
                    Next::At(_) | Next::Never => break,
                }
            }
        }
        made
    }

    fn seconds(from_ms: u64, to_ms: u64) -> impl Iterator<Item = u64> {
        (from_ms..to_ms).step_by(1_000)
    }

    #[test]
    fn a_clock_that_jumps_loses_and_doubles_no_tick_beyond_the_policy() {
        let ten = |hour: u64| (0..6).map(|tenth| MONDAY + hour * HOUR + tenth * 600_000).collect::<Vec<_>>();
        let straight = [&ten(0)[1..], &ten(1), &ten(2)].concat();
        for catch_up in [CatchUp::None, CatchUp::Once, CatchUp::All] {
            let plan = plan(&Settings { catch_up, ..cron("*/10 * * * *") });
            assert_eq!(run(&plan, seconds(MONDAY, MONDAY + 3 * HOUR)), straight, "{catch_up:?}");
            // Suspended, or set forward, from 0:30:01 to 1:35: what is missed is up to the policy, and what follows is not.
            let jump =
                seconds(MONDAY, MONDAY + HOUR / 2 + 1_000).chain(seconds(MONDAY + 95 * 60_000, MONDAY + 3 * HOUR));
            let made_up: &[u64] = match catch_up {
                CatchUp::None => &[],
                CatchUp::Once => &ten(1)[3..4],
                CatchUp::All => &[&ten(0)[4..], &ten(1)[..4]].concat(),
            };
            assert_eq!(run(&plan, jump), [&ten(0)[1..4], made_up, &ten(1)[4..], &ten(2)].concat(), "{catch_up:?}");
            // Set back by five minutes at 0:32: a period has not passed, and nothing is made twice.
            let back = seconds(MONDAY, MONDAY + 32 * 60_000).chain(seconds(MONDAY + 27 * 60_000, MONDAY + 3 * HOUR));
            assert_eq!(run(&plan, back), straight, "{catch_up:?}");
        }
    }
}
