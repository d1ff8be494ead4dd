//! What a validator finds, in words for an operator.
//!
//! Invariant: no value of the config is in a message, because it may be a secret; what the schema allows is.

use boon::{ErrorKind, Type, Types, ValidationError};
use serde_json::Value;

use super::super::problem::{closest, suggestion};
use super::tokens;

/// One step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Key(String),
    Item(usize),
}

/// One thing that a schema does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// The way to the value.
    pub(super) tokens: Vec<Token>,
    /// A key of it that is meant, not its value.
    pub(super) key: Option<String>,
    /// That key is not there.
    pub(super) is_missing: bool,
    pub(super) message: String,
    pub(super) help: String,
}

/// More would not be read.
const MISFITS_MAX: usize = 50;
/// The schema is a stranger's text.
const SHOWN_CHARS_MAX: usize = 200;

/// Everything that is wrong, each once.
pub(super) fn misfits_of(error: &ValidationError<'_, '_>, schema: &Value, config: &Value) -> Vec<Misfit> {
    let mut leaves = Vec::new();
    collect(error, &mut leaves);
    let mut misfits = Vec::new();
    for leaf in leaves {
        for misfit in leaf.misfits(schema, config) {
            if !misfits.contains(&misfit) && misfits.len() < MISFITS_MAX {
                misfits.push(misfit);
            }
        }
    }
    // A misspelt key is not missing as well.
    let written = misfits.iter().filter(|it| !it.is_missing);
    let written: Vec<(Vec<Token>, String)> =
        written.filter_map(|it| Some((it.tokens.clone(), it.key.clone()?))).collect();
    misfits.retain(|it| {
        let is_meant = |needed: &String| {
            written.iter().any(|(at, key)| *at == it.tokens && closest(key, [needed.as_str()]).is_some())
        };
        !(it.is_missing && it.key.as_ref().is_some_and(is_meant))
    });
    misfits
}

/// Whether the schema leads back to itself without going on in the config.
pub(super) fn goes_round(error: &ValidationError<'_, '_>) -> bool {
    matches!(error.kind, ErrorKind::RefCycle { .. }) || error.causes.iter().any(goes_round)
}

/// An error without causes, or several forms of which none fits.
enum Leaf<'e, 's, 'v> {
    One(&'e ValidationError<'s, 'v>),
    Forms(&'e ValidationError<'s, 'v>, Vec<&'e ValidationError<'s, 'v>>),
}

fn collect<'e, 's, 'v>(error: &'e ValidationError<'s, 'v>, leaves: &mut Vec<Leaf<'e, 's, 'v>>) {
    match &error.kind {
        ErrorKind::AnyOf | ErrorKind::OneOf(None) => forms(error, leaves),
        _ if error.causes.is_empty() => leaves.push(Leaf::One(error)),
        _ => error.causes.iter().for_each(|cause| collect(cause, leaves)),
    }
}

/// Of several forms the one counts that was most likely meant: whose kind and whose tag are right.
fn forms<'e, 's, 'v>(error: &'e ValidationError<'s, 'v>, leaves: &mut Vec<Leaf<'e, 's, 'v>>) {
    let here = error.instance_location.tokens.len();
    let mut branches: Vec<Vec<Leaf<'e, 's, 'v>>> = Vec::new();
    for cause in &error.causes {
        let mut branch = Vec::new();
        collect(cause, &mut branch);
        branches.push(branch);
    }
    let is_other_kind = |branch: &[Leaf<'_, '_, '_>]| {
        branch.iter().any(|leaf| match leaf.error().kind {
            ErrorKind::Type { .. } | ErrorKind::Enum { .. } => leaf.error().instance_location.tokens.len() == here,
            ErrorKind::Const { .. } => leaf.error().instance_location.tokens.len() <= here + 1,
            _ => false,
        })
    };
    let (others, mut meant): (Vec<_>, Vec<_>) = branches.into_iter().partition(|branch| is_other_kind(branch));
    meant.sort_by_key(Vec::len);
    match meant.into_iter().next() {
        Some(branch) => leaves.extend(branch),
        None => {
            let parts = others.iter().flatten().map(Leaf::error).collect();
            leaves.push(Leaf::Forms(error, parts));
        }
    }
}

impl<'e, 's, 'v> Leaf<'e, 's, 'v> {
    fn error(&self) -> &'e ValidationError<'s, 'v> {
        match self {
            Self::One(error) | Self::Forms(error, _) => error,
        }
    }

    fn misfits(&self, schema: &Value, config: &Value) -> Vec<Misfit> {
        let error = self.error();
        let at = Misfit {
            tokens: tokens(&error.instance_location),
            key: None,
            is_missing: false,
            message: String::new(),
            help: String::new(),
        };
        let of_keys = |keys: &[&str], is_missing: bool, message: &str, help: &dyn Fn(&str) -> String| {
            let of = |key: &&str| Misfit {
                key: Some((*key).to_owned()),
                is_missing,
                message: message.to_owned(),
                help: help(key),
                ..at.clone()
            };
            keys.iter().map(of).collect()
        };
        let needed = |_: &str| "the plugin needs it; `bulkhead inspect PLUGIN` shows its schema".to_owned();
        match (self, &error.kind) {
            (Self::Forms(_, parts), _) => vec![at.saying(among(parts))],
            (_, ErrorKind::Required { want }) => of_keys(want, true, "missing", &needed),
            (_, ErrorKind::DependentRequired { prop, missing } | ErrorKind::Dependency { prop, missing }) => {
                of_keys(missing, true, &format!("missing beside `{prop}`"), &needed)
            }
            (_, ErrorKind::AdditionalProperties { got }) => {
                let got: Vec<&str> = got.iter().map(AsRef::as_ref).collect();
                let known = keys_at(schema, error.schema_url);
                of_keys(&got, false, "unknown key", &|key| suggestion(key, &known))
            }
            (_, kind) => vec![at.saying(words(kind, at_value(config, &at.tokens)))],
        }
    }
}

impl Misfit {
    fn saying(&self, (message, help): (String, String)) -> Self {
        Self { message, help, ..self.clone() }
    }
}

fn words(kind: &ErrorKind<'_, '_>, value: Option<&Value>) -> (String, String) {
    let help = |message: &str, help: String| (message.to_owned(), help);
    match kind {
        ErrorKind::Type { got, want } => {
            (format!("expected {}, found {}", kinds(*want), found_of(*got)), String::new())
        }
        ErrorKind::Enum { want } => choices(&want.iter().collect::<Vec<_>>(), value),
        ErrorKind::Const { want } => choices(&[*want], value),
        ErrorKind::Pattern { want, .. } => {
            help("not of the form that the plugin takes", format!("the pattern is `{}`", short(want)))
        }
        ErrorKind::MinLength { want, .. } => help("too short", format!("use at least {want} characters")),
        ErrorKind::MaxLength { want, .. } => help("too long", format!("use at most {want} characters")),
        ErrorKind::MinItems { want, .. } => help("too few entries", format!("use at least {want}")),
        ErrorKind::MaxItems { want, .. } => help("too many entries", format!("use at most {want}")),
        ErrorKind::MinProperties { want, .. } => help("too few keys", format!("use at least {want}")),
        ErrorKind::MaxProperties { want, .. } => help("too many keys", format!("use at most {want}")),
        ErrorKind::UniqueItems { got: [first, second] } => {
            help("the same entry twice", format!("the entries {first} and {second} are equal, counted from 0"))
        }
        ErrorKind::Minimum { want, .. } => help("out of range", format!("use at least {want}")),
        ErrorKind::Maximum { want, .. } => help("out of range", format!("use at most {want}")),
        ErrorKind::ExclusiveMinimum { want, .. } => help("out of range", format!("use more than {want}")),
        ErrorKind::ExclusiveMaximum { want, .. } => help("out of range", format!("use less than {want}")),
        ErrorKind::MultipleOf { want, .. } => help("out of range", format!("use a multiple of {want}")),
        ErrorKind::OneOf(Some(_)) => help("fits two forms at once", "write what belongs to one of them".into()),
        _ => help("not what the plugin takes", "`bulkhead inspect PLUGIN` shows its schema".into()),
    }
}

/// What any of several forms would have taken.
fn among(parts: &[&ValidationError<'_, '_>]) -> (String, String) {
    let mut expected: Vec<String> = Vec::new();
    let mut found = None;
    for part in parts {
        let form = match &part.kind {
            ErrorKind::Type { got, want } => {
                found = Some(found_of(*got));
                // A key that is left out is how TOML says null.
                want.iter().filter(|kind| *kind != Type::Null).map(kind_of).map(str::to_owned).collect()
            }
            ErrorKind::Enum { want } => want.iter().map(plain).collect(),
            ErrorKind::Const { want } => vec![plain(want)],
            _ => Vec::new(),
        };
        for form in form {
            if !expected.contains(&form) {
                expected.push(form);
            }
        }
    }
    let expected = short(&expected.join(" or "));
    match (expected.as_str(), found) {
        ("", _) => words(&ErrorKind::AnyOf, None),
        (expected, Some(found)) => (format!("expected {expected}, found {found}"), String::new()),
        (expected, None) => ("not one of the choices".into(), format!("allowed: {expected}")),
    }
}

fn choices(allowed: &[&Value], value: Option<&Value>) -> (String, String) {
    let allowed: Vec<String> = allowed.iter().map(|value| plain(value)).collect();
    let names: Vec<&str> = allowed.iter().map(String::as_str).collect();
    let help = match value.and_then(Value::as_str) {
        Some(text) => suggestion(text, &names),
        None => format!("allowed: {}", names.join(", ")),
    };
    ("not one of the choices".into(), short(&help))
}

/// A word as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn kinds(types: Types) -> String {
    let words: Vec<&str> = types.iter().filter(|kind| *kind != Type::Null).map(kind_of).collect();
    words.join(" or ")
}

fn kind_of(kind: Type) -> &'static str {
    match kind {
        Type::Null => "nothing",
        Type::Boolean => "true or false",
        Type::Number => "a number",
        Type::Integer => "a whole number",
        Type::String => "a string",
        Type::Array => "a list",
        Type::Object => "a table",
    }
}

fn found_of(kind: Type) -> &'static str {
    if kind == Type::Boolean { "a boolean" } else { kind_of(kind) }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

fn at_value<'v>(config: &'v Value, tokens: &[Token]) -> Option<&'v Value> {
    tokens.iter().try_fold(config, |value, token| match token {
        Token::Key(key) => value.get(key),
        Token::Item(index) => value.get(index),
    })
}

/// The keys that the part of the schema at `url` names.
fn keys_at<'s>(schema: &'s Value, url: &str) -> Vec<&'s str> {
    let pointer = url.split_once('#').map_or("", |(_, pointer)| pointer);
    let table = schema.pointer(pointer).and_then(|table| table.get("properties")).and_then(Value::as_object);
    table.map(|table| table.keys().map(String::as_str).collect()).unwrap_or_default()
}
