//! The machine that a broker runs on, as the kernel describes it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::bundle::Bundle;
use super::mask;

/// What is copied as it is.
const PAGES: [&str; 24] = [
    "/proc/version",
    "/etc/os-release",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
    "/proc/pressure/io",
    "/proc/self/cgroup",
    "/proc/self/limits",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/cpu.max",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/proc/sys/fs/file-max",
    "/proc/sys/fs/file-nr",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/tcp_rmem",
    "/proc/sys/net/ipv4/tcp_wmem",
    "/proc/sys/net/ipv6/bindv6only",
    "/proc/sys/vm/dirty_background_ratio",
    "/proc/sys/vm/dirty_ratio",
    "/proc/sys/vm/max_map_count",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/swappiness",
];

/// Adds the machine, with the file systems that these directories are on.
pub(super) fn gather(directories: &[PathBuf], bundle: &mut Bundle) {
    let mut text = format!("processors: {}\n", std::thread::available_parallelism().map_or(0, usize::from));
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    let _ = writeln!(text, "{model}");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for directory in directories {
        let _ = writeln!(text, "\n== the file system of {}", directory.display());
        match directory.canonicalize() {
            Ok(path) => file_system(&path, &mounts, &mut text),
            Err(error) => _ = writeln!(text, "{error}"),
        }
    }
    for page in PAGES {
        if let Ok(said) = fs::read_to_string(page) {
            let _ = write!(text, "\n== {page}\n{said}");
        }
    }
    bundle.add("machine.txt", "Kernel, processors, memory, limits, and the file systems of the directories", text);
}

fn file_system(path: &Path, mounts: &str, text: &mut String) {
    if let Some(mount) = mount_of(path, mounts) {
        // Options of a mount may name a user and a password.
        let words: Vec<_> = mount.split(' ').map(|word| mask::pairs(word, ',')).collect();
        let _ = writeln!(text, "{}", words.join(" "));
    }
    match statvfs(path) {
        Ok(it) => {
            let bytes = |blocks: u64| blocks.saturating_mul(it.f_frsize);
            let (all, free, ours) = (bytes(it.f_blocks), bytes(it.f_bfree), bytes(it.f_bavail));
            let _ = writeln!(
                text,
                "{all} bytes, {free} free, {ours} of them for us; {} inodes, {} free",
                it.f_files, it.f_ffree
            );
        }
        Err(error) => _ = writeln!(text, "{error}"),
    }
}

/// The line of the mount that a path is on: the last one with the longest mount point.
fn mount_of<'a>(path: &Path, mounts: &'a str) -> Option<&'a str> {
    let point = |line: &'a str| line.split(' ').nth(1).filter(|point| path.starts_with(point));
    mounts.lines().filter(|line| point(line).is_some()).max_by_key(|line| point(line).map(str::len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_on_the_innermost_mount() {
        let mounts =
            "/dev/a / ext4 rw 0 0\n/dev/b /srv ext4 rw 0 0\n/dev/c /srv/ottla xfs rw 0 0\n/dev/d /srv/ot ext4 rw 0 0";
        let of = |path: &str| mount_of(Path::new(path), mounts).and_then(|line| line.split(' ').next());
        assert_eq!(of("/srv/ottla/log"), Some("/dev/c"));
        assert_eq!(of("/srv/other"), Some("/dev/b"));
        assert_eq!(of("/home"), Some("/dev/a"));
    }
}
