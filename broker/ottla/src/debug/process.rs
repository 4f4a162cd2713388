//! The process of a broker on this machine, found by the lock that it holds, and the log lines that it writes.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::bundle::Bundle;
use super::mask;

/// What is locked by the broker that uses a data directory.
const LOCKED: &str = "log/lock";
/// How much of the end of a log is taken.
const LOG_BYTES_MAX: u64 = 1 << 20;
const LOG_LINES_MAX: usize = 2000;
/// What the kernel says of a process.
const PAGES: [&str; 5] = ["status", "limits", "io", "smaps_rollup", "cgroup"];

/// A process that uses a data directory.
pub(super) struct Found {
    pid: u32,
}

impl Found {
    /// The one that holds the lock of this directory.
    pub(super) fn on(data_dir: &Path) -> Option<Self> {
        let inode = fs::metadata(data_dir.join(LOCKED)).ok()?.ino();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let pid = locks.lines().find_map(|line| holder(line, inode))?;
        Path::new(&format!("/proc/{pid}")).is_dir().then_some(Self { pid })
    }

    fn path(&self, page: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{page}", self.pid))
    }

    /// The file that its stderr or stdout goes to, if that is one.
    fn log_file(&self) -> Option<PathBuf> {
        let goes_to = |stream: &str| fs::read_link(self.path(stream)).ok().filter(|path| path.is_file());
        goes_to("fd/2").or_else(|| goes_to("fd/1"))
    }
}

/// The process of a line of /proc/locks, such as `1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF`, if it locks that inode.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1).filter(|word| *word != "->");
    let (kind, pid, at) = (words.next()?, words.nth(2)?, words.next()?);
    let locked = at.rsplit(':').next()?.parse::<u64>().ok()?;
    if kind == "FLOCK" && locked == inode { pid.parse().ok() } else { None }
}

/// Adds the process and its log.
pub(super) fn gather(found: Option<&Found>, broker_log: Option<&Path>, bundle: &mut Bundle) {
    match found {
        Some(found) => bundle.add("process.txt", "The process of the broker, as the kernel sees it", described(found)),
        None => bundle.missing("the process of the broker", "no process here holds the lock of the data directory"),
    }
    let Some(path) = broker_log.map(Path::to_path_buf).or_else(|| found?.log_file()) else {
        return bundle
            .missing("the log lines", "they go to no file that could be found; name it with --broker-log FILE");
    };
    match last_lines(&path) {
        Ok(lines) => bundle.add("log.txt", &format!("The last lines of {}", path.display()), lines),
        Err(error) => bundle.missing("the log lines", &format!("{}: {error}", path.display())),
    }
}

fn described(found: &Found) -> String {
    let command = fs::read(found.path("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let files = fs::read_dir(found.path("fd")).map_or(0, Iterator::count);
    let mut text = format!("pid {}, {files} open files\n{}\n", found.pid, mask::pairs(command.trim_end(), ' '));
    for page in PAGES {
        let path = found.path(page);
        let said = fs::read_to_string(&path).unwrap_or_else(|error| error.to_string());
        let _ = write!(text, "\n== {}\n{said}", path.display());
    }
    text
}

fn last_lines(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(bytes.saturating_sub(LOG_BYTES_MAX)))?;
    let mut end = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut end)?;
    let text = String::from_utf8_lossy(&end);
    let mut lines: Vec<&str> = text.lines().collect();
    if bytes > LOG_BYTES_MAX && !lines.is_empty() {
        // The first one begins somewhere in its middle.
        lines.remove(0);
    }
    let last = lines.split_off(lines.len().saturating_sub(LOG_LINES_MAX));
    Ok(last.into_iter().map(|line| mask::log_line(line) + "\n").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_holds_a_lock_is_read_from_the_kernels_list() {
        assert_eq!(holder("1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF", 1234), Some(4711));
        assert_eq!(holder("1: -> FLOCK  ADVISORY  WRITE 4712 fe:01:1234 0 EOF", 1234), Some(4712));
        assert_eq!(holder("2: POSIX  ADVISORY  WRITE 4711 fe:01:1234 0 EOF", 1234), None);
        assert_eq!(holder("1: FLOCK  ADVISORY  WRITE 4711 fe:01:12345 0 EOF", 1234), None);
        assert_eq!(holder("", 1234), None);
    }
}
