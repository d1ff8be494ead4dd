//! Keys of `[host.otlp]`.

use super::super::schema::Default::{Is, Required, Unset};
use super::super::schema::{Key, Kind, Section};
use super::credential::{AUTH_BASIC, AUTH_HEADER};

pub(super) static HOST_OTLP: Section = Section {
    about: "Where traces go: a collector that takes OTLP over HTTP, in protobuf. Without the table none are made.",
    exactly_one: false,
    keys: &[
        Key::new(
            "url",
            Kind::Text,
            Required,
            "The collector, as in `http://127.0.0.1:4318`; `/v1/traces` is added where there is no path. A private address is fine.",
        ),
        Key::new(
            "sample",
            Kind::Number(0.0, 1.0),
            Is("1.0"),
            "Of the traces that begin here this part is recorded, by their ids. One that a sender has begun is recorded if it says so: of one webhook up to ten a second, beyond that by chance.",
        ),
        Key::new("headers", Kind::AnyTable, Unset, "Headers of each request, in the clear; no credentials."),
        Key::new("auth", Kind::Table(&HOST_OTLP_AUTH), Unset, "What the collector is shown."),
        Key::new(
            "resource",
            Kind::AnyTable,
            Unset,
            "What is said about the host beside `service.name`, `service.version` and `service.instance.id`, as in `{ \"deployment.environment.name\" = \"production\" }`.",
        ),
    ],
};

static HOST_OTLP_AUTH: Section = Section {
    about: "The credential for the collector: exactly one of these. It is in the clear on the way there unless `url` begins with `https`.",
    exactly_one: true,
    keys: &[
        Key::new("bearer", Kind::SecretName, Unset, "`Authorization: Bearer` and the secret's value."),
        Key::new("basic", Kind::Table(&AUTH_BASIC), Unset, "`Authorization: Basic`."),
        Key::new("header", Kind::Table(&AUTH_HEADER), Unset, "A header."),
    ],
};
