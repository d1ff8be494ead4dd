//! A value in any mixture of plain, percent-encoded and JSON-escaped characters, as servers echo what they were sent.
//!
//! Pure. Each character may stand as itself, as `%2F` in either case, once more encoded as `%252F`, as `\u002F`, with the
//! short escapes of JSON, and a space as `+`. Invariant: the work for a text grows with its length alone, whatever it
//! holds: all ways to read it are followed side by side.

/// What the longest spelling of a byte takes.
pub(crate) const BYTES_MAX: usize = 6;

/// How a text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// With the value, in so many bytes.
    Whole(usize),
    /// With a part of the value, up to the text's end.
    Part,
    /// With something else.
    No,
}

/// Reads texts, in memory that is used again: a large body has a beginning at every hundredth byte.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Where the ways to read the value so far have come to in the text.
    ends: Vec<usize>,
    next: Vec<usize>,
}

impl Reader {
    /// Whether `text` begins with `value`.
    pub(crate) fn fit(&mut self, value: &[u8], text: &[u8]) -> Fit {
        let Self { ends, next } = self;
        ends.clear();
        ends.push(0);
        let mut is_part = false;
        for byte in value {
            for end in ends.drain(..) {
                is_part |= step(*byte, &text[end..], |bytes| next.push(end + bytes));
            }
            next.sort_unstable();
            next.dedup();
            std::mem::swap(ends, next);
            if ends.is_empty() {
                return if is_part { Fit::Part } else { Fit::No };
            }
        }
        ends.last().map_or(Fit::No, |end| Fit::Whole(*end))
    }
}

/// Whether a text that holds `value` somewhere can begin to do so with this byte.
pub(crate) fn may_begin(value: &[u8], byte: u8) -> bool {
    matches!(byte, b'%' | b'\\')
        || value.first().is_some_and(|first| *first == byte || (*first == b' ' && byte == b'+'))
}

/// Tells each byte with a spelling of which a text begins, and how long that is.
pub(crate) fn readings(text: &[u8], mut found: impl FnMut(u8, usize)) {
    let two = |at: usize| {
        let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        u8::try_from(digit(at)? << 4 | digit(at + 1)?).ok()
    };
    let mut tell = |byte: Option<u8>, length: usize| byte.into_iter().for_each(|byte| found(byte, length));
    tell(text.first().copied(), 1);
    match text {
        [b'%', ..] => {
            tell(two(1), 3);
            tell(two(1).filter(|byte| *byte == b'%').and_then(|_| two(3)), 5);
        }
        [b'\\', b'u' | b'U', b'0', b'0', ..] => tell(two(4), 6),
        [b'\\', short, ..] => tell(unescaped(short.to_ascii_lowercase()), 2),
        [b'+', ..] => tell(Some(b' '), 1),
        _ => {}
    }
}

/// Tells each spelling of `byte` with which `text` begins; whether `text` ends within one.
fn step(byte: u8, text: &[u8], mut found: impl FnMut(usize)) -> bool {
    let mut is_part = false;
    let mut look = |spelling: &[u8]| {
        let common = spelling.len().min(text.len());
        if text[..common].eq_ignore_ascii_case(&spelling[..common]) {
            if common == spelling.len() { found(common) } else { is_part = true }
        }
    };
    let [high, low] = hex(byte);
    look(&[b'%', high, low]);
    look(&[b'%', b'2', b'5', high, low]);
    look(&[b'\\', b'u', b'0', b'0', high, low]);
    if byte == b' ' {
        look(b"+");
    }
    if let Some(short) = short_escape(byte) {
        look(&[b'\\', short]);
    }
    match text.first() {
        Some(first) if *first == byte => found(1),
        Some(_) => {}
        None => is_part = true,
    }
    is_part
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

fn short_escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' | b'/' => Some(byte),
        0x08 => Some(b'b'),
        0x0c => Some(b'f'),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        _ => None,
    }
}

fn unescaped(short: u8) -> Option<u8> {
    (0..=u8::MAX).find(|byte| short_escape(*byte) == Some(short))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &[u8] = b"k/% \\\"+x";

    fn fit(value: &[u8], text: &[u8]) -> Fit {
        Reader::default().fit(value, text)
    }

    fn check(text: &str) {
        let text = text.as_bytes();
        assert_eq!(fit(VALUE, &[text, b"&more"].concat()), Fit::Whole(text.len()), "{}", String::from_utf8_lossy(text));
        for end in 0..text.len() {
            assert_eq!(fit(VALUE, &text[..end]), Fit::Part, "cut at {end}");
        }
    }

    #[test]
    fn every_mixture_of_spellings_fits() {
        check("k/% \\\"+x");
        check("k%2F%25%20%5C%22%2Bx");
        check("k%2f%25+%5c%22+x");
        check("%6b%2F%25%20%5C%22%2B%78");
        check("k%252F%2525%2520%255C%2522%252Bx");
        check("k\\/% \\\\\\\"+x");
        check("\\u006b\\u002F\\u0025\\u0020\\u005C\\u0022\\u002b\\u0078");
        check("k/%25%20\\u005c%22%2Bx");
    }

    #[test]
    fn every_spelling_of_a_byte_is_read() {
        for byte in 0..=u8::MAX {
            let hex = format!("{byte:02x}");
            let spelled = [
                vec![byte],
                format!("%{hex}").into(),
                format!("%25{hex}").into(),
                format!("%{}", hex.to_uppercase()).into(),
                format!("\\u00{hex}").into(),
            ];
            let short = short_escape(byte).map(|short| vec![b'\\', short]);
            let plus = (byte == b' ').then(|| b"+".to_vec());
            for text in spelled.into_iter().chain(short).chain(plus) {
                let mut is_read = false;
                readings(&[&text[..], b"x"].concat(), |read, length| is_read |= (read, length) == (byte, text.len()));
                assert!(is_read, "{byte} in {}", String::from_utf8_lossy(&text));
            }
        }
    }

    #[test]
    fn another_text_does_not() {
        for text in ["k/%25%2", "x", "k/%26", "k\\u012f", ""] {
            let expected = if VALUE.is_empty() || text == "k/%25%2" || text.is_empty() { Fit::Part } else { Fit::No };
            assert_eq!(fit(VALUE, text.as_bytes()), expected, "{text}");
        }
    }
}
