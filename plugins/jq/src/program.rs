//! A jq program: compiled once, run for each message.

use bulkhead_sdk::{Failure, Message};
use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, compile, unwrap_valr};
use jaq_json::{Map, Val, read};

/// The variable that holds what belongs to a message beside its body.
const MESSAGE_VARIABLE: &str = "$message";

/// How much of a program is quoted where it is wrong.
const QUOTE_CHARACTERS: usize = 40;

/// A compiled program.
pub(crate) struct Program(jaq_core::Filter<JustLut<Val>>);

impl Program {
    /// Compiles it with jq's standard functions.
    pub(crate) fn compile(code: &str) -> Result<Self, String> {
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules =
            Loader::new(definitions).load(&arena, File { code, path: () }).map_err(|errors| unparsed(&errors))?;
        let compiler = Compiler::default().with_funs(functions).with_global_vars([MESSAGE_VARIABLE]);
        compiler.compile(modules).map(Self).map_err(|errors| undefined(&errors))
    }

    /// Everything that it yields for a message.
    pub(crate) fn run(&self, message: &Message) -> Result<Vec<Val>, Failure> {
        let input = read::parse_single(&message.body);
        let input = input.map_err(|error| Failure::reject(format!("the body is not JSON: {error}")))?;
        let context = Ctx::<JustLut<Val>>::new(&self.0.lut, Vars::new([envelope(message)]));
        let outputs = self.0.id.run((context, input)).map(unwrap_valr);
        outputs.collect::<Result<_, _>>().map_err(|error| Failure::reject(format!("program: {error}")))
    }
}

/// `$message`: id, queue, key, attempt, and headers (the last of each name).
fn envelope(message: &Message) -> Val {
    let text = |text: &str| Val::from(text.to_owned());
    let headers: Map = message.headers.iter().map(|(name, value)| (text(name), text(value))).collect();
    let fields = [
        ("id", text(&message.id)),
        ("queue", text(&message.queue)),
        ("key", message.key.as_deref().map_or(Val::Null, text)),
        ("attempt", Val::from(usize::try_from(message.attempt).unwrap_or(usize::MAX))),
        ("headers", Val::obj(headers)),
    ];
    Val::obj(fields.into_iter().map(|(name, value)| (text(name), value)).collect())
}

fn unparsed<P>(errors: &load::Errors<&str, P>) -> String {
    match errors.first().map(|(_, error)| error) {
        Some(load::Error::Lex(errors)) => {
            let found =
                errors.first().map(|(expected, rest)| format!("expected {} at {}", expected.as_str(), quote(rest)));
            found.unwrap_or_default()
        }
        Some(load::Error::Parse(errors)) => {
            let found =
                errors.first().map(|(expected, rest)| format!("expected {} at {}", expected.as_str(), quote(rest)));
            found.unwrap_or_default()
        }
        Some(load::Error::Io(_)) => "`include` and `import` have nothing to read from".to_owned(),
        None => "it cannot be read".to_owned(),
    }
}

fn undefined<P>(errors: &compile::Errors<&str, P>) -> String {
    let unknown = errors.iter().flat_map(|(_, unknown)| unknown);
    let unknown: Vec<_> = unknown.map(|(name, kind)| format!("no {} `{name}`", kind.as_str())).collect();
    unknown.join(", ")
}

fn quote(rest: &str) -> String {
    match rest.chars().take(QUOTE_CHARACTERS).collect::<String>() {
        rest if rest.is_empty() => "the end".to_owned(),
        rest => format!("`{rest}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, body: &str, expected: Result<&[&str], &str>) {
        let headers = vec![("source".into(), "shop".into())];
        let message = Message {
            id: "m1".into(),
            queue: "in".into(),
            headers,
            body: body.as_bytes().to_vec(),
            ..Message::default()
        };
        let found = Program::compile(code).map_err(Failure::reject).and_then(|program| program.run(&message));
        let found = found.map(|values| values.iter().map(ToString::to_string).collect::<Vec<_>>());
        let expected = expected.map(|values| values.iter().map(ToString::to_string).collect());
        assert_eq!(found, expected.map_err(Failure::reject), "{code}");
    }

    #[test]
    fn programs_map_filter_and_split() {
        check(
            "{id, sum: (.items | map(.price) | add)}",
            r#"{"id": 1, "items": [{"price": 2}, {"price": 3}]}"#,
            Ok(&[r#"{"id":1,"sum":5}"#]),
        );
        check("select(.open)", r#"{"open": false}"#, Ok(&[]));
        check(".[]", "[1, \"a\"]", Ok(&["1", "\"a\""]));
        check(r#"ascii_downcase | test("^a")"#, "\"ABC\"", Ok(&["true"]));
        check(".at | fromdateiso8601", r#"{"at": "2015-03-05T23:51:47Z"}"#, Ok(&["1425599507"]));
    }

    #[test]
    fn numbers_stay_what_they_are() {
        check(".", "[12345678901234567890123, 1.10]", Ok(&["[12345678901234567890123,1.10]"]));
    }

    #[test]
    fn the_message_is_a_variable() {
        check("[$message.id, $message.headers.source, $message.key]", "null", Ok(&[r#"["m1","shop",null]"#]));
    }

    #[test]
    fn wrong_input_is_rejected() {
        check("error(\"no customer\")", "null", Err("program: \"no customer\""));
        check(".a", "[]", Err("program: cannot index [] with \"a\""));
        check(".", "a,b", Err("the body is not JSON: byte offset 0: value expected"));
    }

    #[test]
    fn wrong_programs_are_explained() {
        check(".a | foo(1)", "null", Err("no filter `foo`"));
        check("$x", "null", Err("no variable `$x`"));
        check("{a: ", "null", Err("expected closing brace at the end"));
        check("1 +", "null", Err("expected term at the end"));
    }
}
