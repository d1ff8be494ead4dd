//! What of a configuration file may be a secret, and is never shown.
//!
//! A source line is printed on terminals and in the logs of pipelines. Shown is what the list of keys says to be a
//! word, a number, a name or a place; hidden is what stands in somebody else's tables, under keys that nobody knows, in
//! the place of a secret's name, in comments, and whatever looks like a credential. Where the file is no TOML, words of
//! the configuration itself are shown alone. Invariant: names of variables (`${NAME}`) are shown, their defaults are not.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::is_variable_name;
use super::keys::{BUILTINS, ROOT};
use super::schema::{Kind, Section};
use super::validate::BUILTIN_PREFIX;

/// No word that people write is longer and mixes letters and digits.
const WORD_CHARS_MAX: usize = 16;
/// As services begin their tokens.
const PREFIXES: [&str; 20] = [
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xox",
    "xapp-",
    "sk_",
    "sk-",
    "rk_",
    "pk_",
    "whsec_",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJ",
    "npm_",
    "shpat_",
    "SG.",
    "-----BEGIN",
];

/// The parts of a file that are not shown, in order.
pub(super) fn hidden(text: &str, secrets: &BTreeSet<String>) -> Vec<Range<usize>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut search = Search { text, secrets, hidden: Vec::new(), strings: Vec::new() };
    if errors.is_empty() {
        search.table(table.get_ref(), Some(&ROOT));
        search.comments();
    } else {
        search.words();
    }
    let Search { mut hidden, .. } = search;
    hidden.sort_by_key(|range| (range.start, range.end));
    hidden
}

/// The names in `[secrets]` of a file.
pub(super) fn names(text: &str) -> Vec<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let secrets = table.get_ref().get("secrets").map(Spanned::get_ref);
    let DeValue::Table(secrets) = secrets.unwrap_or(&DeValue::Boolean(false)) else { return Vec::new() };
    secrets.keys().map(|name| name.get_ref().to_string()).collect()
}

/// Whether a text is most likely a credential, not a word that somebody chose.
pub(super) fn looks_secret(text: &str) -> bool {
    let has = |test: fn(char) -> bool| text.chars().any(test);
    let count = text.chars().count();
    if count >= 12 && PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
        return true;
    }
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let is_mixed = has(|it| it.is_ascii_lowercase()) && has(|it| it.is_ascii_uppercase());
    let letters = has(|it| it.is_ascii_alphabetic());
    count >= WORD_CHARS_MAX && digits > 0 && letters && (is_mixed || (count >= 24 && digits >= 4))
}

/// Whether a message should rather not repeat a text.
pub(super) fn may_hold_secret(text: &str) -> bool {
    text.contains("://") || text.split(is_between).any(looks_secret)
}

/// What parts the words of a text, one of which may be a credential.
fn is_between(character: char) -> bool {
    !(character.is_ascii_alphanumeric() || "_-+=".contains(character))
}

/// Every `${NAME}` and `${NAME:-default}` of a text that begins at `base`, and where its default is.
fn variables(text: &str, base: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices("${") {
        let end = text[start..].find('}').map_or(text.len(), |end| start + end);
        let inside = &text[start + 2..end];
        let name = inside.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_')).next().unwrap_or_default();
        let rest = &inside[name.len()..];
        // What else follows may be a default in the way of some shell.
        let default = rest.strip_prefix(":-").unwrap_or(rest);
        if is_variable_name(name) {
            found.push((base + start..base + (end + 1).min(text.len()), base + end - default.len()..base + end));
        }
    }
    found
}

struct Search<'a> {
    text: &'a str,
    secrets: &'a BTreeSet<String>,
    hidden: Vec<Range<usize>>,
    /// Strings and quoted keys: a `#` in one begins no comment.
    strings: Vec<Range<usize>>,
}

impl Search<'_> {
    fn table(&mut self, table: &DeTable<'_>, section: Option<&'static Section>) {
        for (key, value) in table {
            self.strings.push(key.span());
            let kind = section.and_then(|section| section.key(key.get_ref())).map(|key| &key.kind);
            self.value(value, kind);
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, kind: Option<&'static Kind>) {
        match (value.get_ref(), kind) {
            (DeValue::Table(table), Some(Kind::Named(_, section))) => {
                for (name, value) in table {
                    self.strings.push(name.span());
                    match value.get_ref() {
                        DeValue::Table(table) => self.table(table, Some(section)),
                        _ => self.value(value, None),
                    }
                }
            }
            (DeValue::Table(table), kind) => self.table(table, kind.and_then(Kind::section)),
            (DeValue::Array(values), kind) => {
                let each = match kind {
                    Some(Kind::List(kind) | Kind::OneOrList(kind)) => Some(*kind),
                    Some(kind @ (Kind::Tables(_) | Kind::TableOrList(_))) => Some(kind),
                    _ => None,
                };
                values.iter().for_each(|value| self.value(value, each));
            }
            (DeValue::String(text), kind) => {
                self.strings.push(value.span());
                self.string(text, value.span(), kind);
            }
            // A number of somebody else may be a PIN.
            (DeValue::Integer(_) | DeValue::Float(_), None) => self.hidden.push(value.span()),
            _ => {}
        }
    }

    fn string(&mut self, value: &str, span: Range<usize>, kind: Option<&'static Kind>) {
        let raw = &self.text[span.clone()];
        let is_long = raw.contains('\n') || raw.starts_with("\"\"\"") || raw.starts_with("'''");
        // One quote at each end, or three: what is in between.
        let quotes = if is_long { 3 } else { 1 };
        let inner = (span.start + quotes).min(span.end)..span.end.saturating_sub(quotes).max(span.start + quotes);
        if is_long || !self.may_show(value, kind) {
            self.hide_but_variables(inner);
        } else {
            self.hide_credentials(inner);
        }
    }

    fn may_show(&self, value: &str, kind: Option<&'static Kind>) -> bool {
        match kind {
            None | Some(Kind::Any | Kind::AnyTable) => false,
            Some(Kind::SecretName) => self.secrets.contains(value),
            Some(Kind::Variable) => is_variable_name(value) && !value.contains(|it: char| it.is_ascii_lowercase()),
            Some(Kind::ShortOrTable(short, _)) => self.may_show(value, Some(short)),
            Some(_) => true,
        }
    }

    /// Hides a range, except for the variables that are named in it.
    fn hide_but_variables(&mut self, range: Range<usize>) {
        let mut done = range.start;
        for (variable, default) in variables(&self.text[range.clone()], range.start) {
            self.hide(done..variable.start);
            self.hide(default);
            done = variable.end;
        }
        self.hide(done..range.end);
    }

    /// Hides what looks like a credential in a text that is one of the configuration.
    fn hide_credentials(&mut self, range: Range<usize>) {
        let text = &self.text[range.clone()];
        if let Some((scheme, rest)) = text.split_once("://") {
            let base = range.start + scheme.len() + 3;
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if let Some((user, _)) = authority.rsplit_once('@') {
                self.hide(base..base + user.len());
            }
            if let Some(query) = rest.find(['?', '#']) {
                self.hide_but_variables(base + query + 1..range.end);
            }
        }
        let mut start = 0;
        for run in text.split(is_between) {
            if looks_secret(run) {
                self.hide(range.start + start..range.start + start + run.len());
            }
            let after = text[start + run.len()..].chars().next().map_or(0, char::len_utf8);
            start += run.len() + after;
        }
        for (_, default) in variables(text, range.start) {
            self.hide(default);
        }
    }

    fn hide(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.hidden.push(range);
        }
    }

    /// Comments say anything.
    fn comments(&mut self) {
        self.strings.sort_by_key(|range| range.start);
        let mut from = 0;
        while let Some(found) = self.text[from..].find('#') {
            let sign = from + found;
            let before = self.strings.partition_point(|string| string.start <= sign);
            let inside = self.strings[..before].last().filter(|string| string.end > sign);
            from = match inside {
                Some(string) => string.end,
                None => {
                    let line = &self.text[sign + 1..];
                    let end = sign + 1 + line.find('\n').unwrap_or(line.len());
                    self.hide(sign + 1..end);
                    end
                }
            };
        }
    }

    /// Where the file is no TOML, nobody knows what is a value: only words of the configuration are shown.
    fn words(&mut self) {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            let content = line.trim_end_matches(['\r', '\n']);
            let is_header = content.starts_with('[') && !content.contains(['"', '\'', '=']);
            // The key of a line is shown, unless it is a part of something else.
            let key = content.find('=').filter(|end| !looks_secret(content[..*end].trim()));
            if !is_header {
                self.values(start + key.unwrap_or(0), start + content.len());
            }
            start += line.len();
        }
    }

    fn values(&mut self, from: usize, to: usize) {
        let is_word = |it: char| !(it.is_whitespace() || "[]{},=\"'".contains(it));
        let mut start = from;
        for run in self.text[from..to].split(|it: char| !is_word(it)) {
            if run.contains(|it: char| it.is_alphanumeric()) && !is_known(run) {
                self.hide(start..start + run.len());
            }
            let after = self.text[start + run.len()..to].chars().next().map_or(0, char::len_utf8);
            start += run.len() + after;
        }
    }
}

/// A word of the configuration itself, or a short number.
fn is_known(word: &str) -> bool {
    static WORDS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
        let mut words = BTreeSet::from(["true", "false", "True", "False"]);
        words_of(&ROOT, &mut words);
        words
    });
    let word = word.strip_suffix(':').unwrap_or(word);
    let is_number = word.len() <= 6 && word.bytes().all(|byte| byte.is_ascii_digit() || b"+-._".contains(&byte));
    let builtin = word.strip_prefix(BUILTIN_PREFIX).is_some_and(|name| BUILTINS.contains(&name));
    is_number || builtin || word.split('.').all(|part| WORDS.contains(part))
}

fn words_of(section: &'static Section, words: &mut BTreeSet<&'static str>) {
    for key in section.keys {
        words.insert(key.name);
        words_of_kind(&key.kind, words);
    }
}

fn words_of_kind(kind: &'static Kind, words: &mut BTreeSet<&'static str>) {
    match kind {
        Kind::Choice(choices) => words.extend(choices.iter()),
        Kind::List(kind) | Kind::OneOrList(kind) => words_of_kind(kind, words),
        Kind::ShortOrTable(short, _) => words_of_kind(short, words),
        _ => {}
    }
    kind.section().into_iter().for_each(|section| words_of(section, words));
}

#[cfg(test)]
mod tests {
    use super::super::excerpt;
    use super::*;

    /// The first line of a file as it is shown.
    fn check(text: &str, expected: &str) {
        let hidden = hidden(text, &BTreeSet::from(["token".to_owned()]));
        assert_eq!(excerpt::line(text, 0..0, &hidden).0, expected, "{text}");
    }

    fn check_connector(keys: &str, expected: &str) {
        check(&format!("connectors.a = {{ {keys} }}"), &format!("connectors.a = {{ {expected} }}"));
    }

    #[test]
    fn what_the_list_of_keys_knows_is_shown() {
        check_connector("consume = 'orders', brake = 3", "consume = 'orders', brake = 3");
        check_connector("retry = { first = '1sec', jitter = 'ful' }", "retry = { first = '1sec', jitter = 'ful' }");
        check_connector("allow.publish = ['a', 'B c']", "allow.publish = ['a', 'B c']");
        check("[connectors.a]", "[connectors.a]");
        check("host.data_dir = \"/var/lib/${SITE}/data\"", "host.data_dir = \"/var/lib/${SITE}/data\"");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        check("host.data_dir = '${VAR-hunter2}'", "host.data_dir = '${VAR…}'");
        check("host.data_dir = '${VAR:-hunter2'", "host.data_dir = '${VAR:-…'");
        check_connector(
            "allow.http = [{ url = 'https://u:p@a.example/x?key=1', auth = { bearer = 'ghp_x' } }]",
            "allow.http = [{ url = 'https://…@a.example/x?…', auth = { bearer = '…' } }]",
        );
        check_connector("allow.secrets = ['token', 'other']", "allow.secrets = ['token', '…']");
        check_connector(
            "config = { a = 'b', c = [1, true], d.e = 1.5 }",
            "config = { a = '…', c = […, true], d.e = … }",
        );
        check_connector("token = 'abc', tokens = ['abc']", "token = '…', tokens = ['…']");
        check("secrets.a = { env = 'xoxb-12' }", "secrets.a = { env = '…' }");
        check("secrets = { a = 'b' } # like b", "secrets = { a = '…' } #…");
        check("host.data_dir = '#1' # like b", "host.data_dir = '#1' #…");
        check("connectors.a.consume = 'xoxb-123456789012'", "connectors.a.consume = '…'");
        check("connectors.a.plugin = '/x/4f3c2b1a9d8e7f6a5b4c3d2e/p.wasm'", "connectors.a.plugin = '/x/…/p.wasm'");
        check("host.data_dir = \"\"\"pass\nword\"\"\"", "host.data_dir = \"\"\"…");
        check("connectors.a.config.a = 'x${VAR}y${V:-z}'", "connectors.a.config.a = '…${VAR}…${V:-…}'");
        check("host.data_dir = '${VAR:-hunter2}'", "host.data_dir = '${VAR:-…}'");
    }

    #[test]
    fn where_the_file_is_no_toml_words_of_the_configuration_are_shown() {
        check("connectors.a.consume = orders", "connectors.a.consume = …");
        check("auth = { bearer = hunter2, header = \"x", "auth = { bearer = …, header = \"…");
        check("[connectors.a", "[connectors.a");
        check("reuse = always 12", "reuse = always 12");
        check("plugin = builtin:jq", "plugin = builtin:jq");
        check("a = '''\nMIIEvQIBADANBg==", "a = '''");
        check("MIIEvQIBADANBgkqhkiG9w==\n= [", "…==");
        check("<<<<<<< hunter2", "<<<<<<< …");
        check("data_dir \"hunter2\"", "data_dir \"…\"");
    }
}
