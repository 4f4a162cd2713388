//! Which batches of a fetched partition belong to transactions that were aborted. A broker names those whose records are
//! among what it answers; the marker in the log says where each one ends.

use std::collections::HashSet;

use ottla_wire::ProducerId;
use ottla_wire::message::AbortedTransaction;
use ottla_wire::record::Batch;

/// The type of a control record that aborts a transaction (KIP-98); 1 commits one.
const ABORT_MARKER: i16 = 0;

/// See the module. Batches are looked at in the order of their offsets.
pub(crate) struct Aborted {
    /// Those that have yet to begin, the first one last.
    to_come: Vec<AbortedTransaction>,
    /// Producers whose transaction has begun and not ended.
    open: HashSet<ProducerId>,
}

impl Aborted {
    pub(crate) fn new(transactions: &[AbortedTransaction]) -> Self {
        let mut to_come = transactions.to_vec();
        to_come.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { to_come, open: HashSet::new() }
    }

    /// Whether this batch holds nothing for the reader: a marker, or records of an aborted transaction.
    pub(crate) fn skips(&mut self, batch: &Batch<'_>) -> bool {
        let header = &batch.header;
        while let Some(begun) = self.to_come.pop_if(|next| next.first_offset <= header.last_offset().get()) {
            self.open.insert(ProducerId(begun.producer_id));
        }
        if header.is_control() {
            if is_abort(batch) {
                self.open.remove(&header.producer_id);
            }
            return true;
        }
        header.is_transactional() && self.open.contains(&header.producer_id)
    }
}

/// The key of a control record is its version and its type, both of two bytes.
fn is_abort(batch: &Batch<'_>) -> bool {
    let Ok(records) = batch.records(MARKER_BYTES_MAX) else { return false };
    let Some(Ok(marker)) = records.iter().next() else { return false };
    marker.key.and_then(|key| key.get(2..4)) == Some(&ABORT_MARKER.to_be_bytes())
}

/// A marker takes a few dozen bytes.
const MARKER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_wire::record::{BatchBuilder, Codec, batches, crc32c, set_base_offset};
    use ottla_wire::{Offset, ProducerEpoch, Sequence};

    use super::*;

    fn data(producer: i64, base_offset: i64) -> Bytes {
        let builder = BatchBuilder::new(Codec::None).transactional();
        written(builder, producer, base_offset, None)
    }

    fn marker(producer: i64, base_offset: i64, kind: i16) -> Bytes {
        written(BatchBuilder::new(Codec::None).transactional(), producer, base_offset, Some(kind))
    }

    fn written(builder: BatchBuilder, producer: i64, base_offset: i64, control: Option<i16>) -> Bytes {
        let mut builder = builder.producer(ProducerId(producer), ProducerEpoch(0), Sequence(0));
        let key = control.map(|kind| [[0, 0], kind.to_be_bytes()].concat());
        builder.append(0, key.as_deref(), Some(b"v"), std::iter::empty()).unwrap();
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        set_base_offset(&mut bytes, Offset(base_offset));
        if control.is_some() {
            bytes[22] |= 1 << 5;
            let crc = crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        bytes.into()
    }

    #[test]
    fn records_of_aborted_transactions_are_skipped_up_to_their_marker_and_no_others() {
        let log = [
            data(1, 0),
            data(2, 1),
            marker(1, 2, ABORT_MARKER),
            data(1, 3),
            marker(2, 4, 1),
            data(1, 5),
            marker(1, 6, 1),
            data(1, 7),
            marker(1, 8, ABORT_MARKER),
        ]
        .concat();
        let transaction = |producer_id, first_offset| AbortedTransaction { producer_id, first_offset };
        let mut aborted = Aborted::new(&[transaction(1, 7), transaction(1, 0)]);
        let read: Vec<_> = batches(&log)
            .map(Result::unwrap)
            .filter(|batch| !aborted.skips(batch))
            .map(|batch| batch.header.base_offset.get())
            .collect();
        assert_eq!(read, [1, 3, 5]);
    }
}
