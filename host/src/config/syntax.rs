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
    let message = error.message();
    let help = match message {
        "duplicate key" => "keep one of them: a key, and a table such as `[connectors.NAME]`, is written once",
        _ if message.contains("string values must be quoted") => "put it in quotes, as in `key = \"value\"`",
        _ => "",
    };
    (format!("not valid TOML: {message}"), help)
}
