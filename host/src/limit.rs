//! The limits of a connector: names, defaults, values.
//!
//! Owns no enforcement: each limit bites in the runtime or in a capability, which counts it under [`Limit::label`].

use std::num::NonZeroU32;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// A limit that can bite, named as in TOML and in `bulkhead_limit_hits_total{limit}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// Sum of all linear memories and tables of a sandbox.
    Memory,
    /// Thread CPU time of one call.
    Cpu,
    /// Wall time of one call.
    Wall,
    /// Size of one message.
    Message,
    /// Messages published by one call.
    Publishes,
    /// Bytes published by one call.
    PublishBytes,
    /// Entries of the sandbox's resource table.
    Handles,
    /// Bytes of log of one call.
    Log,
    /// HTTP requests of one call.
    Requests,
    /// HTTP requests under way in the connector.
    RequestsAtOnce,
    /// Bytes of HTTP request bodies of one request.
    RequestBytes,
    /// Time until an HTTP response begins.
    FirstByte,
    /// Bytes of one HTTP response, decompressed.
    ResponseBytes,
    /// Bytes of all keys and values of the state.
    State,
    /// Keys of the state.
    StateKeys,
    /// Bytes copied from the guest by one host call, or kept of the fields of one request.
    Hostcall,
    /// Size of a plugin, time or memory of compiling it.
    Compile,
}

impl Limit {
    /// Every limit, for metrics and the reference.
    pub const ALL: [Self; 17] = [
        Self::Memory,
        Self::Cpu,
        Self::Wall,
        Self::Message,
        Self::Publishes,
        Self::PublishBytes,
        Self::Handles,
        Self::Log,
        Self::Requests,
        Self::RequestsAtOnce,
        Self::RequestBytes,
        Self::FirstByte,
        Self::ResponseBytes,
        Self::State,
        Self::StateKeys,
        Self::Hostcall,
        Self::Compile,
    ];

    /// The metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Wall => "wall",
            Self::Message => "message",
            Self::Publishes => "publishes",
            Self::PublishBytes => "publish_bytes",
            Self::Handles => "handles",
            Self::Log => "log",
            Self::Requests => "requests",
            Self::RequestsAtOnce => "requests_at_once",
            Self::RequestBytes => "request_bytes",
            Self::FirstByte => "first_byte",
            Self::ResponseBytes => "response_bytes",
            Self::State => "state",
            Self::StateKeys => "state_keys",
            Self::Hostcall => "hostcall",
            Self::Compile => "compile",
        }
    }

    /// The key that moves it for a connector, as in `connectors.orders.limits.cpu`; `None` where each grant has its own.
    #[must_use]
    pub fn key(self, connector: &str) -> Option<String> {
        match self {
            Self::FirstByte => None,
            // Of all plugins; which of its keys it is, is known where one is refused.
            Self::Compile => Some("host.compile".to_owned()),
            Self::Memory
            | Self::Cpu
            | Self::Wall
            | Self::Message
            | Self::Publishes
            | Self::PublishBytes
            | Self::Handles
            | Self::Log
            | Self::Requests
            | Self::RequestsAtOnce
            | Self::RequestBytes
            | Self::ResponseBytes
            | Self::State
            | Self::StateKeys
            | Self::Hostcall => Some(format!("connectors.{connector}.limits.{}", self.label())),
        }
    }
}

/// How much in which time, as in `rate = "10/s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    amount: NonZeroU32,
    per: Duration,
}

impl Rate {
    /// `amount` in the time `per`.
    #[must_use]
    pub const fn new(amount: NonZeroU32, per: Duration) -> Self {
        Self { amount, per }
    }

    /// From one to the next.
    #[must_use]
    pub fn step(self) -> Duration {
        self.per / self.amount.get()
    }

    /// In which time.
    #[must_use]
    pub fn per(self) -> Duration {
        self.per
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} in {:?}", self.amount, self.per)
    }
}

/// The default of `limits.log_rate`, `6000/m`: a hundred lines a second for a while that nobody reads any more, and a
/// burst of what a large batch has to say.
const LOG_RATE: Rate = Rate::new(NonZeroU32::new(6_000).expect("it is more than none"), Duration::from_secs(60));

/// `[connectors.X.limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sum of linear memories and tables of a sandbox, in bytes.
    pub memory_bytes: u64,
    /// Thread CPU time of a call.
    pub cpu: Duration,
    /// Wall time of a call, waiting included.
    pub wall: Duration,
    /// Largest message that the connector takes, in bytes.
    pub message_bytes: u64,
    /// Messages published by a call.
    pub publishes: u32,
    /// Bytes published by a call.
    pub publish_bytes: u64,
    /// Resource handles held by a sandbox.
    pub handles: u32,
    /// Bytes logged by a call (log, stdout and stderr together); more is dropped and counted.
    pub log_bytes: u64,
    /// Lines logged by the connector in a time, all of its calls together; more is dropped and counted.
    pub log_rate: Rate,
    /// HTTP requests sent by a call.
    pub requests: u32,
    /// HTTP requests under way at once in the connector.
    pub requests_at_once: u32,
    /// Bytes of a request's body.
    pub request_bytes: u64,
    /// Bytes of a response's body after decompression.
    pub response_bytes: u64,
    /// Bytes of all keys and values of the state.
    pub state_bytes: u64,
    /// Keys of the state.
    pub state_keys: u64,
    /// Bytes that one call of the host copies from the guest.
    pub hostcall_bytes: u64,
}

impl Default for Limits {
    /// Suits an integration on a small machine: a page of a large API fits, a runaway does not last.
    fn default() -> Self {
        Self {
            memory_bytes: 64 * MIB,
            cpu: Duration::from_secs(5),
            wall: Duration::from_secs(30),
            message_bytes: MIB,
            publishes: 10_000,
            publish_bytes: 32 * MIB,
            handles: 1_000,
            log_bytes: 256 * KIB,
            log_rate: LOG_RATE,
            requests: 1_000,
            requests_at_once: 16,
            request_bytes: 8 * MIB,
            response_bytes: 16 * MIB,
            // What a connector remembers, not its data.
            state_bytes: 64 * MIB,
            state_keys: 10_000,
            hostcall_bytes: hostcall_bytes_for(MIB),
        }
    }
}

/// `[host.compile]`: what compiling one plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the process that compiles, in bytes.
    pub memory_bytes: u64,
    /// Its processor time. Not clock time: on a busy machine a good plugin must not become a bad one.
    pub time: Duration,
    /// Bytes of the plugin.
    pub size_bytes: u64,
}

impl Default for CompileLimits {
    /// The largest plugins in use, Python's, have half of the size, take a fifth of the time, and need less than half a
    /// gibibyte of memory; each thread of the compiler reserves some beside it.
    fn default() -> Self {
        Self { memory_bytes: 2048 * MIB, time: Duration::from_secs(60), size_bytes: 32 * MIB }
    }
}

/// The default of `limits.hostcall`: twice the largest message, and headers, names and what a request carries beside its
/// body.
#[must_use]
pub const fn hostcall_bytes_for(message_bytes: u64) -> u64 {
    message_bytes.saturating_mul(2).saturating_add(MIB)
}

/// The largest `host.compile.size` that can be configured.
pub const PLUGIN_BYTES_MAX: u64 = 256 * MIB;
/// The largest `limits.message` that can be configured.
pub const MESSAGE_BYTES_MAX: u64 = 16 * MIB;
/// The largest message of a queue that nobody consumes.
pub const MESSAGE_BYTES_DEFAULT: u64 = MIB;
/// A message past this many hops becomes a dead letter: two connectors that feed each other must end.
pub const HOPS_MAX: u32 = 32;
