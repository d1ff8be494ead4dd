//! What stays as it is as long as the host runs.

use super::Present;
use crate::config::{Host, Loaded, Problem};
use crate::listener::tls::{Certificate, Files};

/// What to do about it.
const HELP: &str = "put it back, or restart the host for it";

/// One problem for each key that would have to change.
pub(super) fn problems(loaded: &Loaded, present: &Present) -> Vec<Problem> {
    let (old, new) = (&present.loaded.config.host, &loaded.config.host);
    let problem = |key| loaded.problem(key, "cannot change while the host runs", HELP);
    keys(old, new, present.has_door).into_iter().map(problem).collect()
}

fn keys(old: &Host, new: &Host, has_door: bool) -> Vec<&'static str> {
    // Every key of the table, so that a new one has to be put on one side or the other.
    let Host {
        data_dir,
        admin,
        admin_hosts,
        metrics_open,
        listen,
        certificate,
        runs,
        min_free,
        otlp,
        // Each use asks for these.
        trusted_proxies: _,
        grace: _,
        memory: _,
        compile: _,
        // Connectors are built with them: they are part of each.
        history: _,
        roots: _,
        proxy: _,
        masks: _,
    } = new;
    let all = [
        ("host.data_dir", old.data_dir != *data_dir),
        ("host.admin", old.admin != *admin),
        ("host.admin_hosts", old.admin_hosts != *admin_hosts),
        ("host.metrics_open", old.metrics_open != *metrics_open),
        // As long as nobody listens there, it is a plan.
        ("host.listen", has_door && old.listen != *listen),
        ("host.tls", has_door && files(old.certificate.as_ref()) != files(certificate.as_ref())),
        ("host.runs", old.runs != *runs),
        ("host.min_free", old.min_free != *min_free),
        ("host.otlp", old.otlp != *otlp),
    ];
    all.into_iter().filter(|(_, is_other)| *is_other).map(|(key, _)| key).collect()
}

fn files(certificate: Option<&Certificate>) -> Option<&Files> {
    certificate.map(Certificate::files)
}
