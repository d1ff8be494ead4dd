//! Dead letters together by reason: what a queue died of, however many letters say it.
//!
//! A reason is made `common`: its numbers and ids are left out, so that what differs in them alone falls together.
//! Invariant: the memory does not grow with the letters; past `GROUPS_MAX` reasons the rest is one group.

use std::collections::{BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;
use crate::ledger::DeadSummary;

/// Reasons that are told apart.
const GROUPS_MAX: usize = 1_000;
/// Connectors named of one group.
const CONNECTORS_MAX: usize = 20;
/// Characters of a reason; longer ones are cut.
const REASON_CHARACTERS_MAX: usize = 300;
/// A word of letters and digits that is as long as this is an id.
const ID_CHARACTERS_MIN: usize = 8;
/// What stands in the place of a number.
const NUMBER: &str = "N";
/// And of an id.
const ID: &str = "ID";
/// The reason of the last group.
const OTHERS: &str = "(other reasons)";

/// Letters that died of the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeadLetterGroup")]
pub struct Group {
    /// The first line of their reasons, with `N` for numbers and `ID` for ids.
    pub reason: String,
    /// So many.
    pub count: usize,
    /// In which connectors they died, the first twenty by name.
    pub connectors: BTreeSet<String>,
    /// When the first died, as RFC 3339.
    pub first_died_at: String,
    /// When the last died.
    pub last_died_at: String,
    /// The id of the last one, to look at.
    pub last_id: String,
}

/// Groups that letters are added to, oldest first.
#[derive(Debug, Default)]
pub(super) struct Groups(HashMap<String, Group>);

impl Groups {
    pub(super) fn add(&mut self, letter: &DeadSummary) {
        let mut reason = common(&letter.reason);
        if self.0.len() >= GROUPS_MAX && !self.0.contains_key(&reason) {
            reason = OTHERS.to_owned();
        }
        let died_at = rfc3339(letter.died_ms);
        let group = self.0.entry(reason).or_insert_with_key(|reason| Group {
            reason: reason.clone(),
            count: 0,
            connectors: BTreeSet::new(),
            first_died_at: died_at.clone(),
            last_died_at: String::new(),
            last_id: String::new(),
        });
        group.count += 1;
        (group.last_died_at, group.last_id) = (died_at, letter.id.to_string());
        if group.connectors.len() < CONNECTORS_MAX && !group.connectors.contains(&letter.connector) {
            group.connectors.insert(letter.connector.clone());
        }
    }

    /// The largest first.
    pub(super) fn into_list(self) -> Vec<Group> {
        let mut list: Vec<Group> = self.0.into_values().collect();
        list.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        list
    }
}

/// The first line of a reason without its numbers and ids. A status stays: what to do about a 401 is not what to do about
/// a 503.
pub(super) fn common(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let line: String = line.chars().take(REASON_CHARACTERS_MAX).collect();
    let (mut common, mut rest, mut before) = (String::with_capacity(line.len()), line.as_str(), "");
    while !rest.is_empty() {
        let end = rest.find(|it: char| !is_of_word(it)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        common.push_str(&stand_in(word, before));
        before = if word.is_empty() { before } else { word };
        let end = after.find(is_of_word).unwrap_or(after.len());
        common.push_str(&after[..end]);
        rest = &after[end..];
    }
    common
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '-' | '_')
}

/// What stands for a word; `before` is the word before it.
fn stand_in(word: &str, before: &str) -> String {
    if !word.contains(|it: char| it.is_ascii_digit()) {
        return word.to_owned();
    }
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    let follows_status = ["answered", "status", "http"].iter().any(|it| before.eq_ignore_ascii_case(it));
    match (is_number, word.len()) {
        (true, 3) if follows_status => word.to_owned(),
        (true, _) => NUMBER.to_owned(),
        (false, length) if length >= ID_CHARACTERS_MIN => ID.to_owned(),
        (false, _) => numbers_left_out(word),
    }
}

fn numbers_left_out(word: &str) -> String {
    let mut text = String::new();
    for character in word.chars() {
        if !character.is_ascii_digit() {
            text.push(character);
        } else if !text.ends_with(NUMBER) {
            text.push_str(NUMBER);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_in_numbers_and_ids_are_the_same() {
        for (reason, expected) in [
            ("order 17 is unknown", "order N is unknown"),
            ("https://a.example/o/42?x answered 503\nsorry", "https://a.example/o/N?x answered 503"),
            ("status 401 for 401", "status 401 for N"),
            ("id 8f14e45f-ceea-467f-9575-6f6cbb3e0b3c is gone", "id ID is gone"),
            ("took 31ms at line7", "took Nms at lineN"),
            ("no luck", "no luck"),
            ("", ""),
        ] {
            assert_eq!(common(reason), expected, "{reason}");
        }
    }
}
