//! The accounts of a producer: the memory that its records take, their order, and what was settled but not yet told.

use std::sync::Arc;

use super::batch::{Batch, Parties, Settled};
use super::outcome::Outcome;
use crate::error::SendError;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    buffer_bytes: usize,
    buffered_bytes: usize,
    /// A sender found the buffer full.
    pressed: bool,
    /// Serial of the next record.
    next_serial: u64,
    /// Records below this serial are wanted out now.
    flush_below: u64,
    settled: Vec<Settled>,
    /// Batches taken out to be told and not yet [`told`](Self::told): flushing waits for them.
    untold: usize,
}

impl Ledger {
    pub(crate) fn new(buffer_bytes: usize) -> Self {
        Self {
            buffer_bytes,
            buffered_bytes: 0,
            pressed: false,
            next_serial: 0,
            flush_below: 0,
            settled: Vec::new(),
            untold: 0,
        }
    }

    /// Whether a record of this size fits. One always does.
    pub(crate) fn check_room(&mut self, bytes: usize) -> Result<(), SendError> {
        if self.buffered_bytes > 0 && self.buffered_bytes + bytes > self.buffer_bytes {
            self.pressed = true;
            return Err(SendError::BufferFull { buffer_bytes: self.buffer_bytes });
        }
        Ok(())
    }

    /// Takes a record in; its serial.
    pub(crate) fn charge(&mut self, bytes: usize) -> u64 {
        self.buffered_bytes += bytes;
        self.next_serial += 1;
        self.next_serial - 1
    }

    /// The record that was charged last was not taken in after all.
    pub(crate) fn refund(&mut self, bytes: usize) {
        self.buffered_bytes -= bytes;
    }

    /// A batch is settled.
    pub(crate) fn settle(&mut self, batch: Batch, outcome: Arc<Outcome>) {
        self.settle_records(batch.count.max(0) as usize, batch.charged_bytes, batch.parties, outcome);
    }

    /// A record that is in no batch is settled.
    pub(crate) fn settle_one(&mut self, bytes: usize, parties: Parties, outcome: Arc<Outcome>) {
        self.settle_records(1, bytes, parties, outcome);
    }

    fn settle_records(&mut self, records: usize, bytes: usize, parties: Parties, outcome: Arc<Outcome>) {
        self.buffered_bytes = self.buffered_bytes.saturating_sub(bytes);
        if self.buffered_bytes <= self.buffer_bytes / 2 {
            self.pressed = false;
        }
        self.settled.push(Settled { outcome, records, parties });
    }

    /// What was settled since the last call; to be told outside any lock.
    pub(crate) fn take_settled(&mut self) -> Vec<Settled> {
        self.untold += self.settled.len();
        std::mem::take(&mut self.settled)
    }

    /// As many batches were told what became of them.
    pub(crate) fn told(&mut self, batches: usize) {
        self.untold = self.untold.saturating_sub(batches);
    }

    /// Whether everything settled was told.
    pub(crate) fn is_told(&self) -> bool {
        self.untold == 0 && self.settled.is_empty()
    }

    /// Wants everything taken over so far out now; returns the mark behind it.
    pub(crate) fn flush(&mut self) -> u64 {
        self.flush_below = self.next_serial;
        self.next_serial
    }

    /// The mark of the last flush.
    pub(crate) fn flush_mark(&self) -> u64 {
        self.flush_below
    }

    /// Everything below the mark of the last flush is settled.
    pub(crate) fn flushed(&mut self) {
        self.flush_below = 0;
    }

    /// Whether a record with this serial is wanted out.
    pub(crate) fn is_flushing(&self, serial: u64) -> bool {
        self.flush_below > serial
    }

    /// Whether nothing may linger: a flush is under way, or memory is short.
    pub(crate) fn hurries(&self) -> bool {
        self.pressed || self.flush_below > 0
    }

    /// Bytes of records not yet settled.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }
}
