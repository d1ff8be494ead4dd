//! The older text of Prometheus (0.0.4), made from OpenMetrics: for scrapers and tools that do not ask for the newer one.
//!
//! What differs is that a counter is described under the name of its sample, with `_total`, and that exemplars and the last
//! line are left out. Invariant: no sample is changed or left out.

/// OpenMetrics as the older text. Samples are copied by whole families: there may be tens of thousands.
#[must_use]
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + text.len() / 64);
    let has_exemplars = text.contains(" # {");
    let (mut rest, mut help) = (text, "");
    while !rest.is_empty() {
        if rest.starts_with('#') {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            describe(&mut plain, line, &mut help);
            rest = after;
            continue;
        }
        let (samples, after) = rest.split_at(rest.find("\n#").map_or(rest.len(), |at| at + 1));
        if has_exemplars {
            samples.lines().for_each(|line| push(&mut plain, &[without_exemplar(line)]));
        } else {
            plain.push_str(samples);
        }
        rest = after;
    }
    plain
}

/// Under which name a family's help stands, its type says, on the line after it.
fn describe<'t>(plain: &mut String, line: &'t str, help: &mut &'t str) {
    if line.starts_with("# HELP ") {
        *help = line;
    } else if let Some(described) = line.strip_prefix("# TYPE ") {
        let (name, kind) = described.split_once(' ').unwrap_or((described, "unknown"));
        let kind = if kind == "unknown" { "untyped" } else { kind };
        let total = if kind == "counter" { "_total" } else { "" };
        let text = help.split_once(name).map_or("", |(_, text)| text);
        push(plain, &["# HELP ", name, total, text]);
        push(plain, &["# TYPE ", name, total, " ", kind]);
    }
}

fn push(text: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| text.push_str(part));
    text.push('\n');
}

/// It stands behind the value.
fn without_exemplar(sample: &str) -> &str {
    let value_at = labels_end(sample);
    sample[value_at..].find(" # ").map_or(sample, |at| &sample[..value_at + at])
}

/// A plugin may write anything into the value of a label.
fn labels_end(sample: &str) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in sample.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'}' | b' ' if !is_quoted => return at,
            _ => {}
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_by_their_samples_and_the_rest_stays() {
        let newer = "# HELP a_b Of a.\n# TYPE a_b counter\na_b_total{x=\"} # {\\\"y\"} 2\n# HELP s Of s.\n# TYPE s histogram\n# UNIT s seconds\ns_bucket{le=\"1\"} 3 # {trace_id=\"f\"} 0.5\ns_sum 1.0\n# EOF\n";
        let older = "# HELP a_b_total Of a.\n# TYPE a_b_total counter\na_b_total{x=\"} # {\\\"y\"} 2\n# HELP s Of s.\n# TYPE s histogram\ns_bucket{le=\"1\"} 3\ns_sum 1.0\n";
        assert_eq!(plain(newer), older);
    }
}
