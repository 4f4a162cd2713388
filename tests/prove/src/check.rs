//! What a log holds, compared with what was acknowledged and seen.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use ottla_tests::connection::Connection;
use ottla_wire::ErrorCode;

use crate::content::{Entry, Identity, entries, first_batch};
use crate::report::Outcome;
use crate::workload::{Producer, Seen};

/// Everything a partition holds, read from its start to its high watermark.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// Every record.
    pub records: Vec<Entry>,
    /// Where the log starts.
    pub start: i64,
    /// Offset after the last visible record.
    pub end: i64,
}

/// Reads a partition from where it starts. An error is an answer that no sound log gives.
pub fn read(address: SocketAddr, topic: &str, partition: i32) -> Result<Partition, String> {
    read_with(address, topic, partition, false)
}

/// The same of a topic that is compacted: there may be gaps.
pub fn read_compacted(address: SocketAddr, topic: &str, partition: i32) -> Result<Partition, String> {
    read_with(address, topic, partition, true)
}

fn read_with(address: SocketAddr, topic: &str, partition: i32, has_gaps: bool) -> Result<Partition, String> {
    let mut socket = Connection::open(address).map_err(|error| error.to_string())?;
    let mut found = Partition::default();
    let mut next = 0;
    loop {
        let fetched =
            socket.fetch(topic, partition, next, 0).map_err(|error| format!("{topic}-{partition}: {error}"))?;
        if fetched.code == ErrorCode::OffsetOutOfRange && fetched.start > next {
            next = fetched.start;
            continue;
        }
        if fetched.code != ErrorCode::None {
            return Err(format!("{topic}-{partition} answers {:?} at offset {next}", fetched.code));
        }
        (found.start, found.end) = (fetched.start, fetched.high_watermark);
        if next >= fetched.high_watermark {
            return Ok(found);
        }
        let mut rest = fetched.bytes.as_slice();
        let before = next;
        while !rest.is_empty() {
            let raw = match first_batch(rest) {
                Ok(raw) => raw,
                Err(error) if next == before => return Err(format!("{topic}-{partition} at offset {next}: {error}")),
                // Cut off by the size of the answer; whether it was that shows the next one.
                Err(_) => break,
            };
            if raw.last_offset >= next {
                // Only the first one may begin earlier: a log can start in the middle of a batch.
                let is_right = match raw.base_offset.cmp(&next) {
                    Ordering::Less => next == found.start,
                    Ordering::Equal => true,
                    Ordering::Greater => has_gaps,
                };
                if !is_right {
                    return Err(format!("{topic}-{partition}: offset {} where {next} is due", raw.base_offset));
                }
                found.records.extend(entries(&raw)?.into_iter().filter(|entry| entry.offset >= next));
                next = raw.last_offset + 1;
            }
            rest = &rest[raw.bytes.len()..];
        }
        if next == before {
            return Err(format!("{topic}-{partition} answers nothing at offset {next} of {}", fetched.high_watermark));
        }
    }
}

/// Where a partition starts, and how far it can be read.
pub fn bounds(socket: &mut Connection, topic: &str, partition: i32) -> io::Result<(i64, i64)> {
    let fetched = socket.fetch(topic, partition, 0, 0)?;
    match fetched.code {
        ErrorCode::None | ErrorCode::OffsetOutOfRange => Ok((fetched.start, fetched.high_watermark)),
        code => Err(io::Error::other(format!("{topic}-{partition} answers {code:?}"))),
    }
}

/// Checks what was acknowledged to `producers` against the log that they share, and that nothing stands there twice, in
/// another order, or with a gap. With `complete`, everything that was ever sent has to be there.
pub fn compare(log: &Partition, producers: &[&Producer], complete: bool) -> Counts {
    let mut counts = Counts::default();
    let at: HashMap<i64, Identity> = log.records.iter().map(|entry| (entry.offset, entry.identity)).collect();
    for producer in producers {
        for acked in &producer.acked {
            counts.acknowledged += u64::from(acked.count);
            for place in 0..acked.count {
                let offset = acked.base_offset + i64::from(place);
                let sent = Identity { number: acked.first.number + u64::from(place), ..acked.first };
                if at.get(&offset) != Some(&sent) {
                    counts.lost += 1;
                    counts.say(format!("offset {offset}: {sent:?} was acknowledged, {:?} is there", at.get(&offset)));
                }
            }
        }
        let mut next = 0;
        for entry in log.records.iter().filter(|entry| entry.identity.tag == producer.tag()) {
            let number = entry.identity.number;
            if number < next {
                counts.duplicated += 1;
                counts.say(format!("offset {}: record {number} of {} comes again", entry.offset, producer.tag()));
            } else if number > next {
                counts.say(format!("offset {}: record {number} where {next} is due", entry.offset));
            }
            next = next.max(number + 1);
        }
        if complete && next != producer.made() {
            counts.say(format!("{next} of the {} records that producer {} sent", producer.made(), producer.tag()));
        }
    }
    counts
}

/// Checks that what a consumer saw is there.
pub fn compare_seen(log: &Partition, seen: &[Seen]) -> Counts {
    let mut counts = Counts::default();
    let at: HashMap<i64, Identity> = log.records.iter().map(|entry| (entry.offset, entry.identity)).collect();
    for Seen { entry, .. } in seen {
        if at.get(&entry.offset) != Some(&entry.identity) {
            counts.say(format!("{entry:?} was seen, {:?} is there", at.get(&entry.offset)));
        }
    }
    counts
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Those that are not at their offset.
    pub lost: u64,
    /// Records that are there again.
    pub duplicated: u64,
    /// How many things are wrong.
    pub wrong: u64,
    /// The first few of them.
    pub what: Vec<String>,
}

impl Counts {
    fn say(&mut self, what: String) {
        self.wrong += 1;
        if self.what.len() < 3 {
            self.what.push(what);
        }
    }

    /// Enters losses and what else is wrong; what was acknowledged is for the caller to enter once.
    pub fn enter(&self, outcome: &mut Outcome, seed: u64, cases: u64, when: &str) {
        outcome.lost += self.lost;
        outcome.duplicated += self.duplicated;
        if self.wrong > 0 {
            let Counts { wrong, lost, duplicated, .. } = self;
            let what = self.what.join("; ");
            let text = format!("{when}: {wrong} wrong, {lost} of them lost, {duplicated} doubled: {what}");
            outcome.violation(seed, cases, text);
        }
    }
}
