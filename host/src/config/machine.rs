//! What the machine has, for defaults that depend on it.
//!
//! Owns reading the system's own files. Invariant: of several bounds the lowest counts; what cannot be read bounds
//! nothing.

use std::fs;

/// Memory that this process may use: of its control groups, of those around them, and of the machine.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    memory(&|path| fs::read_to_string(path).ok())
}

fn memory(read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(limit_files).filter_map(|file| read(&file)?.trim().parse().ok());
    limits.chain(machine(&read("/proc/meminfo")?)).min()
}

/// The files with the limits of a group and of those around it, for one line of `/proc/self/cgroup`.
fn limit_files(line: &str) -> Vec<String> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(mut group)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|controller| controller == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let mut files = vec![format!("{root}/{file}")];
    while let Some((around, _)) = group.rsplit_once('/') {
        if group != "/" {
            files.push(format!("{root}{group}/{file}"));
        }
        group = around;
    }
    files
}

fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: Option<u64>) {
        let read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
        assert_eq!(memory(&read), expected, "{files:?}");
    }

    #[test]
    fn the_lowest_bound_counts() {
        let machine = ("/proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n");
        let group = ("/proc/self/cgroup", "0::/a/b\n");
        check(&[], None);
        check(&[machine], Some(2 << 20));
        check(&[machine, group, ("/sys/fs/cgroup/a/b/memory.max", "max\n")], Some(2 << 20));
        check(&[machine, group, ("/sys/fs/cgroup/a/b/memory.max", "1048576\n")], Some(1 << 20));
        check(&[machine, group, ("/sys/fs/cgroup/a/memory.max", "1048576\n")], Some(1 << 20));
        check(&[machine, ("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "4096\n")], Some(4096));
        let old = ("/proc/self/cgroup", "5:cpu:/x\n4:memory:/a\n");
        check(&[machine, old, ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "8192\n")], Some(8192));
    }
}
