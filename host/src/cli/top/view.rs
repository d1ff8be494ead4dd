//! From what is known to cells.
//!
//! Colour says nothing that words do not say too. Invariant: any size is drawn, from one cell on.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::order::Condition;
use super::snapshot::{Connector, Snapshot};
use super::state::{Mode, Part, State, Wish};
use super::text::{bytes, count, duration, millis, percent, plain, rate};
use crate::ledger::QueueReport;

/// An answer that is older than this many seconds is said to be old.
const OLD_SECONDS: u64 = 3;
/// Lines of the parts that are not chosen.
const SIDE_LINES: u16 = 4;
/// Lines around the lists: two of the head, one of the chosen connector, one of the keys, a heading and a title for each
/// list.
const FRAME_LINES: usize = 4 + 3 * 2;
/// Columns of a name, at least.
const NAME_WIDTH_MIN: usize = 8;
const KEYS: &str = "q quit  tab part  j/k move  / filter  p pause or resume";
/// Where that has no place.
const FEW_KEYS: &str = "q quit  / filter  p pause or resume";

/// One column of a list.
struct Column {
    head: &'static str,
    /// At most.
    width: u16,
    /// Drawn where the screen is so wide.
    from: u16,
    is_word: bool,
}

impl Column {
    /// Figures end at the right, words begin at the left.
    fn aligned(&self, text: &str, width: usize) -> String {
        if self.is_word { text.to_owned() } else { format!("{text:>width$}") }
    }
}

/// What stands in a column.
struct Figure {
    text: String,
    style: Style,
}

impl Figure {
    fn of(text: String) -> Self {
        Self { text, style: Style::new() }
    }
}

const CONNECTOR_COLUMNS: [Column; 8] = [
    Column { head: "STATE", width: 18, from: 30, is_word: true },
    Column { head: "RATE/S", width: 7, from: 50, is_word: false },
    Column { head: "ERR %", width: 5, from: 56, is_word: false },
    Column { head: "P50", width: 8, from: 100, is_word: false },
    Column { head: "P99", width: 8, from: 66, is_word: false },
    Column { head: "WAITING", width: 7, from: 30, is_word: false },
    Column { head: "OLDEST", width: 9, from: 90, is_word: false },
    Column { head: "DEAD", width: 6, from: 30, is_word: false },
];
const QUEUE_COLUMNS: [Column; 5] = [
    Column { head: "MESSAGES", width: 8, from: 30, is_word: false },
    Column { head: "BYTES", width: 9, from: 50, is_word: false },
    Column { head: "WAITING", width: 7, from: 40, is_word: false },
    Column { head: "RETRYING", width: 8, from: 60, is_word: false },
    Column { head: "OLDEST", width: 9, from: 70, is_word: false },
];
const DEAD_COLUMNS: [Column; 2] = [
    Column { head: "COUNT", width: 7, from: 20, is_word: false },
    Column { head: "LAST DIED AT", width: 20, from: 70, is_word: true },
];

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, now: Instant) {
    let side = |part: Part, lines: usize| {
        let own = u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(2);
        if state.part == part { Constraint::Min(SIDE_LINES) } else { Constraint::Length(own.min(SIDE_LINES + 2)) }
    };
    let queues = queues(state);
    let connectors =
        if state.part == Part::Connectors { Constraint::Min(3) } else { Constraint::Length(SIDE_LINES + 2) };
    let [head, connector_list, detail, queue_list, dead_list, foot] = Layout::vertical([
        Constraint::Length(2),
        connectors,
        Constraint::Length(1),
        side(Part::Queues, queues.len()),
        side(Part::Dead, state.snapshot.dead.len()),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head_lines(state, now, head.width)), head);
    draw_connectors(frame, state, connector_list);
    frame.render_widget(Paragraph::new(last_failure(state)), detail);
    draw_queues(frame, state, &queues, queue_list);
    draw_dead(frame, state, dead_list);
    frame.render_widget(Paragraph::new(foot_line(state, foot.width)), foot);
}

/// Lines of a screen on which nothing is left out.
pub(super) fn lines_needed(state: &State) -> usize {
    let sides = [queues(state).len(), state.snapshot.dead.len()].map(|lines| lines.min(usize::from(SIDE_LINES)));
    FRAME_LINES + state.connectors().len() + sides.iter().sum::<usize>()
}

fn queues(state: &State) -> Vec<&QueueReport> {
    let mut queues: Vec<&QueueReport> = state.snapshot.queues.iter().filter(|it| state.means(&it.queue)).collect();
    queues.sort_by(|a, b| waiting(b).cmp(&waiting(a)).then_with(|| a.queue.cmp(&b.queue)));
    queues
}

fn waiting(queue: &QueueReport) -> u64 {
    queue.subscriptions.iter().map(|subscription| subscription.backlog).sum()
}

fn head_lines(state: &State, now: Instant, width: u16) -> Vec<Line<'static>> {
    let Snapshot { status, .. } = &state.snapshot;
    let up = status.started_at.zip(status.now).map(|(start, now)| now.as_second() - start.as_second());
    let up = up
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(|seconds| format!("  up {}", duration(seconds)))
        .unwrap_or_default();
    let readiness = if status.ready { "ready" } else { "NOT READY" };
    let mut first = vec![
        Span::styled(format!("bulkhead {}", plain(&status.version)), bold()),
        Span::raw(format!("  {}  ", state.address)),
        Span::styled(readiness, if status.ready { good() } else { bad() }),
        Span::raw(up),
    ];
    let age = state.taken.map_or(0, |taken| now.saturating_duration_since(taken).as_secs());
    match &state.lost {
        Some(why) => first = vec![Span::styled(format!("NO ANSWER for {age} s: {}", plain(why)), bad())],
        None if age > OLD_SECONDS => first.push(Span::styled(format!("  no answer for {age} s"), bad())),
        None => {}
    }
    let held = Span::styled(format!("{} held", count(status.held)), if status.held > 0 { bad() } else { Style::new() });
    let dead = Span::styled(format!("{} dead", count(status.dead)), if status.dead > 0 { bad() } else { Style::new() });
    let mut second = vec![
        Span::raw(format!("{} connectors, ", count(status.connectors))),
        held,
        Span::raw(format!("; {} waiting, ", count(status.backlog))),
        dead,
    ];
    if width >= 70 {
        let wal = status.wal_bytes.map(|number| format!("; WAL {}", bytes(number)));
        let disk = status.disk_free_bytes.map(|number| format!("; {} free", bytes(number)));
        second.extend([wal, disk].into_iter().flatten().map(Span::raw));
    }
    vec![Line::from(first), Line::from(second)]
}

fn draw_connectors(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let connectors = state.connectors();
    let row = |connector: &&Connector| {
        let condition = Condition::of(connector);
        let style = match condition {
            Condition::Held | Condition::Failing => bad(),
            Condition::Late | Condition::Letters | Condition::Paused => uneasy(),
            Condition::Well => Style::new(),
            Condition::Off => faint(),
        };
        let figures = [
            Figure { text: condition.word(connector), style },
            Figure::of(rate(connector.rate_per_second)),
            Figure::of(connector.error_ratio.map_or_else(none, percent)),
            Figure::of(millis(connector.p50_ms)),
            Figure::of(millis(connector.p99_ms)),
            Figure::of(count(connector.backlog)),
            Figure::of(connector.oldest_seconds.map_or_else(none, duration)),
            Figure::of(count(connector.dead)),
        ];
        (plain(&connector.name), figures)
    };
    let rows: Vec<_> = connectors.iter().map(row).collect();
    let of = state.snapshot.connectors.len();
    let what = match (state.filter.is_empty(), of) {
        (_, 0) => "no connector is configured".to_owned(),
        (true, _) => format!("Connectors ({of})"),
        (false, _) => format!("Connectors ({} of {of} with `{}`)", connectors.len(), plain(&state.filter)),
    };
    draw_list(frame, area, state, Part::Connectors, &what, "CONNECTOR", &CONNECTOR_COLUMNS, rows);
}

fn draw_queues(frame: &mut Frame<'_>, state: &State, queues: &[&QueueReport], area: Rect) {
    let row = |queue: &&QueueReport| {
        let retrying: u64 = queue.subscriptions.iter().map(|it| it.retrying).sum();
        let oldest = queue.subscriptions.iter().filter_map(|it| it.oldest_seconds).max();
        let figures = [
            Figure::of(count(queue.messages)),
            Figure::of(bytes(queue.bytes)),
            Figure::of(count(waiting(queue))),
            Figure::of(count(retrying)),
            Figure::of(oldest.map_or_else(none, duration)),
        ];
        (plain(&queue.queue), figures)
    };
    let rows = queues.iter().map(row).collect();
    let title = format!("Queues ({})", queues.len());
    draw_list(frame, area, state, Part::Queues, &title, "QUEUE", &QUEUE_COLUMNS, rows);
}

fn draw_dead(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let groups = &state.snapshot.dead;
    let row = |group: &crate::admin::api::dead::group::Group| {
        let connectors = group.connectors.iter().map(|name| plain(name)).collect::<Vec<_>>().join(", ");
        let last = group.last_died_at.get(..19).unwrap_or(&group.last_died_at);
        let figures = [Figure::of(count(group.count as u64)), Figure::of(plain(&last.replace('T', " ")))];
        (format!("{connectors}: {}", plain(&group.reason)), figures)
    };
    let rows = groups.iter().map(row).collect();
    let title = if groups.is_empty() { "Dead letters: none".to_owned() } else { "Dead letters by reason".to_owned() };
    draw_list(frame, area, state, Part::Dead, &title, "CONNECTOR: REASON", &DEAD_COLUMNS, rows);
}

/// A title, and lines of which the chosen one is in sight.
#[expect(clippy::too_many_arguments, reason = "what differs between three lists, handed on as it is")]
fn draw_list<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    part: Part,
    title: &str,
    name: &'static str,
    columns: &[Column; N],
    rows: Vec<(String, [Figure; N])>,
) {
    let [head, list] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let is_chosen = state.part == part;
    let title_style = if is_chosen { bold().add_modifier(Modifier::UNDERLINED) } else { bold() };
    frame.render_widget(Paragraph::new(Span::styled(title.to_owned(), title_style)), head);
    if rows.is_empty() {
        return;
    }
    let shown: Vec<usize> = (0..N).filter(|nth| area.width >= columns[*nth].from).collect();
    let width = |nth: usize| {
        let longest = rows.iter().map(|(_, figures)| figures[nth].text.chars().count()).max().unwrap_or_default();
        usize::from(columns[nth].width).min(longest.max(columns[nth].head.len()))
    };
    let wide: Vec<usize> = (0..N).map(width).collect();
    let figures_width: usize = shown.iter().map(|nth| wide[*nth] + 1).sum();
    let name_width = usize::from(area.width).saturating_sub(figures_width).max(NAME_WIDTH_MIN);
    let length = |nth: &usize| Constraint::Length(u16::try_from(wide[*nth]).unwrap_or(u16::MAX));
    let widths = std::iter::once(Constraint::Fill(1)).chain(shown.iter().map(length));
    let heads = shown.iter().map(|nth| Cell::new(columns[*nth].aligned(columns[*nth].head, wide[*nth])));
    let header = Row::new(std::iter::once(Cell::new(name)).chain(heads)).style(faint());
    let row = |(name, figures): &(String, [Figure; N])| {
        let cell = |nth: &usize| {
            let Figure { text, style } = &figures[*nth];
            Cell::new(columns[*nth].aligned(text, wide[*nth])).style(*style)
        };
        Row::new(std::iter::once(Cell::new(fitted(name, name_width))).chain(shown.iter().map(cell)))
    };
    let rows: Vec<Row<'_>> = rows.iter().map(row).collect();
    let table = Table::new(rows, widths).header(header).column_spacing(1);
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut chosen = TableState::new().with_selected(is_chosen.then(|| state.chosen(part)));
    frame.render_stateful_widget(table, list, &mut chosen);
}

/// Why a delivery of the chosen connector failed last.
fn last_failure(state: &State) -> Line<'static> {
    let Some(failure) = state.connector().and_then(|connector| connector.last_failure.as_ref()) else {
        return Line::default();
    };
    let at = failure.at.map(|at| format!(" at {}", at.strftime("%H:%M:%S UTC"))).unwrap_or_default();
    Line::from(Span::styled(format!("last failure{at}: {}", plain(&failure.reason)), uneasy()))
}

fn foot_line(state: &State, width: u16) -> Line<'static> {
    let keys = if usize::from(width) < KEYS.len() { FEW_KEYS } else { KEYS };
    match (&state.mode, &state.notice) {
        (Mode::Asked(Wish::Pause(name)), _) => {
            question(format!("pause {}? Its messages stay and wait. y: yes, any other key: no", plain(name)))
        }
        (Mode::Asked(Wish::Resume(name)), _) => {
            question(format!("let {} go on? y: yes, any other key: no", plain(name)))
        }
        (Mode::Filtering, _) => question(format!("/{}  enter: keep, esc: drop", plain(&state.filter))),
        (Mode::Asked(Wish::End) | Mode::Looking, Some(notice)) => question(plain(notice)),
        (Mode::Asked(Wish::End) | Mode::Looking, None) => Line::from(Span::styled(keys, faint())),
    }
}

fn question(text: String) -> Line<'static> {
    Line::from(Span::styled(text, bold()))
}

/// A text that is cut says so.
fn fitted(text: &str, width: usize) -> String {
    let mut fitted = text.to_owned();
    if Span::raw(text).width() > width {
        while Span::raw(fitted.as_str()).width() >= width && fitted.pop().is_some() {}
        fitted.push('…');
    }
    fitted
}

/// Stands where there is no figure.
fn none() -> String {
    "–".to_owned()
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn faint() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn good() -> Style {
    Style::new().fg(Color::Green)
}

fn uneasy() -> Style {
    Style::new().fg(Color::Yellow)
}

fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}
