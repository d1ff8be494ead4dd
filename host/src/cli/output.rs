//! Standard output: for data and answers only; logs go to standard error.

use std::io::Write;

/// Prints a line. A reader that has gone (`| head`) is no error.
///
/// # Errors
/// Standard output is broken otherwise.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    match writeln!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot print the answer"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Text for a terminal: what plugins and messages say must not steer it, nor look like something else than it is. Data in
/// its exact bytes is what JSON is for.
#[must_use]
pub fn plain(text: &str) -> String {
    let is_plain = |character: char| !is_steering(character) || matches!(character, '\n' | '\t');
    text.chars().fold(String::with_capacity(text.len()), |mut plain, character| {
        if is_plain(character) {
            plain.push(character)
        } else {
            plain.extend(character.escape_default())
        }
        plain
    })
}

/// Control characters, and those of no width that turn text round or hide it.
#[must_use]
pub fn is_steering(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Lines up columns: every row has as many cells as the head.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(std::iter::once(head[column].len())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let head = line(&mut head.iter().copied());
    let rows = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}

/// A count with its word, as `1 attempt` or `2 attempts`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn texts_of_others_neither_steer_nor_deceive() {
        assert_eq!(plain("a\u{1b}[2J\n\tb"), "a\\u{1b}[2J\n\tb");
        assert_eq!(plain("safe\u{202e}gpj.exe\u{200b}"), "safe\\u{202e}gpj.exe\\u{200b}");
        assert_eq!(plain("Gr\u{fc}\u{df}e \u{6f22}"), "Gr\u{fc}\u{df}e \u{6f22}");
    }
}
