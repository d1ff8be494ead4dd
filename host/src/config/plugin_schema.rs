//! `config` of a connector against the JSON Schema that its plugin says it has.
//!
//! The schema is a stranger's: nothing is fetched for it, and one that would take long to follow is not followed. Values
//! are never repeated; what is allowed is. Invariant: a schema that cannot be used is a warning, and hinders nobody.

mod message;
mod weight;

use std::collections::BTreeSet;
use std::thread;

use boon::{Compiler, InstanceLocation, InstanceToken, Schemas, UrlLoader};
use serde_json::Value;

use super::document::join;
use super::problem::{Problem, Severity, suggestion};
use super::{Connector, Loaded};
use message::{Misfit, goes_round, misfits_of};
use weight::Weight;

/// What the schema is called while it is followed; nothing is there.
const LOCATION: &str = "bulkhead:plugin";
/// Deep enough for every schema that [`weight`] lets through.
const STACK_BYTES: usize = 64 << 20;

impl Loaded {
    /// What the schema of their plugin does not allow of the `config` of these connectors, each at its place in the TOML.
    #[must_use]
    pub fn misfits(&self, connectors: &[&Connector], schema: &str) -> Vec<Problem> {
        let schema = match parse(schema) {
            Ok(schema) => schema,
            Err(why) => return connectors.iter().map(|connector| self.unused(&path_of(connector), &why)).collect(),
        };
        let configs: Vec<Value> = connectors.iter().map(|it| Value::Object(it.config.clone())).collect();
        let mut problems = Vec::new();
        for (connector, answer) in connectors.iter().zip(check(&schema, &configs)) {
            let path = path_of(connector);
            match answer {
                Ok(misfits) => {
                    problems.extend(misfits.into_iter().map(|misfit| self.problem_of(&path, misfit)));
                    let strangers = strangers(&schema, &connector.config).into_iter();
                    problems.extend(strangers.map(|(key, help)| self.stranger(&path, &key, help)));
                }
                Err(why) => problems.push(self.unused(&path, &why)),
            }
        }
        problems
    }

    fn unused(&self, path: &str, why: &str) -> Problem {
        let message = format!("the plugin's schema of its `config` is not used: {why}");
        self.warning(path, message, "what is wrong in `config` shows when the plugin runs")
    }

    fn problem_of(&self, path: &str, misfit: Misfit) -> Problem {
        let at = misfit.tokens.iter().fold(path.to_owned(), |path, token| match token {
            message::Token::Key(key) => join(&path, key),
            message::Token::Item(index) => format!("{path}[{index}]"),
        });
        let (key, of) = match &misfit.key {
            Some(key) => (join(&at, key), if misfit.is_missing { at } else { join(&at, key) }),
            None => return self.problem(&at, misfit.message, misfit.help),
        };
        self.at_key(Severity::Error, &of, &key, misfit.message, misfit.help)
    }

    fn stranger(&self, path: &str, key: &str, help: String) -> Problem {
        let key = join(path, key);
        self.at_key(Severity::Warning, &key, &key, "the plugin knows no such key".into(), help)
    }
}

fn path_of(connector: &Connector) -> String {
    format!("connectors.{}.config", connector.name)
}

/// What is wrong with one config, or why nobody knows.
type Answer = Result<Vec<Misfit>, String>;

fn parse(schema: &str) -> Result<Value, String> {
    serde_json::from_str(schema).map_err(|error| format!("it is no JSON: {error}"))
}

/// Nothing is fetched.
struct Nowhere;

impl UrlLoader for Nowhere {
    fn load(&self, _url: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err("it names another schema".into())
    }
}

/// On a thread of its own, whose stack is as deep as the schema may be; a panic of the validator is an answer too.
fn check(schema: &Value, configs: &[Value]) -> Vec<Answer> {
    let nobody_knows = |why: String| configs.iter().map(|_| Err(why.clone())).collect();
    let weight = match Weight::of(schema) {
        Ok(weight) => weight,
        Err(why) => return nobody_knows(why),
    };
    let followed = thread::scope(|scope| {
        let follow = || follow(schema, &weight, configs);
        let following = thread::Builder::new()
            .name("bulkhead-schema".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, follow);
        let following = following.map_err(|error| error.to_string())?;
        following.join().unwrap_or_else(|_| Err("it cannot be followed".into()))
    });
    followed.unwrap_or_else(nobody_knows)
}

fn follow(schema: &Value, weight: &Weight, configs: &[Value]) -> Result<Vec<Answer>, String> {
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.use_loader(Box::new(Nowhere));
    compiler.add_resource(LOCATION, schema.clone()).map_err(|error| error.to_string())?;
    let index = compiler.compile(LOCATION, &mut schemas).map_err(|error| error.to_string())?;
    let answer = |config| {
        weight.suits(config)?;
        match schemas.validate(config, index) {
            Ok(()) => Ok(Vec::new()),
            Err(error) if goes_round(&error) => Err("it leads back to itself".to_owned()),
            Err(error) => Ok(misfits_of(&error, schema, config)),
        }
    };
    Ok(configs.iter().map(answer).collect())
}

/// The way to a value, without borrowing from it.
fn tokens(location: &InstanceLocation<'_>) -> Vec<message::Token> {
    let token = |token: &InstanceToken<'_>| match token {
        InstanceToken::Prop(key) => message::Token::Key(key.to_string()),
        InstanceToken::Item(index) => message::Token::Item(*index),
    };
    location.tokens.iter().map(token).collect()
}

/// Keys that a simple schema does not name and does not forbid: most likely misspelt, each with what may be meant.
fn strangers(schema: &Value, config: &serde_json::Map<String, Value>) -> Vec<(String, String)> {
    let open =
        ["additionalProperties", "patternProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "$ref"];
    let known = schema.get("properties").and_then(Value::as_object);
    let Some(known) = known.filter(|_| open.iter().all(|key| schema.get(key).is_none())) else { return Vec::new() };
    let known: BTreeSet<&str> = known.keys().map(String::as_str).collect();
    let names: Vec<&str> = known.iter().copied().collect();
    let strange = config.keys().filter(|key| !known.contains(key.as_str()));
    strange.map(|key| (key.clone(), suggestion(key, &names))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_only(schema: &Value, config: &Value) -> Answer {
        check(schema, std::slice::from_ref(config)).remove(0)
    }

    fn found(schema: &Value, config: &Value) -> Vec<(String, String, String)> {
        let found = check_only(schema, config).unwrap_or_else(|why| panic!("{why}"));
        let way = |misfit: &Misfit| {
            let tokens = misfit.tokens.iter().map(|token| match token {
                message::Token::Key(key) => key.clone(),
                message::Token::Item(index) => index.to_string(),
            });
            tokens.chain(misfit.key.clone()).collect::<Vec<_>>().join("/")
        };
        found.into_iter().map(|misfit| (way(&misfit), misfit.message.clone(), misfit.help)).collect()
    }

    fn check_one(schema: &Value, config: &Value, expected: [&str; 3]) {
        assert_eq!(found(schema, config), [(expected[0].into(), expected[1].into(), expected[2].into())]);
    }

    #[test]
    fn a_misfit_says_what_is_allowed_and_repeats_nothing() {
        let number = json!({ "properties": { "a": { "type": "integer", "minimum": 1 } } });
        check_one(&number, &json!({ "a": "s3cret" }), ["a", "expected a whole number, found a string", ""]);
        check_one(&number, &json!({ "a": 0 }), ["a", "out of range", "use at least 1"]);
        let word = json!({ "properties": { "a": { "enum": ["get", "post"] } } });
        check_one(
            &word,
            &json!({ "a": "pst" }),
            ["a", "not one of the choices", "did you mean `post`? allowed: get, post"],
        );
        let open =
            json!({ "$ref": "#/$defs/t", "$defs": { "t": { "properties": { "url": {} }, "required": ["url"] } } });
        let help = "the plugin needs it; `bulkhead inspect PLUGIN` shows its schema";
        check_one(&open, &json!({}), ["url", "missing", help]);
        let closed = json!({ "properties": { "url": {} }, "additionalProperties": false });
        check_one(&closed, &json!({ "ulr": 1 }), ["ulr", "unknown key", "did you mean `url`? allowed: url"]);
        let listed = json!({ "properties": { "a": { "items": { "type": "string", "pattern": "^x" } } } });
        check_one(
            &listed,
            &json!({ "a": ["x", "y"] }),
            ["a/1", "not of the form that the plugin takes", "the pattern is `^x`"],
        );
    }

    #[test]
    fn of_several_forms_the_one_that_was_meant_counts() {
        let perhaps = json!({ "properties": { "a": { "anyOf": [
            { "type": "object", "properties": { "b": { "type": "boolean" } } }, { "type": "null" },
        ] } } });
        check_one(&perhaps, &json!({ "a": { "b": 1 } }), ["a/b", "expected true or false, found a number", ""]);
        check_one(&perhaps, &json!({ "a": 1 }), ["a", "expected a table, found a number", ""]);
        let tagged = json!({ "oneOf": [
            { "properties": { "kind": { "const": "a" }, "n": { "type": "integer" } }, "required": ["kind", "n"] },
            { "properties": { "kind": { "const": "b" }, "s": { "type": "string" } }, "required": ["kind", "s"] },
        ] });
        check_one(&tagged, &json!({ "kind": "b", "s": 1 }), ["s", "expected a string, found a number", ""]);
    }

    #[test]
    fn a_schema_that_would_take_long_is_not_followed() {
        let doubling = |index: usize| {
            let next = json!({ "$ref": format!("#/$defs/n{}", index + 1) });
            (format!("n{index}"), json!({ "anyOf": [next, next] }))
        };
        let mut tables: serde_json::Map<String, Value> = (0..60).map(doubling).collect();
        tables.insert("n60".into(), json!({ "type": "string" }));
        let wide = json!({ "$ref": "#/$defs/n0", "$defs": tables });
        let back = json!({ "properties": { "a": { "$ref": "#" } } });
        let many = json!({ "anyOf": vec![back.clone(); 1_000] });
        let again = json!({ "anyOf": vec![json!({ "$ref": "#/$defs/a" }); 1_000], "$defs": { "a": back } });
        let chain = |index: usize| (format!("n{index}"), json!({ "$ref": format!("#/$defs/n{}", index + 1) }));
        let mut tables: serde_json::Map<String, Value> = (0..20_000).map(chain).collect();
        tables.insert("n20000".into(), json!({}));
        let deep = json!({ "$ref": "#/$defs/n0", "$defs": tables });
        let patterns = json!({ "allOf": vec![json!({ "pattern": "\\w{500}" }); 1_000] });
        let far = json!({ "$ref": "file:///etc/hostname" });
        let config = json!({ "a": { "a": { "a": { "a": 1 } } } });
        for schema in [&wide, &many, &again, &deep, &patterns, &far] {
            assert!(check_only(schema, &config).is_err(), "{schema}");
        }
        assert!(check_only(&json!({ "$ref": "#/$defs/none" }), &config).is_err());
        assert!(check_only(&json!({ "$ref": "#" }), &config).is_err());
        let recursive = json!({ "properties": { "a": { "$ref": "#" } } });
        assert_eq!(found(&recursive, &config), []);
    }

    #[test]
    fn keys_that_an_open_schema_does_not_name_are_strangers() {
        let schema = json!({ "properties": { "query": {} } });
        let config = json!({ "querry": 1, "query": 2 });
        let found = strangers(&schema, config.as_object().expect("it is one"));
        assert_eq!(found, [("querry".to_owned(), "did you mean `query`? allowed: query".to_owned())]);
        assert_eq!(strangers(&json!({}), config.as_object().expect("it is one")), []);
    }
}
