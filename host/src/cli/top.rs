//! `bulkhead top`: the running host at a glance, in a terminal.
//!
//! Asks the admin listener each second (`snapshot`), draws what it said last (`view`) and does what keys ask for
//! (`state`). Invariant: what is shown says how old it is where the host does not answer.

mod order;
mod snapshot;
mod state;
mod text;
mod view;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use crossterm::event::{Event, EventStream, KeyEventKind};
use crossterm::terminal;
use futures_util::StreamExt;
use ratatui::Terminal;
use ratatui::backend::{Backend, TestBackend};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::main::Failed;
use super::output::print;
use super::reload::unanswered_but;
use crate::config::Config;
use crate::egress::own_admin::OwnAdmin;
use crate::secret_store::token;
use snapshot::Snapshot;
use state::{State, Wish};

/// From one look at the host to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// Answers that wait to be drawn.
const ANSWERS_MAX: usize = 4;
/// Columns and lines where standard output is no terminal.
const PIPE_SIZE: (u16, u16) = (120, 60);
/// Lines of one frame as text: a host has some thousand connectors at most.
const LINES_MAX: usize = 10_000;

/// `bulkhead top`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Top {
    /// Print what there is to see once, as text, and end
    #[arg(long)]
    pub once: bool,
}

/// What the host has said, or why it has said nothing.
enum Told {
    Snapshot(Box<anyhow::Result<Snapshot>>),
    Done(anyhow::Result<String>),
}

/// Shows the host until somebody has seen enough.
///
/// # Errors
/// No host answers, standard output is no terminal, or the terminal cannot be used.
pub async fn run(config: &Config, arguments: Top) -> Result<(), Failed> {
    let token = token::load(&config.host.data_dir)
        .context("no host has run here, start one with `bulkhead run`")
        .map_err(Failed::Broken)?;
    let admin = OwnAdmin::new(config.host.admin, token)?;
    let first =
        Snapshot::take(&admin).await.map_err(|error| unanswered_but(error, config, "start it with `bulkhead run`"))?;
    let mut state = State::new(config.host.admin.to_string());
    state.learn(Ok(first), Instant::now());
    if arguments.once {
        return Ok(print(&frame_text(&state)?)?);
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failed::Unusable(anyhow::anyhow!(
            "standard output is no terminal: `bulkhead top --once` prints what there is to see"
        )));
    }
    let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
    let watched = watch_host(&mut terminal, admin, state).await;
    ratatui::try_restore().context("the terminal cannot be put back: `reset` does it")?;
    Ok(watched?)
}

/// One frame, as wide as the terminal and as high as it has to be.
fn frame_text(state: &State) -> anyhow::Result<String> {
    let is_terminal = std::io::stdout().is_terminal();
    let (width, _) = terminal::size().ok().filter(|_| is_terminal).unwrap_or(PIPE_SIZE);
    let lines = view::lines_needed(state).min(LINES_MAX);
    Ok(as_text(state, width, u16::try_from(lines).unwrap_or(u16::MAX)))
}

/// What a terminal of this size shows.
fn as_text(state: &State, width: u16, height: u16) -> String {
    let mut terminal = match Terminal::new(TestBackend::new(width, height)) {
        Ok(terminal) => terminal,
        Err(never) => match never {},
    };
    match terminal.draw(|frame| view::draw(frame, state, Instant::now())) {
        Ok(_) => {}
        Err(never) => match never {},
    }
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// Draws, asks and obeys, until a key or a signal ends it.
async fn watch_host<B>(terminal: &mut Terminal<B>, admin: OwnAdmin, mut state: State) -> anyhow::Result<()>
where
    B: Backend<Error: Send + Sync + 'static>,
{
    let (tell, mut told) = mpsc::channel(ANSWERS_MAX);
    let (wishes, wished) = mpsc::channel(1);
    let (stop, stopped) = watch::channel(false);
    let mut asking = JoinSet::new();
    asking.spawn(ask(admin, tell, wished, stopped));
    let mut events = EventStream::new();
    let mut clock = tokio::time::interval(PERIOD);
    loop {
        terminal.draw(|frame| view::draw(frame, &state, Instant::now()))?;
        tokio::select! {
            event = events.next() => match event.transpose().context("keys cannot be read")? {
                Some(Event::Key(key)) if key.kind == KeyEventKind::Press => match state.press(key) {
                    None => {}
                    Some(Wish::End) => break,
                    Some(wish) => {
                        // One that is not carried out yet is the only one.
                        let _ = wishes.try_send(wish);
                    }
                },
                Some(_) => {}
                None => break,
            },
            answer = told.recv() => match answer {
                Some(Told::Snapshot(taken)) => state.learn(*taken, Instant::now()),
                Some(Told::Done(done)) => state.done(done),
                None => break,
            },
            // What is shown grows old.
            _ = clock.tick() => {}
        }
    }
    stop.send_replace(true);
    asking.shutdown().await;
    Ok(())
}

/// Asks the host each second, and for what an operator wishes.
async fn ask(
    admin: OwnAdmin,
    tell: mpsc::Sender<Told>,
    mut wished: mpsc::Receiver<Wish>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut clock = tokio::time::interval(PERIOD);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let answer = tokio::select! {
            _ = stopped.changed() => return,
            wish = wished.recv() => match wish {
                Some(wish) => Told::Done(carry_out(&admin, wish).await),
                None => return,
            },
            _ = clock.tick() => Told::Snapshot(Box::new(Snapshot::take(&admin).await)),
        };
        if tell.send(answer).await.is_err() {
            return;
        }
    }
}

/// What was done, in words.
async fn carry_out(admin: &OwnAdmin, wish: Wish) -> anyhow::Result<String> {
    let (connector, verb, done) = match &wish {
        Wish::Pause(connector) => (connector, "pause", "is paused"),
        Wish::Resume(connector) => (connector, "resume", "goes on"),
        Wish::End => return Ok(String::new()),
    };
    let () = admin.post(&format!("connectors/{connector}/{verb}"), Vec::new()).await?;
    Ok(format!("{connector} {done}"))
}

#[cfg(test)]
mod tests {
    use super::snapshot::{Connector, LastFailure, Status};
    use super::state::tests::state;
    use super::*;

    const USUAL: &str = r"
bulkhead 0.1.0  127.0.0.1:9100  ready  up 1 h 2 min
3 connectors, 1 held; 1,241 waiting, 3 dead; WAL 1.5 MiB; 40 GiB free
Connectors (3)
CONNECTOR                               STATE   RATE/S ERR %    P99 WAITING DEAD
a-connector-with-a-name-that-is-long\u… failing   0.50    25      –       0    3
mail                                    paused       0     0      –       7    0
orders                                  running     12     0 180 ms   1,234    0







last failure at 09:00:05 UTC: answered 503
Queues (0)

Dead letters: none

q quit  tab part  j/k move  / filter  p pause or resume";
    const NARROW: &str = r"
bulkhead 0.1.0  127.0.0.1:9100  ready  up 1
3 connectors, 1 held; 1,241 waiting, 3 dead
Connectors (3)
CONNECTOR               STATE   WAITING DEAD
a-connector-with-a-nam… failing       0    3
mail                    paused        7    0
orders                  running   1,234    0



last failure at 09:00:05 UTC: answered 503
Queues (0)

Dead letters: none

q quit  / filter  p pause or resume";

    fn connector(name: &str) -> Connector {
        Connector { name: name.to_owned(), enabled: true, error_ratio: Some(0.0), ..Connector::default() }
    }

    /// One in trouble, one at work, one that is paused.
    fn busy() -> State {
        let failure = LastFailure { at: "2026-03-01T09:00:05Z".parse().ok(), reason: "answered 503\nsorry".to_owned() };
        let mut state = state(vec![
            Connector { held: vec!["paused".to_owned()], backlog: 7, ..connector("mail") },
            Connector {
                running: 1,
                rate_per_second: 12.4,
                p50_ms: Some(4.21),
                p99_ms: Some(180.0),
                backlog: 1_234,
                oldest_seconds: Some(3),
                ..connector("orders")
            },
            Connector {
                error_ratio: Some(0.25),
                rate_per_second: 0.5,
                dead: 3,
                oldest_seconds: Some(7_300),
                last_failure: Some(failure),
                ..connector("a-connector-with-a-name-that-is-long\u{1b}[1m")
            },
        ]);
        let at = |text: &str| text.parse().ok();
        state.snapshot.status = Status {
            version: "0.1.0".to_owned(),
            started_at: at("2026-03-01T08:00:00Z"),
            now: at("2026-03-01T09:02:00Z"),
            ready: true,
            connectors: 3,
            held: 1,
            dead: 3,
            backlog: 1_241,
            wal_bytes: Some(1_572_864),
            disk_free_bytes: Some(40 << 30),
        };
        state
    }

    #[track_caller]
    fn check(state: &State, width: u16, height: u16, expected: &str) {
        let text = as_text(state, width, height);
        assert_eq!(text, expected.trim_matches('\n'), "shown:\n{text}");
    }

    #[test]
    fn a_usual_terminal_shows_all_that_matters() {
        check(&busy(), 80, 20, USUAL);
    }

    #[test]
    fn a_narrow_one_leaves_columns_out() {
        check(&busy(), 44, 16, NARROW);
    }

    #[test]
    fn every_size_is_drawn() {
        for (width, height) in [(1, 1), (3, 2), (20, 5), (300, 3), (9, 60)] {
            let _ = as_text(&busy(), width, height);
        }
    }

    #[test]
    fn a_host_that_does_not_answer_is_said_to_be_gone() {
        let mut state = busy();
        state.learn(Err(anyhow::anyhow!("connection refused\u{7}")), Instant::now());
        let text = as_text(&state, 80, 24);
        assert!(text.starts_with("NO ANSWER for 0 s: connection refused\\u{7}"), "{text}");
        assert!(text.contains("orders"), "{text}");
    }
}
