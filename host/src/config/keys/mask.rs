//! `[host.mask]`.

use super::super::schema::Default::Unset;
use super::super::schema::{Key, Kind, Section};

pub(in crate::config) static HOST_MASK: Section = Section {
    about: "What of messages is never shown, logged, audited or kept as history. The messages themselves stay whole.",
    exactly_one: false,
    keys: &[
        Key::new(
            "headers",
            Kind::List(&Kind::Text),
            Unset,
            "Names of headers whose values are masked, however a sender writes the name.",
        ),
        Key::new(
            "pointers",
            Kind::List(&Kind::Text),
            Unset,
            "Places of JSON bodies that are masked with all that is in them, as JSON pointers (RFC 6901); `*` is every element, and every member.",
        ),
    ],
};
