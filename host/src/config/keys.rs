//! Every key of the configuration, in one list: what it holds, its default, what it means.
//!
//! A key that the design names and this version does not act on yet is a [`Key::later`] line: a later version
//! only changes that line. `docs/reference-config.md` is written from this list.

mod credential;
mod limits;
mod mask;
mod otlp;
mod route;
mod verify;
mod webhook;

use std::time::Duration;

use super::schema::Default::{Is, Required, Unset, Words};
use super::schema::{Key, Kind, Section};
use crate::delivery::retry::DELAY_MAX;
use credential::{AUTH, HOST_PROXY_AUTH, PLACEHOLDER};
use limits::{HOST_COMPILE, LIMITS};
use mask::HOST_MASK;
use otlp::HOST_OTLP;
use route::ROUTE;
use webhook::WEBHOOK;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// A leap year: nothing recurs more seldom.
const YEAR: Duration = Duration::from_secs(366 * 86_400);
/// Longer than anybody keeps messages, short enough that no sum of times overflows.
const TEN_YEARS: Duration = Duration::from_secs(3_650 * 86_400);

/// The plugins that are embedded in the binary.
pub const BUILTINS: [&str; 4] = ["http-poll", "http-request", "jq", "log"];

pub(super) static ROOT: Section = Section {
    about: "Tables of a configuration file.",
    exactly_one: false,
    keys: &[
        Key::new("host", Kind::Table(&HOST), Unset, "The host itself."),
        Key::new("secrets", Kind::Named(&Kind::SecretName, &SECRET), Unset, "Where secret values come from."),
        Key::new("queues", Kind::Named(&Kind::Queue, &QUEUE), Unset, "Queues that need other than the defaults."),
        Key::new("connectors", Kind::Named(&Kind::Name, &CONNECTOR), Unset, "What runs."),
        Key::new("routes", Kind::Named(&Kind::Name, &ROUTE), Unset, "Copies from one queue into others."),
    ],
};

static HOST: Section = Section {
    about: "The host itself.",
    exactly_one: false,
    keys: &[
        Key::new(
            "data_dir",
            Kind::Path,
            Is("data"),
            "Folder of the ledger, the compile cache and the admin token; locked by one process. The default lies beside the first configuration file.",
        ),
        Key::new(
            "admin",
            Kind::Address,
            Is("127.0.0.1:9100"),
            "Listener for health, metrics and the API: a loopback address.",
        ),
        Key::new(
            "admin_hosts",
            Kind::List(&Kind::Text),
            Words("loopback names"),
            "More names under which the admin listener may be asked (`Host` header).",
        ),
        Key::new("metrics_open", Kind::Boolean, Is("false"), "`/metrics` needs no token."),
        Key::new(
            "grace",
            Kind::Duration(Duration::ZERO, HOUR),
            Is("30s"),
            "How long runs may settle after SIGTERM before they are cut off and delivered again after the next start.",
        ),
        Key::new("runs", Kind::Integer(1, 4_096), Words("4 × cores"), "Sandboxes at once in the host."),
        Key::new(
            "memory",
            Kind::Size(MIB, 16 * TIB),
            Words("three quarters of what the control group or the machine has"),
            "Memory of all sandboxes together: a run starts when its `limits.memory` fits.",
        ),
        Key::new(
            "min_free",
            Kind::Size(0, TIB),
            Words("512MiB or 5 % of the disk, whichever is smaller"),
            "Free disk below which nothing new is accepted.",
        ),
        Key::new(
            "listen",
            Kind::Address,
            Is("127.0.0.1:8080"),
            "Listener for webhooks; opened where a connector has one.",
        ),
        Key::new("compile", Kind::Table(&HOST_COMPILE), Unset, "What compiling a plugin may use."),
        Key::new(
            "history",
            Kind::ShortOrTable(&Kind::Choice(&["failures", "all"]), &HOST_HISTORY),
            Is("failures"),
            "Of which attempts the times and effects are kept: those that failed, or all; the last 100,000, for 7 days.",
        ),
        Key::new(
            "trusted_proxies",
            Kind::List(&Kind::Text),
            Unset,
            "Addresses, or networks such as `10.0.0.0/8`, of proxies before the webhooks whose `X-Forwarded-*` headers are believed.",
        ),
        Key::new("tls", Kind::Table(&HOST_TLS), Unset, "Certificates."),
        Key::new("proxy", Kind::Table(&HOST_PROXY), Unset, "The way out for requests to public places."),
        Key::new("mask", Kind::Table(&HOST_MASK), Unset, "What of messages is never shown."),
        Key::new("otlp", Kind::Table(&HOST_OTLP), Unset, "Where traces go."),
    ],
};

static HOST_HISTORY: Section = Section {
    about: "Of which attempts the times and effects are kept.",
    exactly_one: false,
    keys: &[Key::new(
        "sample",
        Kind::Number(0.0, 1.0),
        Required,
        "Of the attempts that succeeded this part, beside those that failed; of one message all or none.",
    )],
};

static HOST_TLS: Section = Section {
    about: "Certificates.",
    exactly_one: false,
    keys: &[
        Key::new("ca_file", Kind::Path, Unset, "A PEM file of roots that requests trust beside those of the machine."),
        Key::new(
            "cert",
            Kind::Path,
            Unset,
            "A PEM file: the certificate of the listener for webhooks, and those that lead to its root. Read again when it changes.",
        ),
        Key::new("key", Kind::Path, Unset, "A PEM file: its private key. Others must not be able to read it."),
    ],
};

static HOST_PROXY: Section = Section {
    about: "The proxy that requests pass on their way out; `HTTP_PROXY` and its like in the environment do nothing. Grants with `private = true` go directly.",
    exactly_one: false,
    keys: &[
        Key::new("url", Kind::Text, Required, "Scheme, host and port, as in `http://proxy.example:3128`."),
        Key::new(
            "auth",
            Kind::Table(&HOST_PROXY_AUTH),
            Unset,
            "What the proxy is shown, where it wants to know who asks.",
        ),
    ],
};

static SECRET: Section = Section {
    about: "Where the value of one secret comes from. `${VAR}` is not filled in here; an overlay replaces the whole entry.",
    exactly_one: true,
    keys: &[
        Key::new("env", Kind::Variable, Unset, "An environment variable; it is removed from the process at start."),
        Key::new("file", Kind::Path, Unset, "A file; one line break at its end does not count."),
        Key::new(
            "sealed",
            Kind::Boolean,
            Unset,
            "`true`: the value that `bulkhead secrets set NAME` has sealed in the data directory.",
        ),
    ],
};

static QUEUE: Section = Section {
    about: "A queue exists as soon as a connector names it; a table is only needed for other than the defaults.",
    exactly_one: false,
    keys: &[
        Key::new(
            "ordering",
            Kind::Choice(&["none", "key"]),
            Is("none"),
            "`key`: a message waits until the earlier ones of its key are settled.",
        ),
        Key::new(
            "retention",
            Kind::Duration(SECOND, TEN_YEARS),
            Is("7d"),
            "How long messages stay where nobody subscribes, and for a connector that has left the configuration.",
        ),
        Key::new(
            "keep",
            Kind::Duration(SECOND, TEN_YEARS),
            Unset,
            "Messages stay at least this long, also when settled.",
        ),
        Key::new(
            "expires",
            Kind::Duration(SECOND, TEN_YEARS),
            Unset,
            "Messages are dropped at this age although a connector still has to settle them; counted and logged.",
        ),
        Key::new(
            "max_bytes",
            Kind::Size(KIB, 16 * TIB),
            Is("1GiB"),
            "Stored bytes at which the queue is full; no message may be larger.",
        ),
        Key::new(
            "dedup",
            Kind::Duration(SECOND, YEAR),
            Unset,
            "Window in which a second message with the same id is dropped; off where it is not set.",
        ),
        Key::new("dedup_max", Kind::Integer(1, 1_000_000_000), Is("20000000"), "Ids remembered at most."),
        Key::later("broker", "What keeps the queue, where it is not the embedded ledger."),
    ],
};

static CONNECTOR: Section = Section {
    about: "A plugin with its configuration, its triggers, its policies and its grants. It needs `consume`, `schedule` or `webhook`.",
    exactly_one: false,
    keys: &[
        Key::new(
            "plugin",
            Kind::ShortOrTable(&Kind::Plugin, &PLUGIN),
            Words("none, where a webhook only stores"),
            "What runs: the path of a component, or `builtin:` and one of `http-poll`, `http-request`, `jq`, `log`.",
        ),
        Key::new("config", Kind::AnyTable, Unset, "The plugin's own settings."),
        Key::new("enabled", Kind::Boolean, Is("true"), "`false` keeps its messages and starts nothing."),
        Key::new(
            "was",
            Kind::Name,
            Unset,
            "The name that it had before: its subscriptions, state, schedules and dead letters move.",
        ),
        Key::new(
            "brake",
            Kind::Integer(0, 1_000_000),
            Is("20"),
            "Deliveries dying in a row that pause the connector; 0 is never.",
        ),
        Key::new(
            "reuse",
            Kind::Choice(&["never", "always"]),
            Is("never"),
            "`always` keeps a sandbox while it succeeds, instead of a fresh one for every run.",
        ),
        Key::new("dead_retention", Kind::Duration(SECOND, TEN_YEARS), Is("30d"), "How long dead letters are kept."),
        Key::new(
            "dead_max_bytes",
            Kind::Size(KIB, 16 * TIB),
            Is("1GiB"),
            "Bytes of dead letters at which the connector is held.",
        ),
        Key::new("consume", Kind::ShortOrTable(&Kind::Queue, &CONSUME), Unset, "The queue that it reads."),
        Key::new("schedule", Kind::TableOrList(&SCHEDULE), Unset, "When it runs by the clock."),
        Key::new("retry", Kind::Table(&RETRY), Unset, "When a failed delivery is tried again."),
        Key::new("limits", Kind::Table(&LIMITS), Unset, "What a sandbox and a call may use."),
        Key::new("allow", Kind::Table(&ALLOW), Unset, "What it may do; what is not named is refused."),
        Key::new("webhook", Kind::Table(&WEBHOOK), Unset, "Requests from outside that become deliveries."),
        Key::new(
            "rate",
            Kind::Rate,
            Unset,
            "Attempts at deliveries in a time: up to that many at once, then evenly. The rest waits in its queue, at no attempt and without a sandbox; a request that `webhook.respond = \"connector\"` answers does not wait.",
        ),
        Key::new("on_dead", Kind::Table(&ON_DEAD), Unset, "What else happens when a delivery of it dies."),
    ],
};

static ON_DEAD: Section = Section {
    about: "What else happens when a delivery dies.",
    exactly_one: false,
    keys: &[Key::new(
        "publish",
        Kind::Queue,
        Required,
        "A queue that is told, in the transaction that makes the dead letter: JSON with `id` (of the letter), `connector`, `queue`, `message_id`, `attempts`, `reason` and `died_at`. It is told also when it is full. What has died for its hops, 32 of them, makes no notice.",
    )],
};

static PLUGIN: Section = Section {
    about: "A plugin from a file; `plugin = \"PATH\"` is short for `plugin = { path = \"PATH\" }`.",
    exactly_one: false,
    keys: &[
        Key::new("path", Kind::Path, Required, "The path of a component."),
        Key::new(
            "key",
            Kind::Text,
            Unset,
            "Public key of minisign: the plugin runs only with a signature of that key in `PATH.minisig` beside it.",
        ),
    ],
};

static CONSUME: Section = Section {
    about: "The queue that the connector reads; `consume = \"QUEUE\"` is short for `consume = { queue = \"QUEUE\" }`.",
    exactly_one: false,
    keys: &[
        Key::new("queue", Kind::Queue, Required, "The queue."),
        Key::new(
            "from",
            Kind::Choice(&["oldest", "latest"]),
            Is("oldest"),
            "Where a new subscription begins: at the oldest message kept, or after what is there.",
        ),
        Key::new("batch", Kind::Integer(1, 1_024), Is("32"), "Deliveries of a run."),
        Key::new(
            "batch_wait",
            Kind::Duration(Duration::ZERO, HOUR),
            Is("0s"),
            "How long a run waits to fill its batch.",
        ),
        Key::new("concurrency", Kind::Integer(1, 256), Is("1"), "Runs of the connector at once."),
        Key::new(
            "pending_max",
            Kind::Integer(1, 10_000_000),
            Is("100000"),
            "Messages looked at and not settled, past which the subscription reads no further.",
        ),
    ],
};

static SCHEDULE: Section = Section {
    about: "When the connector runs by the clock: one table, or a list of tables with different names.",
    exactly_one: false,
    keys: &[
        Key::new("name", Kind::Name, Is("default"), "Tells several schedules of a connector apart."),
        Key::new(
            "every",
            Kind::Duration(Duration::from_millis(10), YEAR),
            Unset,
            "The period. Ticks count from the Unix epoch plus a fixed phase; the first start fires at once. One of `every` and `cron` is needed.",
        ),
        Key::new(
            "cron",
            Kind::Text,
            Unset,
            "A cron expression of five fields, or of six with seconds in front, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.",
        ),
        Key::new("timezone", Kind::Text, Is("UTC"), "The time zone of `cron`, as the IANA database names it."),
        Key::new(
            "overlap",
            Kind::Choice(&["skip", "queue_one", "queue_all", "cancel"]),
            Is("skip"),
            "What happens to a tick while one before it is not settled: it is left out, it waits if no other does, it waits, or the one before is stopped.",
        ),
        Key::new(
            "catch_up",
            Kind::Choice(&["none", "once", "all"]),
            Is("once"),
            "What happens to ticks that were missed: they are dropped, the latest one stands for all, or each is made.",
        ),
        Key::new(
            "window",
            Kind::Duration(MINUTE, YEAR),
            Is("24h"),
            "How far back missed ticks count; older ones are dropped.",
        ),
        Key::new(
            "jitter",
            Kind::Duration(Duration::ZERO, HOUR),
            Is("0s"),
            "Each tick is put off by up to this, always by the same for the same planned time.",
        ),
        Key::new("start", Kind::Time, Unset, "No tick before."),
        Key::new("end", Kind::Time, Unset, "No tick after."),
        Key::new("input", Kind::Any, Unset, "Handed to the plugin with every tick, as JSON."),
    ],
};

static RETRY: Section = Section {
    about: "When a failed delivery is tried again.",
    exactly_one: false,
    keys: &[
        Key::new("attempts", Kind::Integer(1, 1_000), Is("8"), "Attempts before a dead letter, the first included."),
        Key::new("first", Kind::Duration(Duration::ZERO, DELAY_MAX), Is("1s"), "Delay before the second attempt."),
        Key::new("factor", Kind::Number(1.0, 100.0), Is("2.0"), "Growth from one delay to the next."),
        Key::new("max", Kind::Duration(Duration::ZERO, DELAY_MAX), Is("10m"), "The longest delay."),
        Key::new(
            "jitter",
            Kind::Choice(&["full", "equal", "none"]),
            Is("full"),
            "`full` spreads delays evenly between zero and the whole, so that failures do not come back together; `equal` keeps half of the delay and spreads the rest; `none` spreads nothing.",
        ),
        Key::new(
            "within",
            Kind::Duration(Duration::from_millis(1), TEN_YEARS),
            Unset,
            "Time from the acceptance of a message, its `delay` included, past which no further attempt begins: a failure whose next attempt would come later is a dead letter. One that is redriven by then has one attempt.",
        ),
        Key::new(
            "on",
            Kind::List(&Kind::Choice(&["retry", "trap", "limit", "timeout", "crash"])),
            Words("all of them"),
            "Failures that are tried again; any other is a dead letter at once: the plugin asks for it, it breaks, it runs into a limit, into `limits.wall`, or the process dies while the delivery runs alone.",
        ),
    ],
};

static ALLOW: Section = Section {
    about: "What the connector may do. What is not named is refused; an empty list grants nothing.",
    exactly_one: false,
    keys: &[
        Key::new("publish", Kind::List(&Kind::Queue), Unset, "Queues that it may publish to."),
        Key::new(
            "secrets",
            Kind::List(&Kind::SecretName),
            Unset,
            "Secrets whose values the plugin may see; credentials of requests need none of this.",
        ),
        Key::new("http", Kind::Tables(&HTTP), Unset, "Requests that it may send."),
    ],
};

static HTTP: Section = Section {
    about: "One grant for HTTP requests.",
    exactly_one: false,
    keys: &[
        Key::new(
            "url",
            Kind::Text,
            Required,
            "Scheme, host (exact, or `*.` for one more label), port and path: exact, `*` for any one segment in the middle, `/*` at its end for all below; none is every path.",
        ),
        Key::new("any", Kind::Boolean, Is("false"), "Lets `url` cover every host."),
        Key::new("methods", Kind::List(&Kind::Method), Required, "Methods that it may use."),
        Key::new(
            "private",
            Kind::Boolean,
            Is("false"),
            "Lets the host be a private or loopback address; `url` must name host and port.",
        ),
        Key::new("timeout", Kind::Duration(MS, HOUR), Words("limits.wall"), "Time of a request from start to end."),
        Key::new(
            "first_byte",
            Kind::Duration(MS, HOUR),
            Is("60s"),
            "Time from sending a request, or the end of a body that streams, until its answer begins; `timeout` holds beside it.",
        ),
        Key::new("max_request", Kind::Size(0, GIB), Words("limits.request_bytes"), "Bytes of a request's body."),
        Key::new("max_response", Kind::Size(0, GIB), Words("limits.response_bytes"), "Bytes of a response's body."),
        Key::new(
            "idempotency",
            Kind::Boolean,
            Is("false"),
            "Requests with unsafe methods carry an `Idempotency-Key` that is the same on every attempt.",
        ),
        Key::new("auth", Kind::Table(&AUTH), Unset, "The credential that the host attaches; the plugin never sees it."),
        Key::new(
            "rate",
            Kind::Rate,
            Unset,
            "Requests in a time. More of them wait, each for half of the time that it has left at most; what would take longer is put off at no attempt.",
        ),
        Key::new(
            "breaker",
            Kind::Table(&BREAKER),
            Unset,
            "Failures in a row of one host that hold the connector's deliveries for a while; `{}` takes the defaults.",
        ),
        Key::new(
            "max_signed_body",
            Kind::Size(0, GIB),
            Words("8MiB"),
            "Bytes of a body that the host must know before it sends it: to sign it, to fill a placeholder in it, or to send it again with a fresh token.",
        ),
        Key::new(
            "placeholders",
            Kind::Tables(&PLACEHOLDER),
            Unset,
            "Secrets that the plugin may place in its requests without seeing them.",
        ),
    ],
};

static BREAKER: Section = Section {
    about: "Failures are answers of 5xx, and requests without a whole answer.",
    exactly_one: false,
    keys: &[
        Key::new("failures", Kind::Integer(1, 1_000), Is("5"), "Failures in a row that open it."),
        Key::new(
            "open",
            Kind::Duration(Duration::from_millis(100), HOUR),
            Is("30s"),
            "How long it is open. Then one request probes: its answer closes it, its failure opens it again.",
        ),
    ],
};
