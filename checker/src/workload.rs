//! What the host is configured to do, and what the sink answers: all of it can be computed again from the seed.
//!
//! | queue | then | what it shows |
//! | --- | --- | --- |
//! | `orders` | posted to `deliver` | acceptance, repeats, attempts, dead letters |
//! | `steps` | posted to `step`, in the order of their keys | order under failures |
//! | `parcels` | posted to `parcel` by a plugin that breaks after its request; two receipts each in `later` | effects as a whole, due times |
//! | `later` | posted to `later` | the receipts |
//! | `events` | from a webhook, posted to `event`, kept | dedup across restarts |
//! | `counts` | counted in state and copied to `counted`, kept; without `dedup` | state, sends as a whole |
//! | `ticks` | from a schedule, kept | ticks |

use std::fmt::Write as _;
use std::path::Path;

use crate::chance::number;

/// Queues that the producer sends to.
pub(crate) const ORDERS: &str = "orders";
pub(crate) const STEPS: &str = "steps";
pub(crate) const PARCELS: &str = "parcels";
pub(crate) const EVENTS: &str = "events";
pub(crate) const COUNTS: &str = "counts";
/// The one that only a soak has: large messages.
pub(crate) const BULK: &str = "bulk";
/// Queues that the host fills.
pub(crate) const LATER: &str = "later";
pub(crate) const COUNTED: &str = "counted";
pub(crate) const TICKS: &str = "ticks";
/// Queues that keep what is settled.
pub(crate) const KEPT: [&str; 3] = [EVENTS, COUNTED, TICKS];

/// The webhook's path.
pub(crate) const HOOK: &str = "/in";
/// The header that names an event.
pub(crate) const EVENT_HEADER: &str = "x-event";
/// The connector whose state counts.
pub(crate) const TALLY: &str = "tally";
/// The connector that ticks.
pub(crate) const CLOCK: &str = "clock";
/// The key of the count.
pub(crate) const COUNT: &str = "count";
/// Receipts of a parcel.
pub(crate) const RECEIPTS: u32 = 2;
/// When a receipt is due after its parcel, in milliseconds.
pub(crate) const DELAY_MS: u64 = 250;
/// Between two ticks, in milliseconds.
pub(crate) const PERIOD_MS: u64 = 200;
/// The whole time of a call of the parcel's plugin, in milliseconds.
pub(crate) const PARCEL_WALL_MS: u64 = 3_000;
/// Usual attempts before a dead letter.
const ATTEMPTS: u32 = 5;
/// The delay before the second attempt, in milliseconds; it doubles.
const RETRY_FIRST_MS: u64 = 20;

/// A connector that posts to the sink; its name is the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receiver {
    pub(crate) name: &'static str,
    pub(crate) queue: &'static str,
    /// Workers, each with one request under way at most.
    pub(crate) workers: usize,
    /// Messages of a run, at most.
    batch: usize,
    /// Whether requests come in the order of their keys.
    pub(crate) is_ordered: bool,
    /// After how long the host may give a request up, in milliseconds.
    pub(crate) wall_ms: u64,
    /// Attempts before a dead letter.
    pub(crate) attempts: u32,
}

/// The usual one; the connector that notes parcels has a deadline that a stopped process misses.
const PLAIN: Receiver =
    Receiver { name: "", queue: "", workers: 2, batch: 4, is_ordered: false, wall_ms: 60_000, attempts: ATTEMPTS };

/// All of them.
pub(crate) const RECEIVERS: [Receiver; 6] = [
    Receiver { name: "deliver", queue: ORDERS, ..PLAIN },
    Receiver { name: "step", queue: STEPS, workers: 3, is_ordered: true, ..PLAIN },
    Receiver { name: PARCEL, queue: PARCELS, wall_ms: PARCEL_WALL_MS, ..PLAIN },
    Receiver { name: "later", queue: LATER, ..PLAIN },
    Receiver { name: "event", queue: EVENTS, ..PLAIN },
    Receiver { name: "bulk", queue: BULK, ..PLAIN },
];
/// The receiver behind the plugin that breaks.
pub(crate) const PARCEL: &str = "parcel";

impl Receiver {
    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        RECEIVERS.iter().find(|receiver| receiver.name == name)
    }

    /// Those that every host has.
    pub(crate) fn usual() -> impl Iterator<Item = &'static Self> {
        RECEIVERS.iter().filter(|receiver| receiver.queue != BULK)
    }

    /// The delay after failed attempt number `attempt`, in milliseconds.
    pub(crate) fn delay_ms(attempt: u32) -> u64 {
        RETRY_FIRST_MS << attempt.saturating_sub(1).min(16)
    }
}

/// What the sink does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It takes it.
    Takes,
    /// It is not well for so many attempts.
    Fails(u32),
    /// It is never well.
    Never,
    /// It refuses it.
    Refuses,
    /// It takes it, and lets the plugin break in so many attempts.
    Traps(u32),
}

/// What the sink answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether the plugin breaks when it has read this.
    pub(crate) traps: bool,
}

impl Answer {
    /// Whether the message is delivered with it.
    pub(crate) fn is_success(self) -> bool {
        self.status == 200 && !self.traps
    }
}

impl Rule {
    /// The rule of a message.
    pub(crate) fn of(seed: u64, receiver: &str, name: &str) -> Self {
        let drawn = number(seed, &["rule", receiver, name]);
        match drawn % 20 {
            0 | 1 => Self::Fails(1),
            2 => Self::Fails(2 + (drawn >> 32) as u32 % 2),
            3 => Self::Refuses,
            4 if (drawn >> 32).is_multiple_of(3) => Self::Never,
            5..=7 if receiver == PARCEL => Self::Traps(1 + (drawn >> 32) as u32 % 2),
            _ => Self::Takes,
        }
    }

    /// What it means for an attempt.
    pub(crate) fn answer(self, attempt: u32) -> Answer {
        match self {
            Self::Fails(times) if attempt <= times => Answer { status: 503, traps: false },
            Self::Never => Answer { status: 503, traps: false },
            Self::Refuses => Answer { status: 422, traps: false },
            Self::Traps(times) => Answer { status: 200, traps: attempt <= times },
            Self::Takes | Self::Fails(_) => Answer { status: 200, traps: false },
        }
    }

    /// Whether the message ends as a dead letter, however often it is tried.
    pub(crate) fn is_deadly(self) -> bool {
        matches!(self, Self::Never | Self::Refuses)
    }
}

/// How long the sink thinks before it answers an attempt, in milliseconds; mostly not at all.
pub(crate) fn hold_ms(seed: u64, name: &str, attempt: u32) -> u64 {
    let drawn = number(seed, &["hold", name, &attempt.to_string()]);
    if drawn.is_multiple_of(4) { 1 + (drawn >> 32) % 20 } else { 0 }
}

/// Where everything is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    pub(crate) admin: std::net::SocketAddr,
    pub(crate) hooks: std::net::SocketAddr,
    pub(crate) sink: std::net::SocketAddr,
    /// The plugins.
    pub(crate) tally: &'a Path,
    pub(crate) parcel: &'a Path,
    /// After which there are no more ticks, in seconds since the Unix epoch.
    pub(crate) ticks_end_s: Option<u64>,
}

/// The host's configuration.
pub(crate) fn toml(places: &Places<'_>) -> String {
    let Places { admin, hooks, tally, parcel, ticks_end_s, .. } = places;
    let end = ticks_end_s.map(|seconds| format!(", end = '{}'", timestamp(seconds))).unwrap_or_default();
    let (tally, parcel) = (tally.display(), parcel.display());
    let mut toml = format!(
        "[host]\ndata_dir = 'data'\nadmin = '{admin}'\nlisten = '{hooks}'\n\n\
         [queues.{ORDERS}]\ndedup = '1h'\n[queues.{STEPS}]\ndedup = '1h'\nordering = 'key'\n\
         [queues.{PARCELS}]\ndedup = '1h'\n[queues.{LATER}]\ndedup = '1h'\n"
    );
    for queue in KEPT {
        let _ = writeln!(toml, "[queues.{queue}]\nkeep = '1d'");
    }
    let _ = write!(
        toml,
        "\n[connectors.hook]\nwebhook = {{ path = '{HOOK}', publish = '{EVENTS}', \
         verify = {{ scheme = 'none', id = {{ header = '{EVENT_HEADER}' }} }} }}\n\
         [connectors.{TALLY}]\nplugin = '{tally}'\nconsume = {{ queue = '{COUNTS}', batch = 2, concurrency = 4 }}\n\
         retry = {{ attempts = 30 }}\nconfig = {{ publish = '{COUNTED}' }}\nallow.publish = ['{COUNTED}']\n\
         [connectors.{CLOCK}]\nplugin = '{parcel}'\nconfig = {{ publish = '{TICKS}' }}\nallow.publish = ['{TICKS}']\n\
         retry = {{ attempts = 30 }}\nschedule = {{ every = '{PERIOD_MS}ms', overlap = 'queue_all', catch_up = 'all'{end} }}\n"
    );
    Receiver::usual().for_each(|receiver| toml += &connector(receiver, places));
    toml
}

/// The connector that posts to a receiver.
pub(crate) fn connector(receiver: &Receiver, places: &Places<'_>) -> String {
    let Receiver { name, queue, workers, batch, wall_ms, attempts, .. } = receiver;
    let url = format!("http://{}/{name}", places.sink);
    let does = if *name == PARCEL {
        format!(
            "plugin = '{}'\nallow.publish = ['{LATER}']\n\
             config = {{ url = '{url}', publish = '{LATER}', delay_ms = {DELAY_MS} }}\n",
            places.parcel.display()
        )
    } else {
        let key = if receiver.is_ordered { ", x-key = '{{ key }}'" } else { "" };
        let headers = format!("x-id = '{{{{ id }}}}', x-attempt = '{{{{ attempt }}}}'{key}");
        format!("plugin = 'builtin:http-request'\nconfig = {{ url = '{url}', headers = {{ {headers} }} }}\n")
    };
    format!(
        "[connectors.{name}]\n{does}consume = {{ queue = '{queue}', batch = {batch}, concurrency = {workers} }}\n\
         brake = 0\nlimits = {{ wall = '{wall_ms}ms' }}\n\
         retry = {{ attempts = {attempts}, first = '{RETRY_FIRST_MS}ms', factor = 2.0, jitter = 'none' }}\n\
         allow.http = [{{ url = '{url}', methods = ['POST'], private = true }}]\n"
    )
}

/// A time as RFC 3339 writes it, by the calendar that counts years from March.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_configuration_reads_it() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_798_761_599), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn a_rule_answers_by_the_attempt_alone() {
        let statuses = |rule: Rule| [1, 2, 3].map(|attempt| rule.answer(attempt).status);
        assert_eq!(statuses(Rule::Fails(2)), [503, 503, 200]);
        assert_eq!(statuses(Rule::Never), [503; 3]);
        assert_eq!(statuses(Rule::Refuses), [422; 3]);
        assert_eq!([1, 2].map(|attempt| Rule::Traps(1).answer(attempt).is_success()), [false, true]);
    }

    #[test]
    fn every_rule_is_drawn() {
        let rules: Vec<Rule> = (0..500).map(|nth| Rule::of(1, PARCEL, &format!("p{nth}"))).collect();
        for rule in [Rule::Takes, Rule::Fails(1), Rule::Fails(2), Rule::Fails(3), Rule::Never, Rule::Refuses] {
            assert!(rules.contains(&rule), "{rule:?}");
        }
        assert!(rules.contains(&Rule::Traps(1)) && rules.contains(&Rule::Traps(2)));
        assert!(!(0..500).any(|nth| matches!(Rule::of(1, "deliver", &format!("o{nth}")), Rule::Traps(_))));
    }
}
