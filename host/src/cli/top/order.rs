//! Which connectors come first: those about which somebody should do something.

use super::snapshot::Connector;

/// A waiting message that is older than this many seconds is late.
const LATE_SECONDS: u64 = 300;
/// This part of the attempts fails: a retry now and then is what retries are for.
const FAILING: f64 = 0.05;

/// How a connector is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    /// Something keeps it from working that an operator has not asked for.
    Held,
    /// Deliveries have failed in the last minutes.
    Failing,
    /// Its messages wait for long.
    Late,
    /// It has dead letters, and works.
    Letters,
    /// An operator has paused it.
    Paused,
    /// Nothing is to be done.
    Well,
    /// It is not enabled.
    Off,
}

impl Condition {
    pub(super) fn of(connector: &Connector) -> Self {
        let is_paused = !connector.held.is_empty() && connector.held.iter().all(|reason| reason == "paused");
        match connector {
            Connector { enabled: false, .. } => Self::Off,
            _ if is_paused => Self::Paused,
            Connector { held, .. } if !held.is_empty() => Self::Held,
            Connector { error_ratio: Some(part), .. } if *part >= FAILING => Self::Failing,
            Connector { oldest_seconds: Some(seconds), .. } if *seconds > LATE_SECONDS => Self::Late,
            Connector { dead, .. } if *dead > 0 => Self::Letters,
            _ => Self::Well,
        }
    }

    /// In a word; why it is held stands beside it.
    pub(super) fn word(self, connector: &Connector) -> String {
        match self {
            Self::Held => format!("held: {}", connector.held.join(", ")),
            Self::Failing => "failing".to_owned(),
            Self::Late => "late".to_owned(),
            Self::Letters => "dead letters".to_owned(),
            Self::Paused => "paused".to_owned(),
            Self::Well if connector.running > 0 => "running".to_owned(),
            Self::Well => "ok".to_owned(),
            Self::Off => "off".to_owned(),
        }
    }
}

/// The worst first; among equals those with more dead letters, then those with more waiting, then by name.
pub(super) fn sort(connectors: &mut [Connector]) {
    connectors.sort_by(|a, b| {
        let worse = Condition::of(a).cmp(&Condition::of(b));
        let more = || b.dead.cmp(&a.dead).then(b.backlog.cmp(&a.backlog));
        worse.then_with(more).then_with(|| a.name.cmp(&b.name))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_comes_first() {
        let it = |name: &str| Connector { name: name.to_owned(), enabled: true, ..Connector::default() };
        let held = |name, reason: &str| Connector { held: vec![reason.to_owned()], ..it(name) };
        let mut connectors = vec![
            it("well"),
            Connector { enabled: false, ..it("off") },
            held("paused", "paused"),
            Connector { dead: 1, ..it("letters") },
            Connector { oldest_seconds: Some(301), ..it("late") },
            Connector { error_ratio: Some(0.1), ..it("failing") },
            Connector { error_ratio: Some(0.1), dead: 2, ..it("failing-more") },
            held("brake", "brake"),
            it("also-well"),
        ];
        sort(&mut connectors);
        let names: Vec<&str> = connectors.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(
            names,
            ["brake", "failing-more", "failing", "late", "letters", "paused", "also-well", "well", "off"]
        );
    }
}
