//! Circuit breakers of one connector, one for each authority: failures in a row stop requests for a while.
//!
//! An open breaker holds the connector's deliveries (who waits is the trigger, which asks [`Breakers::pause`]), so that a
//! receiver that is down costs a few attempts and not all of them. When the time is over, one request probes: its answer
//! closes the breaker, its failure opens it again. Invariant: at most one probe of an authority is under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::id::Name;
use crate::metrics::Metrics;

/// Authorities with a breaker of their own: a plugin with a wildcard grant chooses them.
const AUTHORITIES_MAX: usize = 1_024;
/// How soon to come back while somebody else probes.
const PROBED_DELAY: Duration = Duration::from_secs(1);

/// `breaker` of an http grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub open: Duration,
}

/// All breakers of a connector.
#[derive(Debug)]
pub struct Breakers {
    connector: Name,
    metrics: Metrics,
    authorities: Mutex<HashMap<String, Breaker>>,
}

/// Where a request is headed.
#[derive(Clone, Debug)]
pub struct Place {
    /// Host and port.
    pub authority: String,
    /// The pattern of the grant, as metrics and logs name the place.
    pub pattern: String,
}

/// A request on its way past a breaker. Dropped without a result it has proved nothing.
#[derive(Debug)]
pub struct Passage {
    breakers: Arc<Breakers>,
    settings: Settings,
    place: Place,
    is_probe: bool,
}

/// No request may be sent for this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// How long.
    pub left: Duration,
}

#[derive(Debug, Default)]
struct Breaker {
    /// In a row.
    failures: u32,
    open: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    until: Instant,
    is_probed: bool,
    pattern: String,
}

impl Breakers {
    /// All closed.
    #[must_use]
    pub fn new(connector: Name, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { connector, metrics, authorities: Mutex::default() })
    }

    /// Lets a request through. Where the time of an open breaker is over it is the probe.
    ///
    /// # Errors
    /// The breaker is open, or probed by another request.
    pub fn pass(self: &Arc<Self>, settings: Settings, place: Place, now: Instant) -> Result<Passage, Open> {
        let is_probe = match self.lock().get_mut(&place.authority).and_then(|breaker| breaker.open.as_mut()) {
            None => false,
            Some(opened) if now < opened.until => return Err(Open { left: opened.until - now }),
            Some(opened) if opened.is_probed => return Err(Open { left: PROBED_DELAY }),
            Some(opened) => {
                opened.is_probed = true;
                true
            }
        };
        Ok(Passage { breakers: self.clone(), settings, place, is_probe })
    }

    /// How long deliveries shall wait: until every open breaker may be probed.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        let authorities = self.lock();
        let untils = authorities.values().filter_map(|breaker| breaker.open.as_ref()).map(|opened| opened.until);
        untils.max().map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Breaker>> {
        self.authorities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The breaker of a place. `None` where there are too many.
    fn find<'a>(authorities: &'a mut HashMap<String, Breaker>, authority: &str) -> Option<&'a mut Breaker> {
        if authorities.len() >= AUTHORITIES_MAX && !authorities.contains_key(authority) {
            authorities.retain(|_, breaker| breaker.open.is_some());
            if authorities.len() >= AUTHORITIES_MAX {
                return None;
            }
        }
        Some(authorities.entry(authority.to_owned()).or_default())
    }

    fn show(&self, pattern: &str, change: i64) {
        self.metrics.breaker_open(&self.connector, pattern, change);
    }
}

impl Drop for Breakers {
    /// What is not there is not open either.
    fn drop(&mut self) {
        for opened in self.lock().values().filter_map(|breaker| breaker.open.as_ref()) {
            self.show(&opened.pattern, -1);
        }
    }
}

impl Passage {
    /// The request failed as one does when the receiver is down.
    pub fn fail(mut self, now: Instant) {
        let is_probe = std::mem::take(&mut self.is_probe);
        let (breakers, Settings { failures, open }) = (self.breakers.clone(), self.settings);
        let mut authorities = breakers.lock();
        let Some(breaker) = Breakers::find(&mut authorities, &self.place.authority) else { return };
        match &mut breaker.open {
            Some(opened) if is_probe => (opened.until, opened.is_probed) = (now + open, false),
            // Sent before it opened: known already.
            Some(_) => return,
            None => {
                breaker.failures = breaker.failures.saturating_add(1);
                if breaker.failures < failures {
                    return;
                }
                let pattern = self.place.pattern.clone();
                breakers.show(&pattern, 1);
                breaker.open = Some(Opened { until: now + open, is_probed: false, pattern });
            }
        }
        let (connector, host) = (&breakers.connector, &self.place.pattern);
        tracing::warn!(%connector, host, seconds = open.as_secs_f64(), "the breaker is open: deliveries wait, then one request probes");
    }

    /// The head of an answer is there, and it is none of a receiver that is down.
    pub fn answered(&mut self) {
        if !std::mem::take(&mut self.is_probe) {
            return;
        }
        let mut authorities = self.breakers.lock();
        let Some(breaker) = authorities.get_mut(&self.place.authority) else { return };
        let Some(opened) = breaker.open.take() else { return };
        // Not forgotten yet: if the rest does not come, that is one failure more.
        breaker.failures = self.settings.failures.saturating_sub(1);
        self.breakers.show(&opened.pattern, -1);
        tracing::info!(connector = %self.breakers.connector, host = opened.pattern, "the breaker is closed again");
    }

    /// The whole answer is there.
    pub fn succeed(mut self) {
        self.answered();
        let mut authorities = self.breakers.lock();
        // Where nothing has failed there is nothing to forget: the usual case keeps no entry.
        if authorities.get(&self.place.authority).is_some_and(|breaker| breaker.open.is_none()) {
            authorities.remove(&self.place.authority);
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if !self.is_probe {
            return;
        }
        if let Some(opened) =
            self.breakers.lock().get_mut(&self.place.authority).and_then(|breaker| breaker.open.as_mut())
        {
            opened.is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SETTINGS: Settings = Settings { failures: 3, open: Duration::from_secs(30) };

    fn breakers() -> (Arc<Breakers>, Instant) {
        (Breakers::new(Name::parse("orders").unwrap(), Metrics::default()), Instant::now())
    }

    fn place(authority: &str) -> Place {
        Place { authority: authority.to_owned(), pattern: "https://*.example/*".to_owned() }
    }

    fn pass(breakers: &Arc<Breakers>, now: Instant) -> Result<Passage, Open> {
        breakers.pass(SETTINGS, place("a.example:443"), now)
    }

    fn open(breakers: &Arc<Breakers>, now: Instant) {
        (0..3).for_each(|_| pass(breakers, now).unwrap().fail(now));
        assert_eq!(breakers.pause(now), Some(30 * SECOND));
    }

    fn shown(breakers: &Breakers) -> bool {
        breakers.metrics.text().contains(r#"bulkhead_breaker_open{connector="orders",host="https://*.example/*"} 1"#)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (breakers, now) = breakers();
        for _ in 0..5 {
            (0..2).for_each(|_| pass(&breakers, now).unwrap().fail(now));
            pass(&breakers, now).unwrap().succeed();
        }
        assert_eq!(breakers.pause(now), None);
        open(&breakers, now);
        assert!(shown(&breakers));
        assert_eq!(pass(&breakers, now + 10 * SECOND).unwrap_err(), Open { left: 20 * SECOND });
        assert!(breakers.pass(SETTINGS, place("b.example:443"), now).is_ok());
    }

    #[test]
    fn one_probe_closes_it_or_opens_it_again() {
        let (breakers, mut now) = breakers();
        open(&breakers, now);
        now += 30 * SECOND;
        assert_eq!(breakers.pause(now), None);
        let probe = pass(&breakers, now).unwrap();
        assert_eq!(pass(&breakers, now).unwrap_err(), Open { left: PROBED_DELAY });
        probe.fail(now);
        assert_eq!(breakers.pause(now), Some(30 * SECOND));
        now += 30 * SECOND;
        pass(&breakers, now).unwrap().succeed();
        assert!(!shown(&breakers));
        (0..2).for_each(|_| pass(&breakers, now).unwrap().fail(now));
        assert_eq!(breakers.pause(now), None);
    }

    #[test]
    fn a_probe_that_proves_nothing_leaves_its_place_to_the_next() {
        let (breakers, mut now) = breakers();
        open(&breakers, now);
        now += 30 * SECOND;
        drop(pass(&breakers, now).unwrap());
        pass(&breakers, now).unwrap().succeed();
    }

    #[test]
    fn an_answer_that_breaks_off_after_the_probe_opens_it_again() {
        let (breakers, mut now) = breakers();
        open(&breakers, now);
        now += 30 * SECOND;
        let mut probe = pass(&breakers, now).unwrap();
        probe.answered();
        pass(&breakers, now).unwrap();
        probe.fail(now);
        assert_eq!(breakers.pause(now), Some(30 * SECOND));
    }

    #[test]
    fn what_was_sent_before_it_opened_changes_nothing() {
        let (breakers, now) = breakers();
        let early = pass(&breakers, now).unwrap();
        open(&breakers, now);
        early.fail(now + 10 * SECOND);
        assert_eq!(breakers.pause(now), Some(30 * SECOND));
        let (breakers, now) = self::breakers();
        let early = pass(&breakers, now).unwrap();
        open(&breakers, now);
        early.succeed();
        assert_eq!(breakers.pause(now), Some(30 * SECOND));
    }

    #[test]
    fn authorities_are_bounded() {
        let (breakers, now) = breakers();
        for nth in 0..2 * AUTHORITIES_MAX {
            (0..3).for_each(|_| breakers.pass(SETTINGS, place(&nth.to_string()), now).unwrap().fail(now));
        }
        assert_eq!(breakers.lock().len(), AUTHORITIES_MAX);
    }
}
