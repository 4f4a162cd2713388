//! Where a consumer stands in one partition: what was fetched and not yet polled, what to fetch next, what went wrong.

use std::collections::VecDeque;
use std::sync::Arc;

use super::backoff::Backoff;
use super::chunk::Chunk;
use super::unpack::OpenedBatch;
use crate::error::ConsumeError;

/// Where to start reading a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// The first record there is.
    Earliest,
    /// What comes next.
    Latest,
    /// This offset.
    Offset(i64),
    /// The first record with this timestamp (milliseconds since 1970) or a later one; the end if there is none.
    Timestamp(i64),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// Another one after every seek, never one of before: answers to earlier questions are not taken in.
    pub(crate) generation: u64,
    pub(crate) leader: Option<i32>,
    pub(crate) paused: bool,
    /// A question about this partition is under way.
    pub(crate) busy: bool,
    pub(crate) retry_at_ms: u64,
    failures: u32,
    /// A start that the broker has yet to turn into an offset.
    start: Option<StartFrom>,
    /// Fetched and not yet polled.
    fetched: VecDeque<OpenedBatch>,
    fetched_bytes: usize,
    /// The first offset not yet fetched.
    next_fetch: i64,
    /// The leader epoch of what was fetched before it, -1 if that is not known.
    last_epoch: i32,
    /// The first offset not yet polled.
    position: i64,
    trouble: Trouble,
    /// Since when, and why, nothing could be asked for it.
    stalled: Option<(u64, ConsumeError)>,
    pub(crate) high_watermark: i64,
    /// The position when the last poll began: everything before it is done with.
    pub(crate) done: Option<i64>,
    /// What the group has committed.
    pub(crate) committed: Option<i64>,
    /// The application is finishing with it: no more of it is polled.
    pub(crate) is_going: bool,
    /// How much to ask for at once; grows when a batch does not fit.
    pub(crate) bytes_max: i32,
}

/// An error that ends this partition until a seek.
#[derive(Debug)]
enum Trouble {
    None,
    /// To be told once everything before it was polled.
    Untold(ConsumeError),
    Told,
}

/// The bounds of a consumer, as far as one partition is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) now_ms: u64,
    /// What one partition may have fetched ahead.
    pub(crate) partition_bytes: usize,
}

impl Cursor {
    pub(crate) fn new(topic: Arc<str>, partition: i32, bytes_max: i32) -> Self {
        Self {
            topic,
            partition,
            generation: 0,
            leader: None,
            paused: false,
            busy: false,
            retry_at_ms: 0,
            failures: 0,
            start: None,
            fetched: VecDeque::new(),
            fetched_bytes: 0,
            next_fetch: 0,
            last_epoch: -1,
            position: 0,
            trouble: Trouble::None,
            stalled: None,
            high_watermark: -1,
            done: None,
            committed: None,
            is_going: false,
            bytes_max,
        }
    }

    /// Forgets what was fetched and starts anew from there, as a generation that was never there before.
    pub(crate) fn seek(&mut self, start: StartFrom, generation: u64) {
        self.generation = generation;
        self.busy = false;
        self.retry_at_ms = 0;
        self.failures = 0;
        self.drop_fetched();
        self.trouble = Trouble::None;
        self.stalled = None;
        match start {
            StartFrom::Offset(offset) => self.start_at(offset.max(0)),
            other => self.start = Some(other),
        }
    }

    /// Looks up a new place to go on from, after what was fetched.
    pub(crate) fn restart(&mut self, start: StartFrom) {
        self.start = Some(start);
    }

    /// The offset that a start stands for is known.
    pub(crate) fn start_at(&mut self, offset: i64) {
        self.start = None;
        self.next_fetch = offset;
        self.last_epoch = -1;
        if self.fetched.is_empty() {
            self.position = offset;
        }
    }

    /// The start that has yet to be turned into an offset.
    pub(crate) fn unresolved_start(&self) -> Option<StartFrom> {
        self.start.filter(|_| !self.has_ended())
    }

    /// The offset of the next record to be polled, if it is known.
    pub(crate) fn position(&self) -> Option<i64> {
        (self.start.is_none() || !self.fetched.is_empty()).then_some(self.position)
    }

    /// The offset to fetch from.
    pub(crate) fn next_fetch(&self) -> i64 {
        self.next_fetch
    }

    /// Whether a fetch for it makes sense now.
    pub(crate) fn wants_fetch(&self, room: Room) -> bool {
        self.start.is_none()
            && self.may_ask(room.now_ms)
            && !self.paused
            && !self.is_going
            && self.fetched_bytes < room.partition_bytes
    }

    /// Whether it reads no further before a seek.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.trouble, Trouble::None)
    }

    /// Whether nothing is under way, broken, or to be waited out.
    pub(crate) fn may_ask(&self, now_ms: u64) -> bool {
        !self.busy && !self.has_ended() && self.retry_at_ms <= now_ms
    }

    /// The leader epoch of what was fetched last, -1 if that is not known.
    pub(crate) fn last_epoch(&self) -> i32 {
        self.last_epoch
    }

    /// Something went wrong that may go right later.
    pub(crate) fn back_off(&mut self, now_ms: u64, backoff: Backoff, why: ConsumeError) {
        self.failures = self.failures.saturating_add(1);
        let since_ms = self.stalled.as_ref().map_or(now_ms, |(since_ms, _)| *since_ms);
        self.stalled = Some((since_ms, why));
        self.retry_at_ms = now_ms + backoff.pause_ms(self.failures, now_ms ^ u64::from(self.partition as u32));
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// An answer that makes sense.
    pub(crate) fn succeed(&mut self) {
        self.failures = 0;
        self.stalled = None;
    }

    /// The log was cut back to `end` since the last fetch. What was fetched and not polled is fetched again. Returns
    /// whether records behind `end` were polled.
    pub(crate) fn diverge(&mut self, end: i64) -> bool {
        self.drop_fetched();
        self.next_fetch = self.position;
        self.last_epoch = -1;
        self.position > end
    }

    /// Ends here until a seek; the error is told after the records before it.
    pub(crate) fn fail(&mut self, error: ConsumeError) {
        self.trouble = Trouble::Untold(error);
    }

    /// Takes in a batch that was fetched.
    pub(crate) fn take_in(&mut self, batch: OpenedBatch) {
        self.next_fetch = batch.header.next_offset().get();
        self.last_epoch = batch.header.partition_leader_epoch.get();
        self.fetched_bytes += batch.bytes();
        self.fetched.push_back(batch);
    }

    /// Everything before this offset was looked at; its last batch was of this leader epoch.
    pub(crate) fn skip_to(&mut self, offset: i64, last_epoch: i32) {
        if offset > self.next_fetch {
            (self.next_fetch, self.last_epoch) = (offset, last_epoch);
        }
        if self.fetched.is_empty() {
            self.position = self.next_fetch;
        }
    }

    fn drop_fetched(&mut self) {
        self.fetched.clear();
        self.fetched_bytes = 0;
    }

    /// Bytes fetched and not yet polled.
    pub(crate) fn fetched_bytes(&self) -> usize {
        self.fetched_bytes
    }

    /// Whether there is something to poll.
    pub(crate) fn has_fetched(&self) -> bool {
        !self.fetched.is_empty() && !self.is_going
    }

    /// Up to `count` records of the first batch that has some, and the bytes of batches finished by that.
    pub(crate) fn poll(&mut self, count: usize) -> (Option<Chunk>, usize) {
        let mut freed = 0;
        while let Some(batch) = self.fetched.front_mut() {
            let mut entries = Vec::with_capacity(count.min(batch.header.record_count.max(0) as usize).min(4096));
            let read = batch.read(count, &mut entries);
            let chunk = (!entries.is_empty()).then(|| Chunk {
                topic: Arc::clone(&self.topic),
                partition: self.partition,
                generation: self.generation,
                timestamp_type: batch.header.timestamp_type(),
                buffer: batch.buffer.clone(),
                entries,
            });
            if let Some(last) = chunk.as_ref().and_then(|chunk| chunk.entries.last()) {
                self.position = last.offset.saturating_add(1);
            }
            if let Err((offset, reason)) = read {
                let (topic, partition) = (Arc::clone(&self.topic), self.partition);
                freed += self.fetched_bytes;
                self.drop_fetched();
                self.position = self.position.max(offset);
                self.next_fetch = self.position;
                self.fail(ConsumeError::Corrupt { topic, partition, offset, reason: reason.into() });
            } else if batch.is_done() {
                let (bytes, next_offset) = (batch.bytes(), batch.header.next_offset().get());
                freed += bytes;
                self.fetched_bytes = self.fetched_bytes.saturating_sub(bytes);
                self.fetched.pop_front();
                // Behind the last batch there may have been others without anything to read.
                self.position = if self.fetched.is_empty() { self.next_fetch } else { next_offset };
            }
            if chunk.is_some() {
                return (chunk, freed);
            }
        }
        (None, freed)
    }

    /// Why it has been at a standstill for so long: told once per that time, after everything fetched before.
    pub(crate) fn complain(&mut self, now_ms: u64, patience_ms: u64) -> Option<ConsumeError> {
        let (since_ms, why) = self.stalled.as_mut().filter(|_| self.fetched.is_empty())?;
        if now_ms.saturating_sub(*since_ms) < patience_ms {
            return None;
        }
        *since_ms = now_ms;
        Some(why.clone())
    }

    /// The error to be told now, once.
    pub(crate) fn take_trouble(&mut self) -> Option<ConsumeError> {
        if !self.fetched.is_empty() || !matches!(self.trouble, Trouble::Untold(_)) {
            return None;
        }
        match std::mem::replace(&mut self.trouble, Trouble::Told) {
            Trouble::Untold(error) => Some(error),
            Trouble::None | Trouble::Told => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seek_starts_the_pauses_of_its_partition_anew() {
        let backoff = Backoff::new(10, 10_000);
        let why = || ConsumeError::NotAssigned { topic: "t".into(), partition: 0 };
        let mut cursor = Cursor::new("t".into(), 0, 100);
        cursor.back_off(0, backoff, why());
        let first_ms = cursor.retry_at_ms;
        for _ in 0..8 {
            cursor.back_off(0, backoff, why());
        }
        assert!(cursor.retry_at_ms > 2 * first_ms, "{} after {first_ms}", cursor.retry_at_ms);
        cursor.seek(StartFrom::Earliest, 1);
        assert!(cursor.may_ask(0) && cursor.failures() == 0);
        cursor.back_off(0, backoff, why());
        assert_eq!(cursor.retry_at_ms, first_ms);
    }
}
