//! A line on stderr that shows how far long work is: on a terminal only, and not for work that is over at once.

use std::future::Future;
use std::io::{IsTerminal, Write, stderr};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Work shorter than this shows nothing.
const SILENT: Duration = Duration::from_millis(500);

/// The line is written anew this often.
const PERIOD: Duration = Duration::from_millis(200);

/// See the module.
pub(crate) struct Progress {
    visible: bool,
    shown: bool,
    started: Instant,
    next: Instant,
}

impl Progress {
    /// Work begins.
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { visible: stderr().is_terminal(), shown: false, started: now, next: now + SILENT }
    }

    /// Time since the work began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows the words if it is time to.
    pub(crate) fn show(&mut self, words: impl FnOnce() -> String) {
        if !self.visible || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + PERIOD;
        self.shown = true;
        // Back to the start of the line, and clear what is behind the words.
        let _ = write!(stderr(), "\r{}\x1b[K", words());
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How long a command waits before it says that it does.
const UNTOLD: Duration = Duration::from_secs(2);

/// Says on stderr, a terminal or not, that `broker` has not answered yet, where the work takes longer than it should.
pub(crate) async fn impatient<T>(broker: &str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if let Ok(done) = tokio::time::timeout(UNTOLD, work.as_mut()).await {
        return done;
    }
    // A closed stderr is no failure.
    let _ = writeln!(stderr(), "ottla: no answer from {broker} yet, still waiting");
    work.await
}

/// A number of bytes as people read it: `1.4 MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {name}") }
}

#[cfg(test)]
mod tests {
    use super::human_bytes;

    #[test]
    fn bytes_read_well() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_500_000, "1.4 MiB")] {
            assert_eq!(human_bytes(bytes), text);
        }
        assert_eq!(human_bytes(u64::MAX), "16777216.0 TiB");
    }
}
