//! `[host.mask]`: which headers and which places of bodies are never shown, and what is shown in their stead.
//!
//! What is stored stays whole; whoever shows a message asks here first. Texts that repeat a message are matter of
//! [`super::repeats`], a masked body that comes back is matter of [`super::edit`]. Invariant: a body is shown with nothing
//! in a masked place, or not at all.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use percent_encoding::percent_decode_str;

use super::json::{self, Seen, Unreadable};
use super::pointer::{Pointer, Tree};
use crate::message::Header;

/// Headers of a configuration: more than a message may have.
pub const HEADERS_MAX: usize = 200;
/// Stands for what is not shown; in a body its place follows, by which an edited body is made whole again.
pub(super) const MARK: &str = "<masked";
/// Masked places of one body, which bounds what is shown in their stead: a body with more is not shown.
pub(super) const SPOTS_MAX: usize = 10_000;
/// Bytes of the place that stands in a mark: names are the sender's, and may be as long as a body.
pub(super) const PATH_BYTES_MAX: usize = 256;
/// Forms within each other in which names are looked for.
const FORMS_MAX: usize = 4;
/// In the stead of a body in which nothing can be found.
const UNREADABLE: &str =
    "<masked: the body is not shown, for `host.mask.pointers` cannot be looked for in it: it is no JSON>";
/// In the stead of a body in which too much is found.
const TOO_MUCH: &str = "<masked: the body is not shown, for it has too many places that `host.mask.pointers` means>";

/// What of messages is never shown. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Masks(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// As [`canonical`] writes them.
    headers: BTreeSet<String>,
    pointers: BTreeSet<Pointer>,
    tree: Tree,
    /// In texts that are no JSON; none where a pointer has no name that could be looked for.
    names: Option<AhoCorasick>,
}

impl PartialEq for Masks {
    fn eq(&self, other: &Self) -> bool {
        let settings = |masks: &Self| masks.0.as_ref().map(|inner| (inner.headers.clone(), inner.pointers.clone()));
        settings(self) == settings(other)
    }
}

impl Eq for Masks {}

impl Masks {
    /// These headers, in whatever way a sender writes their names, and these places of bodies.
    #[must_use]
    pub fn new<'h>(headers: impl IntoIterator<Item = &'h str>, pointers: impl IntoIterator<Item = Pointer>) -> Self {
        let headers: BTreeSet<String> = headers.into_iter().map(canonical).collect();
        let pointers: BTreeSet<Pointer> = pointers.into_iter().collect();
        if headers.is_empty() && pointers.is_empty() {
            return Self(None);
        }
        let names: Option<Vec<&str>> = pointers.iter().map(Pointer::last_name).collect();
        let names = names.and_then(|names| AhoCorasick::builder().ascii_case_insensitive(true).build(names).ok());
        Self(Some(Arc::new(Inner { tree: Tree::new(&pointers), headers, names, pointers })))
    }

    /// Whether everything is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the value of a header of this name is not shown.
    #[must_use]
    pub fn hides(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|inner| !inner.headers.is_empty() && inner.headers.contains(&canonical(name)))
    }

    /// Headers as they are shown.
    #[must_use]
    pub fn headers(&self, headers: Vec<Header>) -> Vec<Header> {
        let shown = |(name, value): Header| if self.hides(&name) { (name, mark("")) } else { (name, value) };
        if self.is_empty() { headers } else { headers.into_iter().map(shown).collect() }
    }

    /// A whole body as it is shown. One that is shown in part is cut afterwards.
    #[must_use]
    pub fn body<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        let Some(tree) = self.tree() else { return body.into() };
        let mut spots: Vec<(Range<usize>, String)> = Vec::new();
        let walked = json::walk(body, tree, |seen| {
            let Seen::Masked(spot) = seen else { return Ok(()) };
            spots.push((spot.range.clone(), quoted(&mark(&spot.path(PATH_BYTES_MAX).unwrap_or_default()))));
            if spots.len() > SPOTS_MAX { Err(Unreadable) } else { Ok(()) }
        });
        match walked {
            Ok(()) if spots.is_empty() => body.into(),
            Ok(()) => replaced(body, &spots).into(),
            Err(Unreadable) if spots.len() > SPOTS_MAX => TOO_MUCH.as_bytes().into(),
            Err(Unreadable) if self.is_plain(body) => body.into(),
            Err(Unreadable) => UNREADABLE.as_bytes().into(),
        }
    }

    /// What is looked for in bodies, if anything.
    pub(super) fn tree(&self) -> Option<&Tree> {
        let inner = self.0.as_ref()?;
        (!inner.pointers.is_empty()).then_some(&inner.tree)
    }

    /// Whether a body that is no JSON is a text in which no pointer could mean anything, however it is read.
    pub(super) fn is_plain(&self, body: &[u8]) -> bool {
        let Some(names) = self.0.as_ref().and_then(|inner| inner.names.as_ref()) else { return false };
        let Ok(text) = std::str::from_utf8(body) else { return false };
        if text.trim_start().starts_with(['{', '[', '"']) {
            return false;
        }
        // What was meant as JSON may spell the names in another way.
        let is_plain = |text: &str| !text.contains("\\u") && !names.is_match(text);
        // So may a form, as often as it was put into another.
        let (mut form, mut address) = (Cow::from(text), Cow::from(text));
        for _ in 0..FORMS_MAX {
            if !is_plain(&form) || !is_plain(&address) {
                return false;
            }
            let (Some(next_form), Some(next_address)) = (decoded(&form.replace('+', " ")), decoded(&address)) else {
                return false;
            };
            if next_form == form && next_address == address {
                return true;
            }
            (form, address) = (next_form.into(), next_address.into());
        }
        false
    }
}

/// Without what is percent-encoded; none where it was in an encoding in which nothing can be looked for.
fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

/// One name for all ways to write it: programs between a sender and here change case, and write `_` for `-`.
fn canonical(name: &str) -> String {
    percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase().replace('_', "-")
}

/// Stands for what lies at `path`; a header has none, nor has what lies too deep to say it.
pub(super) fn mark(path: &str) -> String {
    if path.is_empty() { format!("{MARK}>") } else { format!("{MARK} {path}>") }
}

/// Text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A body with something else in some places, which are in order.
pub(super) fn replaced(body: &[u8], spots: &[(Range<usize>, impl AsRef<[u8]>)]) -> Vec<u8> {
    let (mut whole, mut end) = (Vec::with_capacity(body.len()), 0);
    for (range, stead) in spots {
        whole.extend_from_slice(&body[end..range.start]);
        whole.extend_from_slice(stead.as_ref());
        end = range.end;
    }
    whole.extend_from_slice(&body[end..]);
    whole
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::mask) fn masks(pointers: &[&str]) -> Masks {
        Masks::new(["Authorization", "x-api-key"], pointers.iter().map(|text| Pointer::parse(text).unwrap()))
    }

    #[track_caller]
    fn check(pointers: &[&str], body: &str, shown: &str) {
        let masked = masks(pointers).body(body.as_bytes()).into_owned();
        assert_eq!(String::from_utf8(masked).unwrap(), shown);
    }

    #[test]
    fn a_header_is_known_however_its_name_is_written() {
        let masks = masks(&[]);
        for name in ["authorization", "AUTHORIZATION", "X_Api-Key", "x%2Dapi%2dkey", "x-api-key"] {
            assert!(masks.hides(name), "{name}");
        }
        assert!(!masks.hides("x-api-key-2") && !masks.hides("authorization%20") && !Masks::default().hides("a"));
    }

    #[test]
    fn what_a_pointer_means_is_not_shown_and_all_else_is_as_it_was() {
        check(&["/a/b"], r#" {"a" : {"b":1.5, "c": "x"}}"#, r#" {"a" : {"b":"<masked /a/b>", "c": "x"}}"#);
        check(&["/a"], r#"{"a":{"b":[1,{}]},"c":[]}"#, r#"{"a":"<masked /a>","c":[]}"#);
        check(
            &["/cards/*/number"],
            r#"{"cards":[{"number":"1"},{"id":2},{"number":3}]}"#,
            r#"{"cards":[{"number":"<masked /cards/0/number>"},{"id":2},{"number":"<masked /cards/2/number>"}]}"#,
        );
        check(&["/1"], r#"[0,1,{"1":1}]"#, r#"[0,"<masked /1>",{"1":1}]"#);
        check(&["/*"], r#"{"a":null,"b":true}"#, r#"{"a":"<masked /a>","b":"<masked /b>"}"#);
        check(&[""], "[1]", r#""<masked>""#);
        check(&["/a", "/*/b"], r#"{"a":{"b":1},"c":{"b":2}}"#, r#"{"a":"<masked /a>","c":{"b":"<masked /c/b>"}}"#);
        check(&["/A"], r#"{"a":1}"#, r#"{"a":1}"#);
    }

    #[test]
    fn names_are_found_however_they_are_escaped() {
        check(&["/a~1b/~0"], r#"{"a/b":{"~":1}}"#, r#"{"a/b":{"~":"<masked /a~1b/~0>"}}"#);
        check(&["/e-mail"], "{\"e\\u002dm\\u0061il\":1}", "{\"e\\u002dm\\u0061il\":\"<masked /e-mail>\"}");
        check(&["/ü"], "{\"\\u00fc\":1,\"ü\":2}", "{\"\\u00fc\":\"<masked /ü>\",\"ü\":\"<masked /ü>\"}");
        check(&["/\u{1f511}"], "{\"\\ud83d\\udd11\":1}", "{\"\\ud83d\\udd11\":\"<masked /\u{1f511}>\"}");
        check(&["/a\"b"], r#"{"a\"b":1}"#, r#"{"a\"b":"<masked /a\"b>"}"#);
    }

    #[test]
    fn a_name_twice_is_masked_twice() {
        check(&["/a"], r#"{"a":1,"a":"two"}"#, r#"{"a":"<masked /a>","a":"<masked /a>"}"#);
    }

    #[test]
    fn values_one_after_the_other_are_each_looked_through() {
        check(
            &["/a"],
            "{\"a\":1}\n{\"b\":2}\r\n{\"a\":3}\n",
            "{\"a\":\"<masked /a>\"}\n{\"b\":2}\r\n{\"a\":\"<masked 3 /a>\"}\n",
        );
        check(&["/a"], "\u{feff}{\"a\":1}", "\u{feff}{\"a\":\"<masked /a>\"}");
    }

    #[test]
    fn what_is_no_json_is_shown_where_no_name_is_in_it() {
        for body in ["", " \n", "hello", "a=1&b=2", "12 men"] {
            check(&["/a/email"], body, body);
        }
        let broken = r#"{"a":{"email":"x@y""#;
        let nested = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
        for body in [broken, "a=1&Email=x%40y", "{}{}", "{\"a\":tru}", "[1,]", "say \\u0065mail", "01", &nested, "{"] {
            let is_shown = body == "01";
            check(&["/a/email"], body, if is_shown { body } else { UNREADABLE });
        }
        check(&["/*/0"], "hello", UNREADABLE);
        for body in
            ["k%C3%BCnde=a", "card+number=4", "card%20number=4", "pin%2Dcode=4111", "%65mail=a", "%2565mail=a", "q=%FC"]
        {
            check(&["/künde", "/card number", "/pin-code", "/email"], body, UNREADABLE);
        }
        for body in ["a=100%&b=1+1", "name=J%C3%B6rg+L", "50% off + more"] {
            check(&["/künde", "/email"], body, body);
        }
        assert_eq!(*masks(&["/a"]).body(b"\xff\xfe"), *UNREADABLE.as_bytes());
        check(&[], broken, broken);
    }

    #[test]
    fn what_is_shown_instead_is_bounded() {
        let many = format!("[{}0]", "0,".repeat(SPOTS_MAX));
        check(&["/*"], &many, TOO_MUCH);
        let long = "x".repeat(1_000);
        check(&["/*"], &format!("{{\"{long}\":1}}"), &format!("{{\"{long}\":\"<masked>\"}}"));
    }

    /// Its length times its places would be minutes.
    #[test]
    fn a_long_name_is_not_read_again_for_each_of_its_places() {
        let name = "\\u0041".repeat(60_000);
        let body = |member: &str| format!("{{\"cards\":{{\"{name}\":{{{}\"x\":0}}}}}}", member.repeat(2_000));
        let (whole, shown) = (body("\"number\":1,"), body("\"number\":\"<masked>\","));
        check(&["/cards/*/number"], &whole, &shown);
        let restored = masks(&["/cards/*/number"]).restored(shown.into_bytes(), whole.as_bytes());
        assert!(restored.unwrap_err().contains("too long a name"));
    }
}
