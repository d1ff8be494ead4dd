//! The data directory: whose it is, what keeps it, how much it has left, and who may read the token in it.

use std::time::{Duration, SystemTime};

use rustix::process::geteuid;

use super::Finding;
use crate::clock;
use crate::config::Config;
use crate::ledger::{FileSystem, Room, Site};
use crate::secret_store::token;

/// Permission bits of group and others.
const MODE_OF_OTHERS: u32 = 0o077;
/// What was written later than this after now was written under another clock.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// Looks at it.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let dir = &config.host.data_dir;
    let site = match Site::look(dir, config.host.min_free) {
        Ok(site) => site,
        Err(error) => {
            return vec![Finding::problem("data directory", format!("{error:#}"), "set another `host.data_dir`")];
        }
    };
    let ledger = Site::refuse_ledger(dir).err();
    let ledger = ledger.map(|error| Finding::problem("ledger", error.to_string(), "nothing was changed in it"));
    let mut findings = vec![owner(&site, geteuid().as_raw()), file_system(&site)];
    findings.extend(site.room.map(room));
    findings.extend(ledger);
    findings.extend(site.written.and_then(|written| turned_back(written, clock::wall())));
    findings.extend(token::mode(dir).map(|mode| admin_token(mode, &token::path(dir).display().to_string())));
    findings
}

fn owner(site: &Site, user: u32) -> Finding {
    const ABOUT: &str = "data directory";
    let dir = site.dir.display();
    if !site.exists {
        return Finding::ok(ABOUT, format!("missing: the next start makes it in {dir}"));
    }
    if site.owner != user && user != 0 {
        let help = format!("`chown -R {user} {dir}`, or run bulkhead as user {}", site.owner);
        return Finding::problem(ABOUT, format!("{dir} belongs to user {}, this is user {user}", site.owner), help);
    }
    if site.owner != user {
        let help = format!("run bulkhead, and its verbs, as user {}", site.owner);
        return Finding::warning(ABOUT, format!("{dir} belongs to user {}, and this is root", site.owner), help);
    }
    if site.mode & MODE_OF_OTHERS != 0 {
        let text = format!("{dir} is open to others (mode {:04o})", site.mode);
        return Finding::warning(ABOUT, text, format!("`chmod 700 {dir}`"));
    }
    let used = if site.is_in_use { "a host or a verb works on it" } else { "nobody works on it" };
    Finding::ok(ABOUT, format!("{dir}, {used}"))
}

fn file_system(site: &Site) -> Finding {
    const ABOUT: &str = "file system";
    let help = "set `host.data_dir` to a folder on a disk of this machine";
    if site.is_read_only {
        return Finding::problem(
            ABOUT,
            "mounted for reading alone",
            "mount it for writing, or set another `host.data_dir`",
        );
    }
    match site.file_system {
        Some(FileSystem::Network(name)) => Finding::problem(ABOUT, format!("of another machine ({name})"), help),
        Some(FileSystem::Fuse) => {
            Finding::warning(ABOUT, "kept by a program (FUSE), which may keep it on another machine", help)
        }
        Some(FileSystem::Memory) => Finding::warning(ABOUT, "in memory: a reboot takes all of it", help),
        Some(FileSystem::Overlay) => {
            let help = "mount a volume for `host.data_dir`";
            Finding::warning(ABOUT, "a layer of a container, which goes with the container", help)
        }
        Some(FileSystem::Local) => Finding::ok(ABOUT, "of this machine"),
        None => Finding::warning(ABOUT, "its kind cannot be told", help),
    }
}

fn room(Room { free_bytes, watermark_bytes }: Room) -> Finding {
    const ABOUT: &str = "disk";
    let (free, least) = (free_bytes >> 20, watermark_bytes >> 20);
    let text = format!("{free} MiB free, nothing new is accepted below {least}");
    match free_bytes {
        bytes if bytes < watermark_bytes => Finding::problem(ABOUT, text, "free some, or lower `host.min_free`"),
        bytes if bytes < watermark_bytes.saturating_mul(2) => {
            Finding::warning(ABOUT, text, "free some before it fills")
        }
        _ => Finding::ok(ABOUT, text),
    }
}

fn turned_back(written: SystemTime, now: SystemTime) -> Option<Finding> {
    let ahead = written.duration_since(now).ok().filter(|ahead| *ahead > AHEAD_MAX)?;
    let text = format!("the data directory was written {} s after now: the clock was turned back", ahead.as_secs());
    Some(Finding::problem("clock", text, "set the clock right before a start: dues and schedules go by it"))
}

fn admin_token(mode: u32, path: &str) -> Finding {
    const ABOUT: &str = "admin token";
    if mode & MODE_OF_OTHERS != 0 {
        let help = format!("`rm {path}` and start again: whoever could read it may have it");
        return Finding::problem(ABOUT, format!("open to others (mode {mode:04o})"), help);
    }
    Finding::ok(ABOUT, "its owner's alone")
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn site() -> Site {
        let file_system = Some(FileSystem::Local);
        let dir = "data".into();
        let (is_read_only, is_in_use) = (false, false);
        Site {
            dir,
            exists: true,
            mode: 0o700,
            owner: 7,
            file_system,
            is_read_only,
            room: None,
            is_in_use,
            written: None,
        }
    }

    #[test]
    fn a_place_is_judged_by_its_owner_its_mode_and_what_keeps_it() {
        assert_eq!(owner(&site(), 7).level, Level::Ok);
        assert_eq!(owner(&Site { exists: false, ..site() }, 8).level, Level::Ok);
        assert_eq!(owner(&site(), 8).level, Level::Problem);
        assert_eq!(owner(&site(), 0).level, Level::Warning);
        assert_eq!(owner(&Site { mode: 0o750, ..site() }, 7).help, "`chmod 700 data`");
        let of = |file_system| file_system_of(Site { file_system, ..site() });
        assert_eq!(of(Some(FileSystem::Local)), Level::Ok);
        assert_eq!(of(Some(FileSystem::Network("NFS"))), Level::Problem);
        for doubtful in [Some(FileSystem::Fuse), Some(FileSystem::Memory), Some(FileSystem::Overlay), None] {
            assert_eq!(of(doubtful), Level::Warning, "{doubtful:?}");
        }
        assert_eq!(file_system_of(Site { is_read_only: true, ..site() }), Level::Problem);
    }

    fn file_system_of(site: Site) -> Level {
        file_system(&site).level
    }

    #[test]
    fn room_and_time_are_judged_by_what_is_left_of_them() {
        let of = |free_bytes| room(Room { free_bytes, watermark_bytes: 100 << 20 }).level;
        assert_eq!([99 << 20, 199 << 20, 200 << 20].map(of), [Level::Problem, Level::Warning, Level::Ok]);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(turned_back(now + AHEAD_MAX, now), None);
        assert!(
            turned_back(now + AHEAD_MAX * 2, now).is_some_and(|finding| finding.message.contains("120 s after now"))
        );
        assert_eq!([admin_token(0o600, "t").level, admin_token(0o640, "t").level], [Level::Ok, Level::Problem]);
    }
}
