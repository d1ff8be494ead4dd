//! What may be done to a ledger. A step names what it works on by its place among what is there when its turn comes, so
//! that work from which steps were taken out still means something.

use proptest::prelude::*;
use proptest::sample::Index;

use super::Rules;
use super::reference::{IN, OUT};

/// A message on its way in. Numbers stand for ids and keys, so that they meet often.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) id: u8,
    pub(super) key: Option<u8>,
    pub(super) delay_s: Option<u64>,
    pub(super) expires_s: Option<u64>,
    pub(super) bytes: usize,
}

/// What becomes of one delivery.
#[derive(Clone, Debug)]
pub(super) enum How {
    Done,
    Retry { after_s: u64, charged: bool },
    Dead,
    Expired,
}

/// What a run does with its connector's state.
#[derive(Clone, Debug)]
pub(super) struct Touch {
    pub(super) key: u8,
    /// `None` deletes.
    pub(super) value: Option<u8>,
    /// It has seen what was there before the last write.
    pub(super) is_stale: bool,
    pub(super) lists: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Settling {
    pub(super) run: Index,
    pub(super) hows: Vec<How>,
    /// Each that is done publishes; the same once more, if `twice`.
    pub(super) publishes: bool,
    pub(super) twice: bool,
    pub(super) touch: Option<Touch>,
    /// What is left of the run goes back; else it stays with it.
    pub(super) releases: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Send { queue: usize, notes: Vec<Note> },
    Receive { id: u8, keys: Vec<u8> },
    Lease { reader: usize, max: usize },
    Settle(Settling),
    Release { run: Index },
    Abandon { run: Index },
    Redrive { letters: Vec<Index>, to: Option<usize>, body: Option<u8> },
    Drop { letters: Vec<Index> },
    Plan { at: u8, by_hand: bool },
    Skip { at: u8 },
    Pass { seconds: u64 },
    Pause { is_on: bool },
    Forget,
    Reopen { with_b: bool },
    Crash,
}

pub(super) fn rules() -> impl Strategy<Value = Rules> {
    let maybe = |seconds: u64| prop::option::of(Just(seconds * 1_000));
    (any::<bool>(), maybe(30), maybe(40), maybe(50)).prop_map(|(is_by_key, dedup, keep, expires)| Rules {
        is_by_key,
        dedup,
        keep,
        expires,
        retention: 100_000,
        dead_retention: 80_000,
        marks: 60_000,
    })
}

fn note() -> impl Strategy<Value = Note> {
    let bytes = prop_oneof![9 => 0..40_usize, 1 => 200..1_500_usize];
    let delay_s = prop_oneof![4 => Just(None), 1 => (0..60_u64).prop_map(Some)];
    let expires_s = prop_oneof![4 => Just(None), 1 => (1..90_u64).prop_map(Some)];
    (0..24_u8, prop::option::of(0..3_u8), delay_s, expires_s, bytes)
        .prop_map(|(id, key, delay_s, expires_s, bytes)| Note { id, key, delay_s, expires_s, bytes })
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        5 => Just(How::Done),
        3 => (0..50_u64, any::<bool>()).prop_map(|(after_s, charged)| How::Retry { after_s, charged }),
        2 => Just(How::Dead),
        1 => Just(How::Expired),
    ]
}

fn settling() -> impl Strategy<Value = Settling> {
    let touch = (0..4_u8, prop::option::of(any::<u8>()), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    let touch = touch.prop_map(|(key, value, is_stale, lists)| Touch { key, value, is_stale, lists });
    let flags = (any::<bool>(), prop::bool::weighted(0.2), any::<bool>());
    (any::<Index>(), prop::collection::vec(how(), 1..6), flags, prop::option::of(touch)).prop_map(
        |(run, hows, (publishes, twice, releases), touch)| Settling { run, hows, publishes, twice, touch, releases },
    )
}

fn letters() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 1..4)
}

fn receive() -> impl Strategy<Value = Step> {
    let keys = prop::collection::btree_set(0..6_u8, 1..3).prop_map(Vec::from_iter).prop_shuffle();
    (any::<u8>(), keys).prop_map(|(id, keys)| Step::Receive { id, keys })
}

/// Every kind of step, and how often it comes.
fn kinds() -> Vec<(u32, BoxedStrategy<Step>)> {
    let queue = prop_oneof![5 => Just(IN), 1 => Just(OUT)];
    let send = (queue, prop::collection::vec(note(), 1..6)).prop_map(|(queue, notes)| Step::Send { queue, notes });
    let lease = (0..3_usize, 1..6_usize).prop_map(|(reader, max)| Step::Lease { reader, max });
    let redrive = (letters(), prop::option::weighted(0.3, 0..3_usize), prop::option::weighted(0.2, any::<u8>()))
        .prop_map(|(letters, to, body)| Step::Redrive { letters, to, body });
    let seconds = prop_oneof![3 => 0..30_u64, 1 => 30..150_u64];
    vec![
        (6, send.boxed()),
        (2, receive().boxed()),
        (8, lease.boxed()),
        (8, settling().prop_map(Step::Settle).boxed()),
        (1, any::<Index>().prop_map(|run| Step::Release { run }).boxed()),
        (1, any::<Index>().prop_map(|run| Step::Abandon { run }).boxed()),
        (2, redrive.boxed()),
        (1, letters().prop_map(|letters| Step::Drop { letters }).boxed()),
        (2, (0..16_u8, any::<bool>()).prop_map(|(at, by_hand)| Step::Plan { at, by_hand }).boxed()),
        (1, (0..16_u8).prop_map(|at| Step::Skip { at }).boxed()),
        (4, seconds.prop_map(|seconds| Step::Pass { seconds }).boxed()),
        (1, any::<bool>().prop_map(|is_on| Step::Pause { is_on }).boxed()),
        (1, Just(Step::Forget).boxed()),
        (1, prop::bool::weighted(0.7).prop_map(|with_b| Step::Reopen { with_b }).boxed()),
        (2, Just(Step::Crash).boxed()),
    ]
}

/// Work in which some kinds of step come often and others not at all: each piece of it goes deep somewhere.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let factors = prop::collection::vec(prop_oneof![1 => Just(0_u32), 2 => Just(1), 1 => Just(6)], kinds().len());
    factors.prop_flat_map(|factors| {
        let drawn = kinds().into_iter().zip(factors).map(|((weight, kind), factor)| (weight * factor, kind));
        let mut kinds: Vec<_> = drawn.filter(|(weight, _)| *weight > 0).collect();
        if kinds.is_empty() {
            kinds = self::kinds();
        }
        prop::collection::vec(prop::strategy::Union::new_weighted(kinds), 1..60)
    })
}
