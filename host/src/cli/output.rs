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

/// Text for a terminal: what plugins and messages say must not steer it. Data in its exact bytes is what JSON is for.
#[must_use]
pub fn plain(text: &str) -> String {
    let is_plain = |character: char| !character.is_control() || matches!(character, '\n' | '\t');
    text.chars().fold(String::with_capacity(text.len()), |mut plain, character| {
        if is_plain(character) {
            plain.push(character)
        } else {
            plain.extend(character.escape_default())
        }
        plain
    })
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
