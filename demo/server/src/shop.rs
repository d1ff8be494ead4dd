//! The shop's API: orders by time of change, in pages that a `Link` header chains, with ETags and a request limit.
//!
//! A page names the next one by a time, not by a position, so that a record which changes between two pages is not
//! skipped. The orders do not exist all at once: a third is there at the start, the others come in while the demo runs.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;

use crate::order::{self, Status, Version};

/// In which the orders after the first third come in.
const COMING_IN: Duration = Duration::from_secs(6);
/// They come in so many bursts; between two of them nothing is new, and the API can say so.
const BURSTS: f64 = 4.0;
/// In which a client may send [`REQUESTS_MAX`].
const WINDOW: Duration = Duration::from_secs(2);
/// Requests in a [`WINDOW`].
const REQUESTS_MAX: u32 = 6;
/// All orders fit into this many pages.
const PAGES: usize = 12;
/// The smallest page.
const PAGE_MIN: usize = 10;

/// What the API has answered so far.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Answers {
    requests: u32,
    pages: u32,
    not_modified: u32,
    rate_limited: u32,
    unauthorized: u32,
    records: usize,
    versions: usize,
}

/// One answer of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Headers beside `content-type`.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Its body; empty where the status says all.
    pub(crate) body: String,
}

/// What a request asks for.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// Whether it brought the token.
    pub(crate) authorized: bool,
    /// The shop's own address, for links.
    pub(crate) base: &'a str,
    /// `updated_since`, inclusive.
    pub(crate) since: &'a str,
    /// `If-None-Match`.
    pub(crate) etag: Option<&'a str>,
}

/// The shop.
#[derive(Debug)]
pub(crate) struct Shop(Mutex<Book>);

#[derive(Debug)]
struct Book {
    orders: u32,
    opened: Option<Instant>,
    window: Option<(Instant, u32)>,
    released: u32,
    /// Every change so far; its place gives its time. The last change of an order is what the API shows.
    changes: Vec<Version>,
    served: HashSet<Version>,
    answers: Answers,
}

impl Shop {
    /// A shop that will have this many orders.
    pub(crate) fn open(orders: u32) -> Self {
        Self(Mutex::new(Book {
            orders,
            opened: None,
            window: None,
            released: 0,
            changes: Vec::new(),
            served: HashSet::new(),
            answers: Answers::default(),
        }))
    }

    /// `GET /v1/orders`.
    pub(crate) fn answer(&self, question: &Question<'_>, now: Instant) -> Answer {
        let mut book = self.lock();
        book.answers.requests += 1;
        if !question.authorized {
            book.answers.unauthorized += 1;
            return Answer::empty(StatusCode::UNAUTHORIZED).with("www-authenticate", "Bearer".to_owned());
        }
        if let Some(wait) = book.over_limit(now) {
            book.answers.rate_limited += 1;
            return Answer::empty(StatusCode::TOO_MANY_REQUESTS).with("retry-after", wait.to_string());
        }
        book.release(now);
        book.page(question)
    }

    /// The warehouse has taken this version: some orders change then.
    pub(crate) fn taken(&self, version: Version) {
        if let Some(next) = version.next() {
            self.lock().changes.push(next);
        }
    }

    /// What the API has answered so far.
    pub(crate) fn answers(&self) -> Answers {
        let book = self.lock();
        Answers { versions: book.served.len(), ..book.answers.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl Book {
    /// Seconds to wait, when the window's requests are spent.
    fn over_limit(&mut self, now: Instant) -> Option<u64> {
        let (since, requests) = self.window.filter(|(since, _)| now < *since + WINDOW).unwrap_or((now, 0));
        self.window = Some((since, requests + 1));
        let left = (since + WINDOW).saturating_duration_since(now);
        (requests >= REQUESTS_MAX).then(|| left.as_secs() + 1)
    }

    /// Lets in the orders that have come by now.
    fn release(&mut self, now: Instant) {
        let opened = *self.opened.get_or_insert(now);
        let first = self.orders / 3;
        let share = (now.saturating_duration_since(opened).as_secs_f64() / COMING_IN.as_secs_f64()).min(1.0);
        let later = f64::from(self.orders - first) * (share * BURSTS).floor() / BURSTS;
        let due =
            (1..=self.orders).take_while(|number| f64::from(*number) <= f64::from(first) + later).last().unwrap_or(0);
        for number in self.released + 1..=due {
            self.changes.push(Version { number, status: Status::Paid });
        }
        self.released = self.released.max(due);
    }

    fn page(&mut self, question: &Question<'_>) -> Answer {
        let size = PAGE_MIN.max((self.orders as usize).div_ceil(PAGES));
        let superseded: HashSet<u32> =
            self.changes.iter().filter(|change| change.status == Status::Shipped).map(|change| change.number).collect();
        let current = |change: &Version| change.status == Status::Shipped || !superseded.contains(&change.number);
        let mut rest = (self.changes.iter().enumerate())
            .map(|(change, version)| (order::time_of_change(change), *version))
            .filter(|(time, version)| time.as_str() >= question.since && current(version));
        let page: Vec<(String, Version)> = rest.by_ref().take(size).collect();
        let next = rest.next().map(|(time, _)| time);
        drop(rest);
        let records: Vec<_> = page.iter().map(|(time, version)| version.record(time)).collect();
        let body = json!({ "orders": records }).to_string();
        let etag = etag_of(&body, next.as_deref());
        if question.etag == Some(etag.as_str()) {
            self.answers.not_modified += 1;
            return Answer::empty(StatusCode::NOT_MODIFIED).with("etag", etag);
        }
        self.answers.pages += 1;
        self.answers.records += page.len();
        self.served.extend(page.iter().map(|(_, version)| *version));
        let mut answer = Answer { status: StatusCode::OK, headers: vec![("etag", etag)], body };
        if let Some(next) = next {
            answer = answer.with("link", format!("<{}/v1/orders?updated_since={next}>; rel=\"next\"", question.base));
        }
        answer
    }
}

fn etag_of(body: &str, next: Option<&str>) -> String {
    let mut hasher = DefaultHasher::new();
    (body, next).hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "http://shop";

    fn ask(shop: &Shop, since: &str, etag: Option<&str>, now: Instant) -> Answer {
        shop.answer(&Question { authorized: true, base: BASE, since, etag }, now)
    }

    fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn links_lead_through_all_orders_once() {
        let shop = Shop::open(25);
        let start = Instant::now();
        ask(&shop, "", None, start);
        let (mut now, mut since, mut seen) = (start + COMING_IN, String::new(), 0);
        loop {
            let answer = ask(&shop, &since, None, now);
            seen +=
                serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()["orders"].as_array().unwrap().len();
            let Some(link) = header(&answer, "link") else { break };
            since = link.split("updated_since=").nth(1).unwrap().split('>').next().unwrap().to_owned();
            now += WINDOW;
        }
        assert_eq!(seen, 25);
    }

    #[test]
    fn an_unchanged_page_answers_304() {
        let shop = Shop::open(3);
        let now = Instant::now();
        let first = ask(&shop, "", None, now);
        let again = ask(&shop, "", header(&first, "etag"), now);
        assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn a_request_too_many_of_a_window_waits_for_the_next_one() {
        let shop = Shop::open(3);
        let now = Instant::now();
        let statuses: Vec<u16> = (0..=REQUESTS_MAX).map(|_| ask(&shop, "", None, now).status.as_u16()).collect();
        assert_eq!(statuses.last(), Some(&429));
        assert_eq!(ask(&shop, "", None, now + WINDOW).status, StatusCode::OK);
    }

    #[test]
    fn a_shipped_order_moves_to_the_end_of_the_book() {
        let shop = Shop::open(10);
        let start = Instant::now();
        ask(&shop, "", None, start);
        ask(&shop, "", None, start + COMING_IN);
        shop.taken(Version { number: 10, status: Status::Paid });
        let body = ask(&shop, "", None, start + COMING_IN).body;
        let orders = serde_json::from_str::<serde_json::Value>(&body).unwrap()["orders"].as_array().unwrap().clone();
        assert_eq!(orders.len(), 10);
        assert_eq!(orders[9]["status"], "shipped");
    }
}
