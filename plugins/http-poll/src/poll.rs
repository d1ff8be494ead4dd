//! The loop of a tick: page after page, within bounds, so that a long pass takes several ticks and always gets on.
//!
//! What a page holds is published before the next is asked for. Trouble at a later page ends the tick well, with the
//! position kept: failing it would throw away the pages before, again and again. Trouble at the first page fails it; a
//! kept position that the API does not know any more (a cursor that has expired) is given up for the first page.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bulkhead_sdk::{Failure, http, log, queue};

use crate::page::{Paging, Position, Seen};
use crate::progress::{Progress, Resume, Tag};
use crate::record::{self, Record};
use crate::settings::Config;
use crate::slice;

/// Pages of a tick: half the requests that a call may send by default, also with every page tried twice.
const PAGES_MAX: usize = 250;
/// Records of a tick, below the default of `limits.publishes` by a large page.
const RECORDS_MAX: usize = 5_000;
/// Bytes of a tick, below the default of `limits.publish_bytes` by the largest answer.
const BYTES_MAX: usize = 15 * 1024 * 1024;
/// No further page is asked for after this, a third of the default of `limits.wall`.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Pages whose `ETag` is kept, and the size of each: a value of the state holds 1 MiB.
const TAGS_MAX: usize = 250;
const TAG_BYTES_MAX: usize = 2_000;

/// Polls until the end of the pass or of the tick.
pub(crate) fn run(config: &Config, paging: &Paging) -> Result<(), Failure> {
    let before = Progress::load(config)?;
    let mut tick = Tick::start(config, paging, &before);
    let outcome = match tick.follow_pages() {
        Err(failure) if tick.pages == 0 && before.resume.is_some() && !failure.is_retry() => {
            log::warn!("the page where the last tick stopped is refused, starts at the first page again: {failure}");
            tick.progress.resume = None;
            tick.follow_pages()
        }
        outcome => outcome,
    };
    match outcome {
        Err(failure) if tick.pages == 0 || !failure.is_retry() => return Err(failure),
        Err(failure) => log::warn!("goes on at the next tick: {failure}"),
        Ok(()) => {}
    }
    tick.progress.save(&before)
}

struct Tick<'a> {
    config: &'a Config,
    paging: &'a Paging,
    progress: Progress,
    /// The pages of this tick: a page that leads back to one of them ends the pass.
    visited: BTreeSet<String>,
    started: Instant,
    pages: usize,
    records: usize,
    bytes: usize,
}

/// What a page's answer came to.
enum Page {
    /// 304: nothing new, and the page after it is known.
    Unchanged(Option<Position>),
    Records {
        records: Vec<Record>,
        tag: Option<String>,
        next: Option<Position>,
    },
}

impl<'a> Tick<'a> {
    fn start(config: &'a Config, paging: &'a Paging, before: &Progress) -> Self {
        Self {
            config,
            paging,
            progress: before.clone(),
            visited: BTreeSet::new(),
            started: Instant::now(),
            pages: 0,
            records: 0,
            bytes: 0,
        }
    }

    /// Leaves `progress` right whenever it returns.
    fn follow_pages(&mut self) -> Result<(), Failure> {
        let fresh = self.progress.resume.is_none();
        let mut pass = self.progress.resume.clone().unwrap_or_else(|| Resume {
            position: self.paging.first(self.config, self.progress.since.as_ref()),
            newest: None,
        });
        loop {
            let next = self.take_page(&mut pass)?;
            let Some(next) = next.filter(|next| !self.visited.contains(&next.url)) else {
                self.finish(pass, fresh);
                return Ok(());
            };
            pass.position = next;
            self.progress.resume = Some(pass.clone());
            if self.is_spent() {
                log::info!("{} records of {} pages so far; goes on at the next tick", self.records, self.pages);
                return Ok(());
            }
        }
    }

    /// Publishes what the page holds and answers the position after it.
    fn take_page(&mut self, pass: &mut Resume) -> Result<Option<Position>, Failure> {
        let url = pass.position.url.clone();
        let page = self.fetch(&pass.position)?;
        let next = match page {
            Page::Unchanged(next) => next,
            Page::Records { records, tag, next } => {
                self.publish(records, pass)?;
                self.remember_tag(&url, tag, next.as_ref());
                next
            }
        };
        self.pages += 1;
        self.visited.insert(url);
        Ok(next)
    }

    fn fetch(&self, position: &Position) -> Result<Page, Failure> {
        let known = self.progress.tags.get(&position.url);
        let response = self.send(position, known)?;
        if let (304, Some(tag)) = (response.status(), known) {
            return Ok(Page::Unchanged(tag.next.clone()));
        }
        let link = all_links(&response);
        let tag = response.header("etag").map(str::to_owned);
        let body = response.bytes()?;
        let texts = slice::elements(&body, &self.config.records).map_err(Failure::reject)?;
        let records: Result<Vec<_>, _> = texts.into_iter().map(|text| record::read(self.config, text)).collect();
        let records = records.map_err(Failure::reject)?;
        let seen = Seen { link: link.as_deref(), body: &body, records: &records };
        let next = self.paging.next(self.config, self.progress.since.as_ref(), position, &seen);
        Ok(Page::Records { records, tag, next })
    }

    /// Sends, and waits once where the receiver asks for a moment that the tick has left.
    fn send(&self, position: &Position, known: Option<&Tag>) -> Result<http::Response, Failure> {
        let outcome = self.try_send(position, known);
        let Err(Failure::Retry { after: Some(delay), .. }) = &outcome else { return outcome };
        if self.pages == 0 || self.started.elapsed().saturating_add(*delay) > TIME_MAX {
            return outcome;
        }
        pause(*delay);
        self.try_send(position, known)
    }

    fn try_send(&self, position: &Position, known: Option<&Tag>) -> Result<http::Response, Failure> {
        let mut request = http::get(position.url.as_str());
        for (name, value) in &self.config.headers {
            request = request.header(name, value);
        }
        if !self.config.headers.keys().any(|name| name.eq_ignore_ascii_case("accept")) {
            request = request.header("accept", "application/json");
        }
        if let Some(tag) = known {
            request = request.header("if-none-match", &tag.etag);
        }
        let response = request.send()?;
        if response.status() == 304 && known.is_some() { Ok(response) } else { Ok(response.check()?) }
    }

    fn publish(&mut self, records: Vec<Record>, pass: &mut Resume) -> Result<(), Failure> {
        let mut newest = pass.newest.clone();
        let mut drafts = Vec::with_capacity(records.len());
        for record in records {
            newest = record::later(newest, record.since);
            self.bytes += record.draft.body.len();
            drafts.push(record.draft);
        }
        self.records += drafts.len();
        if !drafts.is_empty() {
            queue::publish_all(&self.config.publish, drafts)?;
        }
        pass.newest = newest;
        Ok(())
    }

    fn remember_tag(&mut self, url: &str, etag: Option<String>, next: Option<&Position>) {
        let tags = &mut self.progress.tags;
        tags.remove(url);
        let Some(etag) = etag else { return };
        let bytes = url.len() + etag.len() + next.map_or(0, |next| next.url.len());
        if tags.len() < TAGS_MAX && bytes <= TAG_BYTES_MAX {
            tags.insert(url.to_owned(), Tag { etag, next: next.cloned() });
        }
    }

    /// The pass is complete: the newest value counts from now on, and pages that it did not meet are forgotten.
    fn finish(&mut self, pass: Resume, fresh: bool) {
        self.progress.since = record::later(self.progress.since.take(), pass.newest);
        self.progress.resume = None;
        if fresh {
            self.progress.tags.retain(|url, _| self.visited.contains(url));
        }
    }

    fn is_spent(&self) -> bool {
        self.pages >= PAGES_MAX
            || self.records >= RECORDS_MAX
            || self.bytes >= BYTES_MAX
            || self.started.elapsed() >= TIME_MAX
    }
}

/// `Link` may come in several headers.
fn all_links(response: &http::Response) -> Option<String> {
    let links: Vec<_> = response.headers().iter().filter(|(name, _)| name.eq_ignore_ascii_case("link")).collect();
    (!links.is_empty()).then(|| links.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", "))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a guest has a thread of its own; the host bounds the wait by `limits.wall`"
)]
fn pause(delay: Duration) {
    std::thread::sleep(delay);
}
