//! What the host is to do in a soak: what it does under any attack, with bounds that half of the offer runs into, a webhook
//! that a plugin answers, large messages, and plugins that mean harm.

use std::path::Path;

use anyhow::ensure;

use crate::workload::{
    self, BULK, CLOCK, COUNTS, EVENT_HEADER, EVENTS, ORDERS, PARCEL, PARCELS, Places, Receiver, STEPS, TALLY,
};

/// Memory of all sandboxes together.
pub(super) const SANDBOX_BYTES: u64 = 128 << 20;
/// And of each.
const PLUGIN_BYTES: u64 = 16 << 20;
/// The queue of large messages; the others have room for some seconds of work.
pub(super) const BULK_BYTES: u64 = 48 << 20;
const SMALL_BYTES: u64 = 128 << 10;
/// The path of the webhook that a plugin answers, and the queue that this plugin publishes to.
pub(super) const ASK: &str = "/ask";
pub(super) const ANSWERED: &str = "out";
/// The queue whose messages say what harm is to be done, and the one that is flooded.
pub(super) const HOSTILE: &str = "hostile";
pub(super) const FLOODED: &str = "flood";
/// Connectors that mean harm, by the beginning of their names.
pub(super) const HARMFUL: &str = "hostile";
/// Attempts of a message that means harm.
pub(super) const HARM_ATTEMPTS: u32 = 2;

/// What goes through in a second.
pub(super) const ORDERS_RATE: u32 = 30;
pub(super) const STEPS_RATE: u32 = 15;
pub(super) const PARCELS_RATE: u32 = 8;
pub(super) const COUNTS_RATE: u32 = 12;
pub(super) const EVENTS_RATE: u32 = 20;
pub(super) const ASKS_RATE: u32 = 10;
pub(super) const BULK_RATE: u32 = 10;

/// Whether connectors have to keep to their rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Held,
    /// What is left is worked off as fast as it goes.
    Free,
    /// And nothing more comes, not even ticks.
    Rest,
}

/// The configuration.
///
/// # Errors
/// What an attack has is not where it is looked for.
pub(super) fn toml(places: &Places<'_>, pace: Pace) -> anyhow::Result<String> {
    let mut toml = workload::toml(places);
    for receiver in workload::RECEIVERS.iter().filter(|receiver| receiver.queue == BULK) {
        toml += &workload::connector(receiver, places);
    }
    let memory = format!("memory = '{}MiB'\nmetrics_open = true\n", SANDBOX_BYTES >> 20);
    insert(&mut toml, "[host]\n", &memory)?;
    let memory = format!("memory = '{}MiB'", PLUGIN_BYTES >> 20);
    toml = toml.replace("limits = { ", &format!("limits = {{ {memory}, "));
    for connector in [TALLY, CLOCK] {
        insert(&mut toml, &format!("[connectors.{connector}]\n"), &format!("limits = {{ {memory} }}\n"))?;
    }
    let small = format!("max_bytes = '{}KiB'\n", SMALL_BYTES >> 10);
    for queue in [ORDERS, STEPS, PARCELS] {
        insert(&mut toml, &format!("[queues.{queue}]\n"), &small)?;
    }
    if pace == Pace::Held {
        let rates = [(BULK, BULK_RATE), (TALLY, COUNTS_RATE), (PARCEL, PARCELS_RATE)];
        let named = |queue| Receiver::usual().find(|receiver| receiver.queue == queue).map_or("", |found| found.name);
        let rates = rates.into_iter().chain([(named(ORDERS), ORDERS_RATE), (named(STEPS), STEPS_RATE)]);
        for (connector, rate) in rates {
            insert(&mut toml, &format!("[connectors.{connector}]\n"), &format!("rate = '{rate}/s'\n"))?;
        }
        insert(&mut toml, &format!("publish = '{EVENTS}', "), &format!("rate = '{EVENTS_RATE}/s', "))?;
    }
    if pace == Pace::Rest {
        insert(&mut toml, &format!("[connectors.{CLOCK}]\n"), "enabled = false\n")?;
    }
    Ok(toml + &queues(&small) + &harmful(places.tally, &memory, pace) + &asked(places.tally, &memory))
}

fn insert(toml: &mut String, after: &str, text: &str) -> anyhow::Result<()> {
    ensure!(toml.matches(after).count() == 1, "`{after}` is not once in the configuration");
    *toml = toml.replace(after, &format!("{after}{text}"));
    Ok(())
}

fn queues(small: &str) -> String {
    format!(
        "[queues.{COUNTS}]\n{small}[queues.{BULK}]\ndedup = '1h'\nmax_bytes = '{}MiB'\n\
         [queues.{HOSTILE}]\nmax_bytes = '16KiB'\n[queues.{FLOODED}]\nmax_bytes = '4KiB'\n\
         [queues.{ANSWERED}]\nkeep = '1d'\n",
        BULK_BYTES >> 20
    )
}

/// A plugin that lies beside another one.
fn beside(plugin: &Path, name: &str) -> String {
    plugin.with_file_name(format!("guest_{name}.wasm")).display().to_string()
}

/// Two that loop, take memory, break, print and flood, and the one behind the queue that they flood: slow, so that they are
/// held for it.
fn harmful(plugin: &Path, memory: &str, pace: Pace) -> String {
    let (hostile, discard) = (beside(plugin, "hostile"), beside(plugin, "discard"));
    let rate = if pace == Pace::Held { "rate = '1/s'\n" } else { "" };
    let ticks = pace != Pace::Rest;
    format!(
        "[connectors.{HARMFUL}]\nplugin = '{hostile}'\nbrake = 0\nallow.publish = ['{FLOODED}']\n\
         consume = {{ queue = '{HOSTILE}', batch = 4, concurrency = 2 }}\n\
         limits = {{ {memory}, cpu = '100ms', wall = '1s', log = '16KiB', publishes = 2 }}\n\
         retry = {{ attempts = {HARM_ATTEMPTS}, first = '100ms' }}\n\
         [connectors.{HARMFUL}-clock]\nenabled = {ticks}\nplugin = '{hostile}'\nbrake = 0\nlimits = {{ {memory}, cpu = '100ms' }}\n\
         retry = {{ attempts = 1 }}\nschedule = {{ every = '2s', input = 'spin' }}\n\
         [connectors.flooded]\nplugin = '{discard}'\nlimits = {{ {memory} }}\n{rate}consume = {{ queue = '{FLOODED}', batch = 1 }}\n"
    )
}

fn asked(plugin: &Path, memory: &str) -> String {
    format!(
        "[connectors.ask]\nplugin = '{}'\nbrake = 0\nlimits = {{ {memory}, cpu = '500ms' }}\nallow.publish = ['{ANSWERED}']\n\
         webhook = {{ path = '{ASK}', respond = 'connector', rate = '{ASKS_RATE}/s', \
         verify = {{ scheme = 'none', id = {{ header = '{EVENT_HEADER}' }} }} }}\n",
        beside(plugin, "hook")
    )
}
