//! What stays as it is as long as the host runs.

use super::Present;
use crate::config::{Host, Loaded, Problem};

/// What to do about it.
const HELP: &str = "put it back, or restart the host for it";

/// One problem for each key that would have to change.
pub(super) fn problems(loaded: &Loaded, present: &Present) -> Vec<Problem> {
    let (old, new) = (&present.loaded.config.host, &loaded.config.host);
    let problem = |key| loaded.problem(key, "cannot change while the host runs", HELP);
    keys(old, new, present.has_door).into_iter().map(problem).collect()
}

fn keys(old: &Host, new: &Host, has_door: bool) -> Vec<&'static str> {
    let files = |host: &Host| host.certificate.as_ref().map(|certificate| certificate.files().clone());
    let all = [
        ("host.data_dir", old.data_dir != new.data_dir),
        ("host.admin", old.admin != new.admin),
        ("host.admin_hosts", old.admin_hosts != new.admin_hosts),
        ("host.metrics_open", old.metrics_open != new.metrics_open),
        // As long as nobody listens there, it is a plan.
        ("host.listen", has_door && old.listen != new.listen),
        ("host.tls", has_door && files(old) != files(new)),
        ("host.runs", old.runs != new.runs),
        ("host.min_free", old.min_free != new.min_free),
    ];
    all.into_iter().filter(|(_, is_other)| *is_other).map(|(key, _)| key).collect()
}
