//! A broker under strace, and what its system calls prove about acknowledgements.
//!
//! strace handles one stop at a time and a stopped thread goes on only after its line is written. So the order of lines
//! is the order of causes: a thread that waited for another one's `fdatasync` cannot begin its `write` on an earlier line
//! than the one on which that `fdatasync` returned.

mod trace;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

pub use trace::{Call, parse};

/// System calls that can put log bytes into a file, make them durable, or send an answer.
const CALLS: &str =
    "trace=pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,sendfile,fsync,fdatasync,sync_file_range";

/// How an entry of the route journal begins; marks of what is durable begin otherwise and promise nothing.
const JOURNAL_ENTRY: &[u8] = b"OTJ\x01";

/// Whether this machine lets us trace; the reason if not.
pub fn unavailable() -> Option<String> {
    let probe = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).stderr(Stdio::piped()).output();
    match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("strace cannot trace here: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("strace cannot be started: {error}")),
    }
}

/// The words in front of a broker's command line that trace it into `file`.
pub fn strace(file: &Path) -> Vec<String> {
    // `-yy` names files and both ends of sockets; 64 bytes of data show the beginning of a batch.
    let words = ["strace", "-f", "-qq", "-yy", "-s", "64", "-e", CALLS, "-e", "signal=none", "-o"];
    words.iter().map(|&word| word.to_owned()).chain([file.to_string_lossy().into_owned()]).collect()
}

/// An acknowledgement as its receiver saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The receiver's end of the connection.
    pub receiver: SocketAddr,
    /// How many bytes the broker had sent on that connection before this answer.
    pub stream_position: u64,
    /// What it acknowledges: partition directories (`topic-0`) with the offset of a first record there.
    pub batches: Vec<(String, i64)>,
}

/// Why an acknowledgement is not covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The trace has no write of the answer, or none of the batch: the check itself is wrong, or blind.
    NotSeen(String),
    /// The answer began to leave before an fdatasync of the file, begun after the batch was written, had returned.
    TooEarly(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::NotSeen(what) => write!(f, "not in the trace: {what}"),
            Violation::TooEarly(what) => write!(f, "acknowledged before it was durable: {what}"),
        }
    }
}

/// Checks that each of `acks` began to leave only after the fdatasync that covers what it acknowledges.
pub fn check(calls: &[Call], acks: &[Ack]) -> Vec<Violation> {
    let answers = answers_by_receiver(calls);
    let mut violations = Vec::new();
    for ack in acks {
        let Some(leaves) = answers.get(&ack.receiver).and_then(|sends| send_at(sends, ack.stream_position)) else {
            violations.push(Violation::NotSeen(format!("the write of {ack:?}")));
            continue;
        };
        for (partition, offset) in &ack.batches {
            let Some(written) = write_of(calls, partition, *offset) else {
                violations.push(Violation::NotSeen(format!("the write of {partition} offset {offset}")));
                continue;
            };
            let covers = |sync: &&Call| {
                sync.is_sync() && sync.path == written.path && sync.begin > written.end && sync.end < leaves.begin
            };
            if !calls.iter().any(|call| covers(&call)) {
                let lines = format!("written on line {}, answered on line {}", written.end, leaves.begin);
                violations.push(Violation::TooEarly(format!("{partition} offset {offset} ({lines})")));
            }
        }
    }
    violations
}

/// Checks that no write into the logs of `topic` begins before what was last written to the route journal is durable. Holds
/// where one producer waits for each answer: the last thing in the journal is then the entry that the write carries out.
pub fn check_journal(calls: &[Call], topic: &str) -> Vec<Violation> {
    let directory = format!("/{topic}-");
    let routed = calls.iter().filter(|call| call.is_write() && call.is_segment() && call.path.contains(&directory));
    let mut violations = Vec::new();
    for write in routed {
        let is_entry = |call: &&Call| call.is_write() && call.is_journal() && call.data.starts_with(JOURNAL_ENTRY);
        let before = calls.iter().filter(is_entry).filter(|call| call.end < write.begin);
        let Some(entry) = before.max_by_key(|call| call.end) else {
            violations.push(Violation::NotSeen(format!("a journal entry before line {}", write.begin)));
            continue;
        };
        let covers =
            |sync: &Call| sync.is_sync() && sync.path == entry.path && sync.begin > entry.end && sync.end < write.begin;
        if !calls.iter().any(covers) {
            let lines = format!("entry on line {}, carried out on line {}", entry.end, write.begin);
            violations.push(Violation::TooEarly(format!("{} ({lines})", write.path)));
        }
    }
    violations
}

/// What was sent to each receiver: where in its stream each call began, in order.
fn answers_by_receiver(calls: &[Call]) -> HashMap<SocketAddr, Vec<(u64, &Call)>> {
    let mut sent: HashMap<SocketAddr, Vec<(u64, &Call)>> = HashMap::new();
    for call in calls.iter().filter(|call| call.result > 0) {
        if let Some(peer) = call.peer {
            let sends = sent.entry(peer).or_default();
            let position = sends.last().map_or(0, |(begin, last)| begin + last.result.cast_unsigned());
            sends.push((position, call));
        }
    }
    sent
}

/// The call that sent the byte at `position`.
fn send_at<'a>(sends: &[(u64, &'a Call)], position: u64) -> Option<&'a Call> {
    let (begin, call) = sends.iter().rev().find(|(begin, _)| *begin <= position)?;
    (position < begin + call.result.cast_unsigned()).then_some(*call)
}

/// The write that put the batch with `offset` into the log of `partition`: the one with the highest first offset up to it.
fn write_of<'a>(calls: &'a [Call], partition: &str, offset: i64) -> Option<&'a Call> {
    let directory = format!("/{partition}/");
    let in_log = |call: &&Call| call.is_write() && call.path.contains(&directory) && call.is_segment();
    // Space that is filled with zeros ahead is no batch: the length is not zero in one.
    let is_batch = |call: &&Call| call.data.get(8..12).is_none_or(|length| length != [0; 4]);
    let first_offset = |call: &Call| call.data.first_chunk().map(|bytes| i64::from_be_bytes(*bytes));
    let before = calls
        .iter()
        .filter(in_log)
        .filter(is_batch)
        .filter(|call| first_offset(call).is_some_and(|first| first <= offset));
    before.max_by_key(|call| first_offset(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"
7 pwritev(9</d/t-0/0.log>, [{iov_base="\0\0\0\0\0\0\0\5\0\0\0b"..., iov_len=110}], 1, 4096) = 110
8 fdatasync(9</d/t-0/0.log> <unfinished ...>
7 pwritev(9</d/t-0/0.log>, [{iov_base="\0\0\0\0\0\0\0\6\0\0\0b"..., iov_len=110}], 1, 4206) = 110
8 <... fdatasync resumed>)            = 0
7 write(6<TCP:[127.0.0.1:9092->127.0.0.1:5000]>, "\0\0\0\n"..., 50) = 50
7 write(6<TCP:[127.0.0.1:9092->127.0.0.1:5000]>, "\0\0\0\n"..., 50) = 50
"#;

    fn ack(stream_position: u64, offset: i64) -> Ack {
        let receiver = SocketAddr::from(([127, 0, 0, 1], 5000));
        Ack { receiver, stream_position, batches: vec![("t-0".to_owned(), offset)] }
    }

    #[test]
    fn a_covered_answer_passes() {
        assert_eq!(check(&parse(TRACE), &[ack(0, 5)]), []);
    }

    #[test]
    fn a_sync_that_began_before_the_write_covers_nothing() {
        let violations = check(&parse(TRACE), &[ack(50, 6)]);
        assert!(matches!(violations.as_slice(), [Violation::TooEarly(_)]), "{violations:?}");
    }

    #[test]
    fn a_journal_entry_is_durable_before_it_is_carried_out() {
        let entry = "1 pwritev(3</d/route/0.journal>, [{iov_base=\"OTJ\\1\", iov_len=4}], 1, 0) = 4\n";
        let mark = "1 pwritev(3</d/route/0.journal>, [{iov_base=\"OTJ\\2\", iov_len=4}], 1, 4) = 4\n";
        let sync = "1 fdatasync(3</d/route/0.journal>) = 0\n";
        let carried_out = "2 pwritev(4</d/t-1/0.log>, [{iov_base=\"x\", iov_len=1}], 1, 0) = 1\n";
        let check = |trace: &[&str]| check_journal(&parse(&trace.concat()), "t");
        assert_eq!(check(&[entry, sync, mark, carried_out, carried_out]), []);
        assert!(matches!(check(&[entry, carried_out, sync]).as_slice(), [Violation::TooEarly(_)]));
        assert!(matches!(check(&[sync, entry, carried_out]).as_slice(), [Violation::TooEarly(_)]));
        assert!(matches!(check(&[carried_out]).as_slice(), [Violation::NotSeen(_)]));
    }

    #[test]
    fn what_the_trace_does_not_show_is_no_proof() {
        assert!(matches!(check(&parse(TRACE), &[ack(100, 5)]).as_slice(), [Violation::NotSeen(_)]));
        assert!(matches!(check(&parse(TRACE), &[ack(0, 4)]).as_slice(), [Violation::NotSeen(_)]));
    }
}
