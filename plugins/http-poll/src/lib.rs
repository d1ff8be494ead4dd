//! `builtin:http-poll`: polls a JSON API on a schedule and publishes each record.
//!
//! A tick makes a *pass* over the pages: `page` says where the next one is, `record` cuts a page into messages, `poll`
//! is the loop with its bounds, `progress` is what is kept between ticks. Messages and progress commit together.

mod page;
mod poll;
mod progress;
mod record;
mod settings;
mod slice;

use bulkhead_sdk::prelude::*;

pub use settings::{Config, Page, PageName, PageTable, Since};

/// The connector.
pub struct HttpPoll;

impl Scheduled for HttpPoll {
    fn run(_tick: Tick) -> Result<(), Failure> {
        let config: Config = config::load()?;
        poll::run(&config, &config.page.paging()?)
    }
}

export!(
    /// Polls a JSON API on a schedule and publishes each record.
    HttpPoll: Scheduled,
    name = "http-poll",
    config = Config,
    wants = [r#"publish = ["QUEUE"]"#, r#"http = [{ url = "URL", methods = ["GET"] }]"#],
);
