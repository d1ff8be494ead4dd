//! What an operator sees and has asked for: which part, which line, which filter; and what a key means.
//!
//! Invariant: nothing is changed in the host without a question that names it and a yes.

use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::order;
use super::snapshot::{Connector, Snapshot};
use crate::egress::own_admin::Refused;

/// Characters of a filter: more than a name has.
const FILTER_MAX: usize = 64;

/// Parts of the screen that a line is chosen in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    #[default]
    Connectors,
    Queues,
    Dead,
}

/// What the keys do just now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Move, and begin something else.
    #[default]
    Looking,
    /// Write the filter.
    Filtering,
    /// Answer a question.
    Asked(Wish),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    End,
    /// A connector, by its name.
    Pause(String),
    Resume(String),
}

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    /// Of the admin listener.
    pub(super) address: String,
    pub(super) snapshot: Snapshot,
    /// When it was taken.
    pub(super) taken: Option<Instant>,
    /// Why there is no newer one.
    pub(super) lost: Option<String>,
    pub(super) part: Part,
    pub(super) mode: Mode,
    pub(super) filter: String,
    /// What came of the last wish.
    pub(super) notice: Option<String>,
    chosen: [usize; 3],
}

impl Part {
    fn next(self) -> Self {
        match self {
            Self::Connectors => Self::Queues,
            Self::Queues => Self::Dead,
            Self::Dead => Self::Connectors,
        }
    }

    fn before(self) -> Self {
        self.next().next()
    }
}

impl State {
    /// Nothing is known yet.
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            snapshot: Snapshot::default(),
            taken: None,
            lost: None,
            part: Part::default(),
            mode: Mode::default(),
            filter: String::new(),
            notice: None,
            chosen: [0; 3],
        }
    }

    /// The host has said how it is, or nothing. Whoever has chosen a connector keeps it, wherever it moves.
    pub(super) fn learn(&mut self, taken: anyhow::Result<Snapshot>, now: Instant) {
        let chosen = self.connectors().get(self.chosen(Part::Connectors)).map(|it| it.name.clone());
        match taken {
            Ok(mut snapshot) => {
                order::sort(&mut snapshot.connectors);
                (self.snapshot, self.taken, self.lost) = (snapshot, Some(now), None);
            }
            Err(error) if error.is::<Refused>() => self.lost = Some(format!("{error:#}")),
            // What a verb is told beside it holds for one that was started just now.
            Err(error) => self.lost = Some(error.root_cause().to_string()),
        }
        let place = chosen.and_then(|name| self.connectors().iter().position(|it| it.name == name));
        if let Some(place) = place.filter(|_| self.chosen[Part::Connectors as usize] > 0) {
            self.chosen[Part::Connectors as usize] = place;
        }
    }

    /// A wish was carried out, or not.
    pub(super) fn done(&mut self, done: anyhow::Result<String>) {
        self.notice = Some(done.unwrap_or_else(|error| format!("not done: {error:#}")));
    }

    /// The connectors that the filter means, in their order.
    pub(super) fn connectors(&self) -> Vec<&Connector> {
        self.snapshot.connectors.iter().filter(|it| self.means(&it.name)).collect()
    }

    /// Whether the filter means a name.
    pub(super) fn means(&self, name: &str) -> bool {
        self.filter.is_empty() || name.to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// The line that is chosen in a part.
    pub(super) fn chosen(&self, part: Part) -> usize {
        self.chosen[part as usize].min(self.lines(part).saturating_sub(1))
    }

    /// The connector that is chosen.
    pub(super) fn connector(&self) -> Option<&Connector> {
        self.connectors().get(self.chosen(Part::Connectors)).copied()
    }

    fn lines(&self, part: Part) -> usize {
        match part {
            Part::Connectors => self.connectors().len(),
            Part::Queues => self.snapshot.queues.iter().filter(|it| self.means(&it.queue)).count(),
            Part::Dead => self.snapshot.dead.len(),
        }
    }

    /// What a key asks for.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return Some(Wish::End);
        }
        match std::mem::take(&mut self.mode) {
            Mode::Asked(wish) => match key.code {
                KeyCode::Char('y') => return Some(wish),
                _ => self.notice = Some("nothing was changed".to_owned()),
            },
            Mode::Filtering => self.write_filter(key.code),
            Mode::Looking if is_control => {}
            Mode::Looking => return self.look(key.code),
        }
        None
    }

    fn look(&mut self, code: KeyCode) -> Option<Wish> {
        self.notice = None;
        match code {
            KeyCode::Char('q') => return Some(Wish::End),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Tab => self.part = self.part.next(),
            KeyCode::BackTab => self.part = self.part.before(),
            KeyCode::Char('j') | KeyCode::Down => self.step(1),
            KeyCode::Char('k') | KeyCode::Up => self.step(-1),
            KeyCode::PageDown => self.step(10),
            KeyCode::PageUp => self.step(-10),
            KeyCode::Char('g') | KeyCode::Home => self.step(isize::MIN),
            KeyCode::Char('G') | KeyCode::End => self.step(isize::MAX),
            KeyCode::Char('/') => self.mode = Mode::Filtering,
            KeyCode::Char('p') => self.ask_pause(),
            _ => {}
        }
        None
    }

    fn step(&mut self, by: isize) {
        let (lines, place) = (self.lines(self.part), self.chosen(self.part));
        self.chosen[self.part as usize] = place.saturating_add_signed(by).min(lines.saturating_sub(1));
    }

    fn write_filter(&mut self, code: KeyCode) {
        self.mode = Mode::Filtering;
        match code {
            KeyCode::Enter => self.mode = Mode::Looking,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Looking;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) if self.filter.chars().count() < FILTER_MAX && !character.is_control() => {
                self.filter.push(character);
            }
            _ => {}
        }
        // Another list begins at its first line.
        self.chosen = [0; 3];
    }

    fn ask_pause(&mut self) {
        let Some(connector) = self.connector().filter(|_| self.part == Part::Connectors) else {
            self.notice = Some("choose a connector first: tab, then j and k".to_owned());
            return;
        };
        let (name, is_stopped) =
            (connector.name.clone(), connector.held.iter().any(|reason| reason == "paused" || reason == "brake"));
        self.mode = match connector.enabled {
            false => Mode::Looking,
            true if is_stopped => Mode::Asked(Wish::Resume(name)),
            true => Mode::Asked(Wish::Pause(name)),
        };
        if self.mode == Mode::Looking {
            self.notice = Some("it is not enabled in the configuration".to_owned());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// These connectors, as their host has said.
    pub(in crate::cli::top) fn state(connectors: Vec<Connector>) -> State {
        let mut state = State::new("127.0.0.1:9100".to_owned());
        state.learn(Ok(Snapshot { connectors, ..Snapshot::default() }), Instant::now());
        state
    }

    fn well(name: &str) -> Connector {
        Connector { name: name.to_owned(), enabled: true, ..Connector::default() }
    }

    fn press(state: &mut State, keys: &str) -> Option<Wish> {
        let code = |key| match key {
            '\t' => KeyCode::Tab,
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            other => KeyCode::Char(other),
        };
        keys.chars().filter_map(|key| state.press(code(key).into())).last()
    }

    #[test]
    fn a_pause_is_asked_for_and_confirmed() {
        let mut state = state(vec![well("a"), well("b")]);
        assert_eq!(press(&mut state, "jp"), None);
        assert_eq!(state.mode, Mode::Asked(Wish::Pause("b".to_owned())));
        assert_eq!(press(&mut state, "n"), None);
        assert_eq!(state.notice.as_deref(), Some("nothing was changed"));
        assert_eq!(press(&mut state, "py"), Some(Wish::Pause("b".to_owned())));
        assert_eq!(press(&mut state, "\tpy"), None);
        assert_eq!(press(&mut state, "q"), Some(Wish::End));
    }

    #[test]
    fn what_the_brake_or_a_pause_holds_is_let_go_on() {
        for reason in ["brake", "paused"] {
            let mut state = state(vec![Connector { held: vec![reason.to_owned()], ..well("a") }]);
            assert_eq!(press(&mut state, "py"), Some(Wish::Resume("a".to_owned())));
        }
        let mut state = state(vec![Connector { enabled: false, ..well("a") }]);
        assert_eq!(press(&mut state, "py"), None);
    }

    #[test]
    fn a_filter_narrows_the_list_and_escape_ends_it() {
        let mut state = state(vec![well("orders-in"), well("orders-out"), well("mail")]);
        let _ = press(&mut state, "/OUTq");
        assert_eq!((state.connectors().len(), state.filter.as_str()), (0, "OUTq"));
        let _ = state.press(KeyCode::Backspace.into());
        let _ = press(&mut state, "\n");
        assert_eq!(state.connector().map(|it| it.name.as_str()), Some("orders-out"));
        let _ = press(&mut state, "\u{1b}");
        assert_eq!(state.connectors().len(), 3);
    }

    #[test]
    fn the_chosen_connector_stays_chosen_where_it_moves() {
        let mut state = state(vec![well("a"), well("b"), well("c")]);
        let _ = press(&mut state, "jjjj");
        assert_eq!(state.connector().map(|it| it.name.as_str()), Some("c"));
        let moved = vec![well("a"), well("b"), Connector { dead: 1, ..well("c") }];
        state.learn(Ok(Snapshot { connectors: moved, ..Snapshot::default() }), Instant::now());
        assert_eq!(state.connector().map(|it| it.name.as_str()), Some("c"));
        state.learn(Err(anyhow::anyhow!("nobody there")), Instant::now());
        assert_eq!((state.lost.as_deref(), state.connectors().len()), (Some("nobody there"), 3));
    }
}
