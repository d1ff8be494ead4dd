//! Keys of what a sandbox and a call may use, and of what compiling a plugin may.

use super::super::schema::Default::{Is, Words};
use super::super::schema::{Key, Kind, Section};
use super::{GIB, HOUR, KIB, MIB, MS};
use crate::limit::{MESSAGE_BYTES_MAX, PLUGIN_BYTES_MAX};

pub(super) static HOST_COMPILE: Section = Section {
    about: "What compiling a plugin may use, which is done in a process of its own; a plugin over one of these is refused. Built-in plugins have none of it.",
    exactly_one: false,
    keys: &[
        Key::new("memory", Kind::Size(512 * MIB, 64 * GIB), Is("2GiB"), "Address space of the process."),
        Key::new(
            "time",
            Kind::Duration(MS, HOUR),
            Is("60s"),
            "Processor time of the process. However busy the machine is, it is ended after this and two minutes more.",
        ),
        Key::new("size", Kind::Size(KIB, PLUGIN_BYTES_MAX), Is("32MiB"), "Bytes of the plugin."),
    ],
};

pub(super) static LIMITS: Section = Section {
    about: "What a sandbox and a call may use; a metric names the limit that bit.",
    exactly_one: false,
    keys: &[
        Key::new(
            "memory",
            Kind::Size(64 * KIB, 4 * GIB),
            Is("64MiB"),
            "Linear memories and tables of a sandbox together.",
        ),
        Key::new("cpu", Kind::Duration(MS, HOUR), Is("5s"), "CPU time of a call."),
        Key::new("wall", Kind::Duration(MS, HOUR), Is("30s"), "Time of a call, waiting included."),
        Key::new(
            "message",
            Kind::Size(1, MESSAGE_BYTES_MAX),
            Is("1MiB"),
            "The largest message that the connector takes.",
        ),
        Key::new("publishes", Kind::Integer(0, 1_000_000), Is("10000"), "Messages published by a call."),
        Key::new("publish_bytes", Kind::Size(0, GIB), Is("32MiB"), "Bytes published by a call."),
        Key::new("handles", Kind::Integer(1, 100_000), Is("1000"), "Resource handles held by a sandbox."),
        Key::new("log", Kind::Size(0, 64 * MIB), Is("256KiB"), "Bytes logged by a call; more is dropped and counted."),
        Key::new(
            "log_rate",
            Kind::Rate,
            Is("6000/m"),
            "Lines logged in a time by the connector, all of its calls together: up to that many at once, then evenly; more is dropped and counted.",
        ),
        Key::new(
            "requests",
            Kind::Integer(0, 100_000),
            Is("1000"),
            "HTTP requests of a call; those that are refused count too.",
        ),
        Key::new("requests_at_once", Kind::Integer(1, 1_024), Is("16"), "HTTP requests under way in the connector."),
        Key::new("request_bytes", Kind::Size(0, GIB), Is("8MiB"), "Bytes of a request's body."),
        Key::new("response_bytes", Kind::Size(0, GIB), Is("16MiB"), "Bytes of a response's body after decompression."),
        Key::new("state", Kind::Size(0, GIB), Is("64MiB"), "Bytes of all keys and values of the connector's state."),
        Key::new(
            "state_keys",
            Kind::Integer(0, 100_000),
            Is("10000"),
            "Keys of the connector's state; a call may touch twice as many, those that are not there included.",
        ),
        Key::new(
            "hostcall",
            Kind::Size(64 * KIB, 64 * MIB),
            Words("twice `limits.message` and 1MiB"),
            "Bytes that one call of the host copies from the sandbox.",
        ),
    ],
};
