//! Log lines about peers: a peer that goes on doing wrong gets a number of lines, then a count.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lines of one kind about one address in [`INTERVAL`]; more are counted.
const LINES_MAX: u32 = 50;
/// How often the counts are written.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// Kinds and addresses that are told apart; what comes from more addresses is counted as one.
const PEERS_MAX: usize = 4096;

/// The lines of the current interval.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    written: Mutex<HashMap<(&'static str, Option<IpAddr>), Written>>,
}

#[derive(Debug)]
struct Written {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Complaints {
    /// Whether a line of this kind about `ip` is to be written.
    pub(crate) fn allow(&self, kind: &'static str, ip: IpAddr) -> bool {
        let mut written = self.written.lock();
        let known = written.len() < PEERS_MAX || written.contains_key(&(kind, Some(ip)));
        let new = || Written { since: Instant::now(), lines: 0, left_out: 0 };
        let it = written.entry((kind, known.then_some(ip))).or_insert_with(new);
        it.lines = it.lines.saturating_add(1);
        let allowed = it.lines <= LINES_MAX;
        it.left_out += u64::from(!allowed);
        allowed
    }

    /// Writes what was left out, and begins anew. To be called every [`INTERVAL`].
    pub(crate) fn report(&self) {
        self.report_at(Instant::now(), |line| tracing::warn!("{line}"));
    }

    fn report_at(&self, now: Instant, mut write: impl FnMut(String)) {
        self.written.lock().retain(|(kind, ip), it| {
            if it.left_out > 0 {
                let peer = ip.map_or_else(|| "other addresses".to_owned(), |ip| ip.to_string());
                write(format!("left out {} more log lines about {kind} of {peer}", it.left_out));
            }
            (it.lines, it.left_out) = (0, 0);
            let current = now.saturating_duration_since(it.since) < INTERVAL;
            it.since = now;
            current
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_many_is_counted_by_kind_and_peer() {
        let complaints = Complaints::default();
        let [loud, quiet]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let written = (0..1_000).filter(|_| complaints.allow("noise", loud)).count();
        assert_eq!(written, LINES_MAX as usize);
        assert!(complaints.allow("noise", quiet) && complaints.allow("other noise", loud));
        let mut lines = Vec::new();
        complaints.report_at(Instant::now(), |line| lines.push(line));
        assert_eq!(lines, ["left out 950 more log lines about noise of 127.0.0.1"]);
        assert!(complaints.allow("noise", loud), "a new interval");
        complaints.report_at(Instant::now() + INTERVAL, |line| panic!("{line}"));
        assert!(complaints.written.lock().is_empty());
    }
}
