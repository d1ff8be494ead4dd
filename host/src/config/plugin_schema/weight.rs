//! How much work a schema makes, found out without following it.
//!
//! Invariant: what is let through ends soon and on a bounded stack, for the config that it was weighed for.

use std::collections::BTreeMap;

use serde_json::Value;

/// Tables of a schema one below the other, references included.
const DEPTH_MAX: u32 = 100;
/// Steps; real schemas take some thousands.
const STEPS_MAX: u64 = 1_000_000;
/// Each may take some megabytes once it is compiled.
const PATTERNS_MAX: usize = 32;
/// Values of these are no schemas.
const DATA: [&str; 6] = ["enum", "const", "default", "examples", "required", "description"];
/// Under these lie schemas by their names.
const NAMED: [&str; 3] = ["properties", "patternProperties", "dependentSchemas"];
/// What makes a reference lead to another place than is seen from here.
const ELSEWHERE: [&str; 6] = ["$id", "$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor", "$anchor"];
/// Before it, `id` did the same.
const DRAFT_TOO_OLD: &str = "draft-04";

/// What following a schema takes.
pub(super) struct Weight {
    steps: u64,
    /// Ways in it that lead back to where they begin.
    circles: u64,
}

impl Weight {
    /// Says why a schema is not followed.
    pub(super) fn of(schema: &Value) -> Result<Self, String> {
        if schema.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains(DRAFT_TOO_OLD)) {
            return Err("it is older than draft 6".into());
        }
        let mut scale = Scale { root: schema, seen: BTreeMap::new(), patterns: 0 };
        let whole = scale.weigh(schema, 0)?;
        Ok(Self { steps: whole.steps, circles: whole.circles })
    }

    /// Says why it is not followed for this config: each circle is gone around once for every level, and may branch there.
    pub(super) fn suits(&self, config: &Value) -> Result<(), String> {
        let around = self.circles.saturating_pow(depth_of(config)).max(1);
        if self.steps.saturating_mul(around) > STEPS_MAX { Err("it is too intricate".into()) } else { Ok(()) }
    }
}

/// A part of a schema.
#[derive(Clone, Copy, Default)]
struct Part {
    steps: u64,
    depth: u32,
    circles: u64,
}

impl Part {
    fn add(&mut self, part: Self) {
        self.steps = self.steps.saturating_add(part.steps);
        self.depth = self.depth.max(part.depth.saturating_add(1));
        self.circles = self.circles.saturating_add(part.circles);
    }
}

struct Scale<'a> {
    root: &'a Value,
    /// By reference; `None` while it is being weighed.
    seen: BTreeMap<&'a str, Option<Part>>,
    patterns: usize,
}

impl<'a> Scale<'a> {
    fn weigh(&mut self, schema: &'a Value, depth: u32) -> Result<Part, String> {
        if depth > DEPTH_MAX {
            return Err("it is too deep".into());
        }
        let mut whole = Part { steps: 1, depth: 1, circles: 0 };
        match schema {
            Value::Object(table) => {
                for (key, value) in table {
                    whole.add(self.keyword(key, value, depth)?);
                }
            }
            Value::Array(items) => {
                for item in items {
                    whole.add(self.weigh(item, depth + 1)?);
                }
            }
            _ => {}
        }
        if whole.depth > DEPTH_MAX { Err("it is too deep".into()) } else { Ok(whole) }
    }

    fn keyword(&mut self, key: &'a str, value: &'a Value, depth: u32) -> Result<Part, String> {
        match (key, value) {
            ("$ref", Value::String(to)) => return self.refer(to, depth),
            // Weighed where something refers to them.
            ("$defs" | "definitions", _) => return Ok(Part::default()),
            ("$id", Value::String(_)) if depth == 0 => return Ok(Part::default()),
            ("pattern", Value::String(_)) => self.patterns += 1,
            ("patternProperties", Value::Object(patterns)) => self.patterns += patterns.len(),
            (key, Value::String(_)) if ELSEWHERE.contains(&key) => return Err(format!("it uses `{key}`")),
            (key, _) if DATA.contains(&key) => return Ok(Part::default()),
            _ => {}
        }
        if self.patterns > PATTERNS_MAX {
            return Err(format!("it has more than {PATTERNS_MAX} patterns"));
        }
        match value {
            Value::Object(schemas) if NAMED.contains(&key) => {
                let mut whole = Part { steps: 1, depth: 1, circles: 0 };
                for schema in schemas.values() {
                    whole.add(self.weigh(schema, depth + 1)?);
                }
                Ok(whole)
            }
            _ => self.weigh(value, depth + 1),
        }
    }

    fn refer(&mut self, to: &'a str, depth: u32) -> Result<Part, String> {
        match self.seen.get(to) {
            Some(Some(weight)) => return Ok(*weight),
            Some(None) => return Ok(Part { steps: 1, depth: 1, circles: 1 }),
            None => {}
        }
        let pointer = to.strip_prefix('#').ok_or("it names another schema")?;
        let root = self.root;
        let target = root.pointer(pointer).ok_or("it refers to what is not there")?;
        self.seen.insert(to, None);
        let weight = self.weigh(target, depth + 1)?;
        self.seen.insert(to, Some(weight));
        Ok(weight)
    }
}

fn depth_of(value: &Value) -> u32 {
    match value {
        Value::Object(table) => 1 + table.values().map(depth_of).max().unwrap_or_default(),
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or_default(),
        _ => 1,
    }
}
