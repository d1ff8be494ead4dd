//! `${VAR}` and `${VAR:-default}` in strings, filled from the environment.
//!
//! As in a shell, the default also stands in for an empty variable; `$${` is a plain `${`. Pure: the environment is a
//! function. `[secrets]` is left alone by the caller, because its strings name variables instead of using them.

use super::document::{Node, Table, Value, join};
use super::problem::Report;

/// Where variables come from.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Fills every string under `node`; variables that are not set are problems.
pub(super) fn fill(node: &mut Node, path: &str, environment: Environment<'_>, report: &mut Report<'_>) {
    match &mut node.value {
        Value::Text { text, filled } if text.contains("${") => match fill_text(text, environment) {
            Ok(full) => (*text, *filled) = (full, true),
            Err((message, help)) => {
                report.problem(node.place, path, message, help);
                node.value = Value::Unfilled;
            }
        },
        Value::List(nodes) => {
            for (index, node) in nodes.iter_mut().enumerate() {
                fill(node, &format!("{path}[{index}]"), environment, report);
            }
        }
        Value::Table(table) => fill_table(table, path, environment, report),
        _ => {}
    }
}

fn fill_table(table: &mut Table, path: &str, environment: Environment<'_>, report: &mut Report<'_>) {
    for (key, entry) in table {
        fill(&mut entry.node, &join(path, key), environment, report);
    }
}

fn fill_text(text: &str, environment: Environment<'_>) -> Result<String, (String, String)> {
    let mut full = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        full.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$${") {
            full.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let Some((inside, after)) = after.split_once('}') else {
                return Err(("`${` without `}`".into(), "write `${VAR}`, or `$${` for a plain `${`".into()));
            };
            full.push_str(&variable(inside, environment)?);
            rest = after;
        } else {
            full.push('$');
            rest = &rest[1..];
        }
    }
    full.push_str(rest);
    Ok(full)
}

fn variable(inside: &str, environment: Environment<'_>) -> Result<String, (String, String)> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_variable_name(name) {
        let help = "write `${VAR}` or `${VAR:-default}`, or `$${` for a plain `${`";
        // What follows the name may be a default in the way of some shell, and a secret.
        let begin = name.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_')).next().unwrap_or_default();
        return Err((format!("`${{{begin}…}}` names no environment variable"), help.into()));
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment variable `{name}` is not set"),
            format!("set it, or write a default: `${{{name}:-default}}`"),
        )),
    }
}

/// The variables that a text names, whatever else is wrong with it.
pub(super) fn variables_in(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (start, _) in text.match_indices("${").filter(|(start, _)| !text[..*start].ends_with('$')) {
        let name = text[start + 2..].split(['}', ':']).next().unwrap_or_default();
        if is_variable_name(name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Whether a shell could set it.
pub(super) fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let environment = |name: &str| match name {
            "HOST" => Some("example.com".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let filled = fill_text(text, &environment).map_err(|(message, _)| message);
        assert_eq!(filled, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
    }

    #[test]
    fn variables_defaults_and_escapes() {
        check("https://${HOST}/x", Ok("https://example.com/x"));
        check("${NONE:-a}${HOST:-b}${EMPTY:-c}${EMPTY}", Ok("aexample.comc"));
        check("$${HOST} costs $5 $", Ok("${HOST} costs $5 $"));
        check("${NONE:-}", Ok(""));
        check("${NONE}", Err("the environment variable `NONE` is not set"));
        check("${HOST", Err("`${` without `}`"));
        check("${a b}", Err("`${a…}` names no environment variable"));
    }
}
