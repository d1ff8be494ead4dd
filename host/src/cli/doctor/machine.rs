//! What the system lets this process have: open files, memory, addresses; and whether its clock can be believed.

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::clock;
use crate::config::{Config, memory_bytes};

/// Files that a host may come to have open: connections of its listeners, requests, the ledger.
const FILES_WANTED: u64 = 4_096;
/// A ledger of some size.
const FILE_BYTES_WANTED: u64 = 64 << 30;

/// Looks at the limits and the clock.
pub(super) fn look(config: Option<&Config>) -> Vec<Finding> {
    let mut findings = vec![files(getrlimit(Resource::Nofile).maximum)];
    findings.extend(address_space(getrlimit(Resource::As).current));
    findings.extend(file_size(getrlimit(Resource::Fsize).current));
    findings.extend(config.and_then(|config| Some(memory(config.host.memory, memory_bytes()?))));
    findings.push(clock(clock::is_synchronised()));
    findings
}

fn files(most: Option<u64>) -> Finding {
    const ABOUT: &str = "open files";
    match most {
        Some(most) if most < FILES_WANTED => Finding::warning(
            ABOUT,
            format!("{most} at most, so that fewer connections are taken at once"),
            format!("raise `LimitNOFILE` of the service, or `ulimit -Hn`, to {FILES_WANTED} or more"),
        ),
        Some(most) => Finding::ok(ABOUT, format!("{most} at most")),
        None => Finding::ok(ABOUT, "no limit"),
    }
}

/// Sandboxes reserve far more addresses than they use memory.
fn address_space(most: Option<u64>) -> Option<Finding> {
    let most = most?;
    let help = "take `LimitAS` or `ulimit -v` away, and bound memory by `host.memory` and the control group";
    Some(Finding::problem("addresses", format!("{} MiB at most: sandboxes reserve more", most >> 20), help))
}

fn file_size(most: Option<u64>) -> Option<Finding> {
    let most = most.filter(|most| *most < FILE_BYTES_WANTED)?;
    let help = "take `LimitFSIZE` or `ulimit -f` away: bound the ledger by `max_bytes` of its queues";
    Some(Finding::warning("file size", format!("{} MiB at most, which ends the ledger's growth", most >> 20), help))
}

fn memory(configured: u64, there_is: u64) -> Finding {
    const ABOUT: &str = "memory";
    let (of_runs, there) = (configured >> 20, there_is >> 20);
    if configured > there_is {
        let help = format!("lower `host.memory` below {there}MiB, or raise the control group's limit");
        return Finding::problem(ABOUT, format!("{there} MiB, and `host.memory` is {of_runs} MiB"), help);
    }
    Finding::ok(ABOUT, format!("{there} MiB, of which sandboxes may take {of_runs}"))
}

fn clock(is_synchronised: Option<bool>) -> Finding {
    const ABOUT: &str = "clock";
    let help = "run a time service (chrony, systemd-timesyncd): signatures of webhooks and schedules go by the clock";
    match is_synchronised {
        Some(true) => Finding::ok(ABOUT, "kept in time"),
        Some(false) => Finding::warning(ABOUT, "nothing keeps it in time, as far as the system knows", help),
        None => Finding::warning(ABOUT, "the system does not say whether anything keeps it in time", help),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn what_is_too_little_says_how_to_have_more() {
        let check = |finding: Finding, level, help: &str| {
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.help.contains(help), "{finding:?}");
        };
        check(files(Some(1_024)), Level::Warning, "LimitNOFILE");
        check(files(Some(FILES_WANTED)), Level::Ok, "");
        check(files(None), Level::Ok, "");
        check(address_space(Some(8 << 30)).expect("it is a limit"), Level::Problem, "LimitAS");
        check(file_size(Some(1 << 30)).expect("it is low"), Level::Warning, "LimitFSIZE");
        assert_eq!((address_space(None), file_size(None), file_size(Some(1 << 40))), (None, None, None));
        check(memory(2 << 30, 1 << 30), Level::Problem, "below 1024MiB");
        check(memory(1 << 30, 1 << 30), Level::Ok, "");
        check(clock(Some(true)), Level::Ok, "");
        check(clock(Some(false)), Level::Warning, "time service");
        check(clock(None), Level::Warning, "time service");
    }
}
