//! What a syntax error means to somebody who does not know the grammar of TOML.

/// What is wrong, and what to write instead where that is known.
pub(super) fn explain(text: &str, error: &toml::de::Error) -> (String, &'static str) {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
    if ["<<<<<<<", "=======", ">>>>>>>", "|||||||"].iter().any(|marker| line.starts_with(marker)) {
        let help = "keep what is right of both sides, and take out the lines `<<<<<<<`, `=======` and `>>>>>>>`";
        return ("not valid TOML: a merge conflict is not resolved here".into(), help);
    }
    let message = match error.message() {
        message if message.contains("visible characters") => "a character that cannot be seen",
        message if message.contains("must be quoted") && line.trim_end().ends_with('=') => "a key without a value",
        message => message,
    };
    (format!("not valid TOML: {message}"), help(message, text, line))
}

fn help(message: &str, text: &str, line: &str) -> &'static str {
    if line.contains(['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}']) {
        return "use straight quotes, as in `key = \"value\"`";
    }
    if text.trim_start().starts_with('{') {
        return "this looks like JSON: TOML has tables such as `[connectors.NAME]`, and lines such as `key = \"value\"`";
    }
    if line.split_once(':').is_some_and(|(key, _)| !key.contains(['=', '"', '\''])) {
        return "write `key = \"value\"`, and tables such as `[connectors.NAME]`: this is TOML, not YAML";
    }
    match message {
        "duplicate key" => "keep one of them: a key, and a table such as `[connectors.NAME]`, is written once",
        "a character that cannot be seen" => "take it out, or write it as in `\\u001b`",
        "a key without a value" => "write one, as in `key = \"value\"`, or take the line out",
        _ if message.starts_with("key with no value") => "write it as in `key = \"value\"`",
        _ if message.contains("must be quoted") => "put it in quotes, as in `key = \"value\"`",
        _ if message.contains("escape") => {
            "a `\\` begins an escape: write it twice, or use single quotes, as in 'C:\\plugins'"
        }
        _ if message.contains("leading zero") => "leave the zero out",
        _ if message.starts_with("cannot extend") => "write the key between the braces of the table",
        _ if message.contains("invalid boolean") => "write true or false, in small letters",
        _ if message.contains("basic string") || message.contains("literal string") => {
            "a string ends on its line, with the quote that it begins with"
        }
        _ if message.contains("unclosed table") => "write it as in `[connectors.NAME]`",
        _ => "",
    }
}
