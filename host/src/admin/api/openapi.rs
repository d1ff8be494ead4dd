//! The OpenAPI document of the API, made from the types that its handlers read and answer.
//!
//! Every route says in the table of [`super`] what it takes and answers; this puts it into the form of OpenAPI 3.1.
//! Invariant: a route that is in the table is in the document.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::query::{Asked, Nothing};
use super::{ROUTES, operations};
use crate::admin::problem::Document;
use crate::audit;
use crate::feed::{Delivered, HeldChange, LogEvent, Lost, Reloaded};

/// What is true of every route.
const ABOUT: &str = "What a running host answers on its admin listener. Every request carries the token that lies in \
`DATA_DIR/admin.token`; errors are problem documents (RFC 9457). Times are RFC 3339 in UTC. A list that can grow comes \
in pages: what one gives as its `next` is the `after` of the request for the one that follows. A key of a query that is \
not named here is refused.";

type Schema = fn(&mut SchemaGenerator) -> schemars::Schema;

/// What a route takes and answers.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    summary: &'static str,
    query: Option<Schema>,
    takes: Option<Schema>,
    takes_lines: bool,
    answer: Answer,
}

#[derive(Clone, Copy)]
enum Answer {
    Nothing,
    Json(Schema),
    /// Bytes of this media type.
    Bytes(&'static str),
    Events,
}

/// A route that takes nothing and answers nothing.
pub(super) fn op(summary: &'static str) -> Operation {
    Operation { summary, query: None, takes: None, takes_lines: false, answer: Answer::Nothing }
}

impl Operation {
    /// It answers this as JSON.
    pub(super) fn answers<T: JsonSchema>(self) -> Self {
        Self { answer: Answer::Json(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// It answers bytes of this media type.
    pub(super) fn answers_bytes(self, media_type: &'static str) -> Self {
        Self { answer: Answer::Bytes(media_type), ..self }
    }

    /// It answers events for as long as the reader stays.
    pub(super) fn answers_events(self) -> Self {
        Self { answer: Answer::Events, ..self }
    }

    /// Its query is read as this.
    pub(super) fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(T::json_schema), ..self }
    }

    /// Its body is this as JSON.
    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        Self { takes: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// Its body may also be many of these, one a line.
    pub(super) fn or_lines(self) -> Self {
        Self { takes_lines: true, ..self }
    }
}

/// The document.
#[must_use]
pub fn document() -> Value {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    let mut reading = SchemaGenerator::new(settings().for_deserialize());
    let mut answering = SchemaGenerator::new(settings().for_serialize());
    let mut paths = Map::new();
    for ((method, path), operation) in ROUTES.iter().zip(operations()) {
        let route = paths.entry(*path).or_insert_with(|| json!({}));
        route[method.to_lowercase()] = operation.describe(method, path, &mut reading, &mut answering);
    }
    let problem = answering.subschema_for::<Document>();
    let mut schemas = answering.take_definitions(true);
    schemas.extend(reading.take_definitions(true));
    let problem = json!({
        "description": "What went wrong, and what to do about it.",
        "content": { "application/problem+json": { "schema": problem } },
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bulkhead",
            "summary": "The admin API of a Bulkhead host",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/api/v1" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": { "Problem": problem },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

impl Operation {
    fn describe(
        &self,
        method: &str,
        path: &str,
        reading: &mut SchemaGenerator,
        answering: &mut SchemaGenerator,
    ) -> Value {
        let mut described = json!({ "operationId": id(method, path), "summary": self.summary });
        let mut parameters: Vec<Value> = path_parameters(path).map(in_path).collect();
        parameters.extend(self.query.iter().flat_map(|query| in_query(query(reading).as_value())));
        if !parameters.is_empty() {
            described["parameters"] = parameters.into();
        }
        if matches!(method, "POST" | "PUT") {
            described["requestBody"] = self.body(reading);
        }
        described["responses"] = self.responses(method, path, answering);
        described
    }

    /// Without a schema the body is empty; its type has to be JSON all the same, which no form can send.
    fn body(&self, reading: &mut SchemaGenerator) -> Value {
        let Some(takes) = self.takes else {
            return json!({
                "description": "Nothing is read of it, but its type has to be `application/json`.",
                "content": { "application/json": {} },
            });
        };
        let schema = takes(reading);
        let mut content = json!({ "application/json": { "schema": schema } });
        if self.takes_lines {
            let what = "Many of them, one JSON object a line.";
            content["application/x-ndjson"] = json!({ "schema": { "type": "string", "description": what } });
        }
        json!({ "required": true, "content": content })
    }

    fn responses(&self, method: &str, path: &str, answering: &mut SchemaGenerator) -> Value {
        let problem = || json!({ "$ref": "#/components/responses/Problem" });
        let mut responses = json!({ "401": problem(), "403": problem(), "421": problem(), "default": problem() });
        if matches!(method, "POST" | "PUT") {
            responses["415"] = problem();
        }
        if self.query.is_some() || self.takes.is_some() {
            responses["400"] = problem();
        }
        if path.contains('{') {
            responses["404"] = problem();
        }
        let content = match self.answer {
            Answer::Nothing => {
                responses["204"] = json!({ "description": "It is done." });
                return responses;
            }
            Answer::Json(schema) => json!({ "application/json": { "schema": schema(answering) } }),
            Answer::Bytes(media_type) => {
                json!({ media_type: { "schema": { "type": "string", "contentMediaType": media_type } } })
            }
            Answer::Events => json!({ "text/event-stream": { "schema": events(answering) } }),
        };
        responses["200"] = json!({ "description": self.summary, "content": content });
        responses
    }
}

/// Of each event the type of its data, under its name.
fn events(answering: &mut SchemaGenerator) -> Value {
    let data = json!({
        "delivery": answering.subschema_for::<Delivered>(),
        "held": answering.subschema_for::<HeldChange>(),
        "log": answering.subschema_for::<LogEvent>(),
        "audit": answering.subschema_for::<audit::Written>(),
        "reload": answering.subschema_for::<Reloaded>(),
        "lost": answering.subschema_for::<Lost>(),
    });
    json!({ "type": "string", "description": "Server-sent events; the data of each is one JSON object.", "x-events": data })
}

/// As in `get_connectors_name_logs`.
fn id(method: &str, path: &str) -> String {
    let words = path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty());
    words.fold(method.to_lowercase(), |id, word| id + "_" + word)
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

/// A query's fields, one parameter each.
fn in_query(schema: &Value) -> Vec<Value> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        // Who leaves a key out leaves it out: there is no null in a query.
        if let Some(types) = schema["type"].as_array().and_then(|types| types.first()).cloned() {
            schema["type"] = types;
        }
        let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
        if let Some(description) = description {
            parameter["description"] = description;
        }
        parameter
    };
    fields.map(parameter).collect()
}

pub(super) async fn show(Asked(_): Asked<Nothing>) -> impl IntoResponse {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}
