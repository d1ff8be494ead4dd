//! Keys of `webhook`: requests from outside.

use std::time::Duration;

use super::super::schema::Default::{Is, Required, Unset, Words};
use super::super::schema::{Key, Kind, Section};
use super::verify::VERIFY;
use super::{GIB, HOUR, MS, SECOND, YEAR};

pub(super) static WEBHOOK: Section = Section {
    about: "Requests from outside that become deliveries. They come in at `host.listen`; [Webhooks](webhooks.md) says what each is answered.",
    exactly_one: false,
    keys: &[
        Key::new(
            "path",
            Kind::Text,
            Required,
            "The whole path, as in `/hooks/shop`; `{name}` stands for one segment and is handed to the plugin.",
        ),
        Key::new("methods", Kind::List(&Kind::Method), Words("[\"POST\"]"), "Methods that requests may have."),
        Key::new("verify", Kind::ShortOrTable(&Kind::Choice(&["none"]), &VERIFY), Required, "Who may send."),
        Key::new(
            "respond",
            Kind::Choice(&["accepted", "connector"]),
            Is("accepted"),
            "`accepted`: stored, answered, and handled later with retries. `connector`: the plugin answers, in one run whose settlement is on disk before the answer leaves; there are no retries and no dead letters.",
        ),
        Key::new(
            "publish",
            Kind::Queue,
            Unset,
            "The queue that requests are stored in, where the connector's plugin is not to get them; none is needed then.",
        ),
        Key::new("accepted_status", Kind::Integer(200, 299), Is("202"), "The answer of `respond = \"accepted\"`."),
        Key::new(
            "timeout",
            Kind::Duration(MS, HOUR),
            Words("limits.wall"),
            "How long a sender waits for the plugin's answer; the run goes on and settles.",
        ),
        Key::new("concurrency", Kind::Integer(1, 4_096), Words("host.runs"), "Runs for requests at once."),
        Key::new(
            "dedup",
            Kind::Duration(SECOND, YEAR),
            Is("24h"),
            "Window in which a second request with the same event is a repeat: it is answered as the first was, and changes nothing.",
        ),
        Key::new("max_body", Kind::Size(0, GIB), Words("limits.message"), "Bytes of a body."),
        Key::new("rate", Kind::Rate, Unset, "Verified requests in a time; more are answered 429."),
        Key::new("cors", Kind::Table(&CORS), Unset, "Which pages in a browser may send requests."),
    ],
};

static CORS: Section = Section {
    about: "Which pages in a browser may send requests, as the Fetch standard has it.",
    exactly_one: false,
    keys: &[
        Key::new(
            "origins",
            Kind::List(&Kind::Text),
            Required,
            "Origins such as `https://shop.example`; `*` is every page.",
        ),
        Key::new("headers", Kind::List(&Kind::HeaderName), Unset, "Headers that a page may set."),
        Key::new(
            "max_age",
            Kind::Duration(Duration::ZERO, Duration::from_secs(86_400)),
            Is("10m"),
            "How long a browser may remember it.",
        ),
    ],
};
