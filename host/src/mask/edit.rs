//! A masked body that comes back with changes is made whole again.
//!
//! A mark names the place whose value it stands for, so elements may be moved, repeated or left out, and another
//! configuration in between does no harm. Invariants: no mark gets into a message, and no value comes from a masked place
//! to one that is shown.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::json::{self, Seen, Unreadable, unescaped};
use super::masks::{MARK, Masks, PATH_BYTES_MAX, SPOTS_MAX, replaced};
use super::pointer::Tree;

/// What every mark holds, as it is; or some character of it is escaped.
const TRACES: [&[u8]; 2] = [b"masked", b"\\u00"];

/// What a stored body has at its masked places.
#[derive(Default)]
struct Stored<'s> {
    /// None where a place is there twice, with different values.
    values: HashMap<String, Option<&'s [u8]>>,
    /// Texts at other places that look like marks: the sender's own.
    look_alikes: HashSet<Cow<'s, str>>,
}

impl Masks {
    /// An edited body with the values of a stored one in the places of their marks.
    ///
    /// # Errors
    /// Why it cannot be made whole, and what to do; it repeats no value.
    pub fn restored(&self, edited: Vec<u8>, stored: &[u8]) -> Result<Vec<u8>, String> {
        if !TRACES.iter().any(|trace| edited.windows(trace.len()).any(|part| part == *trace)) {
            return Ok(edited);
        }
        let nothing = Tree::new([]);
        let tree = self.tree().unwrap_or(&nothing);
        let before = Stored::of(stored, tree);
        let mut refusal = None;
        let mut values = Vec::new();
        let mut hidden = Vec::new();
        let walked = json::walk(&edited, tree, |seen| {
            let found = match seen {
                Seen::Shown(raw) => before.check_shown(raw),
                Seen::HiddenText(raw) | Seen::HiddenName(raw) => {
                    hidden.push(raw);
                    Ok(())
                }
                Seen::HiddenNumber(_) => Ok(()),
                Seen::Masked(spot) => {
                    before.value(&edited, spot.range.clone(), &std::mem::take(&mut hidden)).map(|value| {
                        values.extend(value.map(|value| (spot.range.clone(), value)));
                    })
                }
            };
            found.map_err(|why| {
                refusal = Some(why);
                Unreadable
            })
        });
        match (walked, refusal) {
            (_, Some(why)) => Err(why),
            (Ok(()), None) if values.is_empty() => Ok(edited),
            (Ok(()), None) => Ok(replaced(&edited, &values)),
            (Err(Unreadable), None) if may_have_mark(&String::from_utf8_lossy(&edited)) => Err(format!(
                "the body has `{MARK} …>` in it, and is no JSON: no value can be put back there; send a whole body"
            )),
            (Err(Unreadable), None) => Ok(edited),
        }
    }
}

impl<'s> Stored<'s> {
    fn of(body: &'s [u8], tree: &Tree) -> Self {
        let (mut stored, mut spots) = (Self::default(), 0);
        let walked = json::walk(body, tree, |seen| {
            match seen {
                Seen::Shown(raw) => {
                    let text = unescaped(raw);
                    if has_mark(&text) {
                        stored.look_alikes.insert(text);
                    }
                }
                Seen::Masked(spot) => {
                    spots += 1;
                    if spots > SPOTS_MAX {
                        return Err(Unreadable);
                    }
                    let value = &body[spot.range.clone()];
                    if let Some(path) = spot.path(PATH_BYTES_MAX) {
                        let known = stored.values.entry(path).or_insert(Some(value));
                        *known = known.filter(|known| *known == value);
                    }
                }
                Seen::HiddenText(_) | Seen::HiddenName(_) | Seen::HiddenNumber(_) => {}
            }
            Ok(())
        });
        if walked.is_err() {
            // Nothing of it was shown that could come back.
            stored.values.clear();
        }
        stored
    }

    /// A text at a place that is shown.
    fn check_shown(&self, raw: &str) -> Result<(), String> {
        let text = unescaped(raw);
        if !has_mark(&text) || self.look_alikes.contains(&text) {
            return Ok(());
        }
        Err(format!(
            "`{MARK} …>` stands for a value that is not shown, and cannot stand where values are: leave it in a place that `host.mask` means, or write a value"
        ))
    }

    /// What belongs into a masked place of the edited body, where it is a mark; `texts` are all texts in it.
    fn value(&self, edited: &[u8], place: Range<usize>, texts: &[&str]) -> Result<Option<&'s [u8]>, String> {
        let marked = texts.iter().map(|raw| unescaped(raw)).find(|text| has_mark(text));
        let Some(text) = marked else { return Ok(None) };
        let is_whole = texts.len() == 1 && edited[place.start] == b'"';
        let path = text.strip_prefix(MARK).and_then(|rest| rest.strip_suffix('>')).filter(|_| is_whole);
        let Some(path) = path else {
            return Err(format!(
                "`{MARK} …>` stands for a whole value: leave it as it is, without anything beside it, or write a value in its place"
            ));
        };
        match self.values.get(path.trim_start()) {
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(format!("`{text}` stands for several values with the same name: write one in its place")),
            None if path.is_empty() => Err(format!(
                "`{text}` does not say which value it stands for, since its place has too long a name: write a value in its place"
            )),
            None => Err(format!(
                "`{text}` stands for a value that the stored body does not have there: show it again, or write a value in its place"
            )),
        }
    }
}

fn has_mark(text: &str) -> bool {
    text.contains(MARK)
}

/// Whether a text that is no JSON has one in it, escaped or not.
fn may_have_mark(text: &str) -> bool {
    has_mark(text) || has_mark(&unescaped(text))
}

#[cfg(test)]
mod tests {
    use super::super::masks::tests::masks;
    use super::*;

    const STORED: &str =
        r#"{"cards":[{"number":"1111","x":1},{"number":22}],"email":{"a":[1, 2]},"dup":"a","dup":"b"}"#;
    const POINTERS: [&str; 3] = ["/cards/*/number", "/email", "/dup"];

    fn restored(edited: &str) -> Result<String, String> {
        let whole = masks(&POINTERS).restored(edited.as_bytes().to_vec(), STORED.as_bytes());
        whole.map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn what_was_shown_comes_back_whole() {
        let stored = r#"{"cards":[{"number":"1111"},{"number":22}],"email":{"a":[1, 2]}}"#;
        let shown = masks(&POINTERS).body(stored.as_bytes()).into_owned();
        assert!(!String::from_utf8_lossy(&shown).contains("22"));
        assert_eq!(masks(&POINTERS).restored(shown, stored.as_bytes()).unwrap(), stored.as_bytes());
    }

    #[test]
    fn values_follow_their_marks_wherever_they_are_moved() {
        let edited = r#"{"cards":[{"number":"\u003cmasked /cards/1/number>"},{"number":"4"},{"number":"<masked /cards/0/number>"}],"email":"<masked /email>"}"#;
        let whole = r#"{"cards":[{"number":22},{"number":"4"},{"number":"1111"}],"email":{"a":[1, 2]}}"#;
        assert_eq!(restored(edited).unwrap(), whole);
        assert_eq!(restored(r#"{"new":"masked"}"#).unwrap(), r#"{"new":"masked"}"#);
    }

    #[test]
    fn what_cannot_be_put_back_is_refused() {
        for (edited, why) in [
            (r#"{"cards":[{"number":"<masked /cards/2/number>"}]}"#, "does not have there"),
            (r#"{"note":"<masked /email>"}"#, "cannot stand where values are"),
            (r#"{"<masked /email>":1}"#, "cannot stand where values are"),
            (r#"{"email":"to <masked /email>"}"#, "stands for a whole value"),
            (r#"{"email":["<masked /email>"]}"#, "stands for a whole value"),
            (r#"{"email":{"<masked /email>":1}}"#, "stands for a whole value"),
            (r#"{"dup":"<masked /dup>"}"#, "several values"),
            (r#"{"email":"<masked>"}"#, "does not say which"),
            (r#"{"email":"<masked /email>""#, "is no JSON"),
            (r#"{"email":"\u003cm\u0061sked /email>""#, "is no JSON"),
            (r#"{"note":"\u003cm\u0061sked /email>"}"#, "cannot stand where values are"),
        ] {
            assert!(restored(edited).unwrap_err().contains(why), "{edited}: {:?}", restored(edited));
        }
        let unmasked = Masks::default().restored(br#"{"email":"<masked /email>"}"#.to_vec(), STORED.as_bytes());
        assert!(unmasked.unwrap_err().contains("cannot stand where values are"));
    }

    #[test]
    fn a_text_that_was_there_before_is_the_senders() {
        let body = br#"{"a":"<masked /email>"}"#;
        assert_eq!(masks(&POINTERS).restored(body.to_vec(), body).unwrap(), body);
        let escaped = br#"{"a":"\u003cm\u0061sked /email>"}"#;
        assert_eq!(masks(&POINTERS).restored(body.to_vec(), escaped).unwrap(), body);
    }
}
