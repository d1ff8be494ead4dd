//! What can be wrong, each with what one needs to find it in the ledgers.

use std::fmt;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Violation {
    /// It was accepted, and came to nothing.
    Lost {
        /// Where it was sent to.
        queue: String,
        /// What its producer calls it.
        name: String,
    },
    /// Something is there that nobody sent.
    Unknown {
        /// Where it was found.
        place: String,
        /// What it is called there.
        name: String,
    },
    /// A payload is not what was sent.
    Altered {
        /// Where it was found.
        place: String,
        /// What its producer calls it.
        name: String,
    },
    /// Of a send without an answer, a part is there.
    Torn {
        /// The number of the send.
        send: u64,
        /// What is there.
        there: Vec<String>,
    },
    /// It was accepted with nothing synchronised since it was sent.
    Unsynced {
        /// The number of the send.
        send: u64,
    },
    /// A message was delivered again without a reason.
    Repeated {
        /// To whom.
        receiver: String,
        /// What its producer calls it.
        name: String,
        /// The attempt that was made before, and the one that was made then.
        attempts: (u32, u32),
    },
    /// More messages were delivered again after a fault than could be under way.
    RepeatedMany {
        /// To whom.
        receiver: String,
        /// When the fault was, in microseconds since the Unix epoch.
        fault_us: u64,
        /// Which.
        names: Vec<String>,
    },
    /// A message was delivered again although it was settled before a clean stop.
    RepeatedSettled {
        /// To whom.
        receiver: String,
        /// What its producer calls it.
        name: String,
    },
    /// A message overtook an earlier one of its key.
    Reordered {
        /// The key.
        key: String,
        /// What came too late, or not at all.
        before: String,
        /// What came first.
        name: String,
    },
    /// A message came before its time.
    Early {
        /// To whom.
        receiver: String,
        /// What its producer calls it.
        name: String,
        /// By how much, in microseconds.
        by_us: u64,
    },
    /// There were more attempts than the policy allows.
    TooManyAttempts {
        /// For whom.
        receiver: String,
        /// What its producer calls it.
        name: String,
        /// How many.
        attempts: u32,
    },
    /// A dead letter that the policy does not make.
    WronglyDead {
        /// Of whom.
        connector: String,
        /// What its producer calls it.
        name: String,
        /// Why it died.
        reason: String,
    },
    /// What the policy makes a dead letter is none, or was given up too soon.
    NotDead {
        /// For whom.
        receiver: String,
        /// What its producer calls it.
        name: String,
    },
    /// A message is there twice.
    Doubled {
        /// Where.
        place: String,
        /// What its producer calls it.
        name: String,
    },
    /// An effect of a call is there, another one is not, or the call was no success.
    HalfDone {
        /// The message that was handled.
        name: String,
        /// The effect.
        effect: String,
    },
    /// Two messages have one id, or one message has two.
    SharedId {
        /// To whom they went.
        receiver: String,
        /// The id.
        id: String,
        /// What is called so.
        names: Vec<String>,
    },
    /// The state is not the sum of what was settled.
    StateDrift {
        /// Of whom.
        connector: String,
        /// The sum.
        settled: u64,
        /// The state.
        found: u64,
    },
    /// No tick was made for a planned time.
    TickLost {
        /// The planned time before it, in milliseconds since the Unix epoch.
        after_ms: u64,
        /// The next one that was made; `None` where none was.
        next_ms: Option<u64>,
    },
    /// Two ticks were made for a planned time.
    TickDoubled {
        /// The planned time, in milliseconds since the Unix epoch.
        planned_ms: u64,
    },
    /// Something is unsettled when nothing is left to do.
    Unsettled {
        /// Where.
        place: String,
        /// How many.
        messages: usize,
    },
    /// SQLite finds the file damaged.
    Unsound {
        /// What it says.
        text: String,
    },
    /// The host ended by itself, did not end, or took nothing any more.
    Failed {
        /// What happened.
        text: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { queue, name } => write!(to, "lost: `{name}` was accepted into {queue} and came to nothing"),
            Self::Unknown { place, name } => write!(to, "unknown: nobody sent `{name}`, which is in {place}"),
            Self::Altered { place, name } => write!(to, "altered: the payload of `{name}` in {place} is another"),
            Self::Torn { send, there } => write!(to, "torn: of send {send} only {} is there", there.join(", ")),
            Self::Unsynced { send } => write!(to, "unsynced: nothing was synchronised before send {send} was accepted"),
            Self::Repeated { receiver, name, attempts: (before, then) } => {
                write!(to, "repeated: `{name}` came to {receiver} in attempt {before} and, for no reason, in {then}")
            }
            Self::RepeatedMany { receiver, fault_us, names } => {
                write!(to, "repeated: after the fault at {fault_us}, too many to {receiver}: {}", names.join(", "))
            }
            Self::RepeatedSettled { receiver, name } => {
                write!(to, "repeated: `{name}` came to {receiver} again after a clean stop had settled it")
            }
            Self::Reordered { key, before, name } => write!(to, "reordered: `{name}` of {key} came before `{before}`"),
            Self::Early { receiver, name, by_us } => {
                write!(to, "early: `{name}` came to {receiver} {by_us} µs too soon")
            }
            Self::TooManyAttempts { receiver, name, attempts } => {
                write!(to, "attempts: `{name}` had {attempts} for {receiver}")
            }
            Self::WronglyDead { connector, name, reason } => {
                write!(to, "dead: `{name}` died in {connector}, and should not: {reason}")
            }
            Self::NotDead { receiver, name } => {
                write!(to, "dead: `{name}` should have died for {receiver}, and did not")
            }
            Self::Doubled { place, name } => write!(to, "doubled: `{name}` is in {place} twice"),
            Self::HalfDone { name, effect } => write!(to, "half done: `{name}` and its effect `{effect}` do not fit"),
            Self::SharedId { receiver, id, names } => {
                write!(to, "ids: {} came to {receiver} under `{id}`", names.join(" and "))
            }
            Self::StateDrift { connector, settled, found } => {
                write!(to, "state: {connector} counted {found}, and settled {settled}")
            }
            Self::TickLost { after_ms, next_ms: Some(next_ms) } => {
                write!(to, "tick lost: none between {after_ms} and {next_ms}")
            }
            Self::TickLost { after_ms, next_ms: None } => write!(to, "tick lost: none after {after_ms}"),
            Self::TickDoubled { planned_ms } => write!(to, "tick doubled: {planned_ms}"),
            Self::Unsettled { place, messages } => write!(to, "unsettled: {messages} in {place}"),
            Self::Unsound { text } => write!(to, "unsound: {text}"),
            Self::Failed { text } => write!(to, "failed: {text}"),
        }
    }
}
