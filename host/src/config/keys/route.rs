//! Keys of `[routes.X]`.

use super::super::schema::Default::{Required, Unset, Words};
use super::super::schema::{Key, Kind, Section};

pub(super) static ROUTE: Section = Section {
    about: "Messages that one queue accepts are copied into others, in the same transaction: a redelivery that publishes a message again makes the same copies, and a copy counts as one hop of 32. While one of the others is full, the queue takes no new messages from outside, and connectors that may publish to it are held.",
    exactly_one: false,
    keys: &[
        Key::new("from", Kind::Queue, Required, "The queue."),
        Key::new("to", Kind::OneOrList(&Kind::Queue), Required, "Where copies go."),
        Key::new("when", Kind::Table(&WHEN), Words("all messages"), "Which messages are copied."),
    ],
};

static WHEN: Section = Section {
    about: "One of `header` and `pointer`, with `equals`, with `matches`, or with neither: then it is enough that it is there.",
    exactly_one: false,
    keys: &[
        Key::new("header", Kind::HeaderName, Unset, "A header of the message; of several with the name one is enough."),
        Key::new(
            "pointer",
            Kind::Text,
            Unset,
            "A place in the body, as a JSON pointer such as `/order/total`. A body that is no JSON is not copied.",
        ),
        Key::new("equals", Kind::Any, Unset, "The value."),
        Key::new(
            "matches",
            Kind::Text,
            Unset,
            "What its text, or its JSON, is like: `*` stands for any characters, also none.",
        ),
    ],
};
