//! Places in JSON bodies, as JSON pointers (RFC 6901) in which `*` stands for every element and every member.
//!
//! A [`Pointer`] is one of them, a [`Tree`] all of them, for walking through a body once. Invariant: what a body holds
//! makes neither deeper nor larger.

use std::collections::BTreeMap;

use super::json::Token;

/// Pointers of a configuration: more than anybody lists by hand, and few enough to be looked up at every member.
pub const POINTERS_MAX: usize = 200;
/// Steps of one pointer, as a bound for what is looked for in one body.
const STEPS_MAX: usize = 32;

/// One place, or many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The member of this name, or the element of this number.
    Name(String),
    /// Every one.
    Any,
}

impl Pointer {
    /// From `/cards/*/number`; the empty one is the whole body.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let Some(steps) = text.strip_prefix('/') else { return Err(begin_with_slash(text)) };
        let steps: Vec<Step> = steps.split('/').map(Step::parse).collect::<Result<_, _>>()?;
        if steps.len() > STEPS_MAX {
            return Err(format!("name {STEPS_MAX} steps at most: mask what is around it"));
        }
        Ok(Self(steps))
    }

    /// Whether all that `other` means lies in what this one means.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let covers = |(own, other): (&Step, &Step)| *own == Step::Any || own == other;
        self.0.len() <= other.0.len() && self.0.iter().zip(&other.0).all(covers)
    }

    /// Whether a step is `-`, which RFC 6901 has for the place after the last element.
    #[must_use]
    pub fn has_dash(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Name(name) if name == "-"))
    }

    /// The last name on the way, which every body has that has the place; none where no step is one.
    pub(super) fn last_name(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            Step::Name(name) if !name.is_empty() && !name.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(name.as_str())
            }
            Step::Name(_) | Step::Any => None,
        })
    }
}

impl Step {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let mut name = String::with_capacity(text.len());
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            name.push(match character {
                '~' => match rest.next() {
                    Some('0') => '~',
                    Some('1') => '/',
                    Some(_) | None => return Err("write `~0` for `~`, and `~1` for `/` in a name".to_owned()),
                },
                other => other,
            });
        }
        Ok(Self::Name(name))
    }
}

/// What somebody meant who wrote another notation.
fn begin_with_slash(text: &str) -> String {
    let bare = text.trim_start_matches(['#', '$']).trim_start_matches(['.', '/']);
    let meant = bare.replace("[*]", "/*").replace('[', "/").replace([']', '\'', '"'], "").replace('.', "/");
    format!("begin with `/`, as in `/{}`", meant.trim_start_matches('/'))
}

/// One step of several pointers, with those that go on from it.
#[derive(Clone, Debug, Default)]
struct Node {
    names: BTreeMap<String, usize>,
    any: Option<usize>,
    is_end: bool,
}

/// Many pointers, for one way through a body.
#[derive(Clone, Debug)]
pub(super) struct Tree(Vec<Node>);

/// How far pointers have come at one place of a body: they are nowhere further on where it is empty.
pub(super) type Reached = Vec<usize>;

impl Tree {
    pub(super) fn new<'p>(pointers: impl IntoIterator<Item = &'p Pointer>) -> Self {
        let mut tree = Self(vec![Node::default()]);
        for pointer in pointers {
            let mut at = 0;
            for step in &pointer.0 {
                at = tree.child(at, step);
            }
            tree.0[at].is_end = true;
        }
        tree
    }

    fn child(&mut self, at: usize, step: &Step) -> usize {
        let next = self.0.len();
        let known = match step {
            Step::Any => *self.0[at].any.get_or_insert(next),
            Step::Name(name) => *self.0[at].names.entry(name.clone()).or_insert(next),
        };
        if known == next {
            self.0.push(Node::default());
        }
        known
    }

    /// Before the first step.
    pub(super) fn start(&self) -> Reached {
        vec![0]
    }

    /// One step further.
    pub(super) fn step(&self, from: &[usize], token: Token<'_>) -> Reached {
        let mut reached = Reached::new();
        for node in from.iter().filter_map(|at| self.0.get(*at)) {
            let named = (!node.names.is_empty()).then(|| node.names.get(&*token.text())).flatten();
            reached.extend(named.into_iter().chain(&node.any));
        }
        reached
    }

    /// Whether a pointer ends here.
    pub(super) fn ends(&self, reached: &[usize]) -> bool {
        reached.iter().any(|at| self.0.get(*at).is_some_and(|node| node.is_end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text).unwrap()
    }

    #[test]
    fn another_notation_is_told_how_it_is_written_here() {
        for (written, meant) in [
            ("customer.email", "`/customer/email`"),
            ("$.cards[*].number", "`/cards/*/number`"),
            ("#/customer", "`/customer`"),
            ("$['a']", "`/a`"),
        ] {
            assert!(Pointer::parse(written).unwrap_err().ends_with(meant), "{written}");
        }
        assert!(Pointer::parse("/a~2").is_err() && Pointer::parse("/a~").is_err());
        assert!(Pointer::parse(&"/a".repeat(33)).is_err());
    }

    #[test]
    fn a_pointer_covers_what_lies_in_its_place() {
        assert!(pointer("/a").covers(&pointer("/a/b")) && pointer("").covers(&pointer("/a")));
        assert!(pointer("/*/b").covers(&pointer("/a/b")));
        assert!(!pointer("/a/b").covers(&pointer("/a")) && !pointer("/a/b").covers(&pointer("/*/b")));
    }
}
