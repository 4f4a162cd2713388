//! One entry of the route journal: everything that recovery needs to finish a batch that was about to leave its
//! partition, without the plugin and without the client.
//!
//! ```text
//! format u8 = 2 · kind u8 (0 moved, 1 stayed) · topic id 16 bytes · addressed partition i32
//! producer id i64 · epoch i16 · first sequence i32 · last sequence i32
//! follows u8 (0 nothing known, 1 a tail) · tail epoch i16 · tail sequence i32
//! plugin digest 32 bytes
//! moved:  runs u32 · (records u32 · part u32)* · parts u32 · (topic id 16 bytes · partition i32 · bytes u32 · batch)*
//! stayed: bytes u32 · batch
//! ```
//! Format 1, which release 0.1 wrote, has no topic ids in the parts: all of them are for the topic of the entry.
//!
//! The batches are whole record batches. Those that moved carry the journal's own producer id and their sequence on
//! their target; one that stayed is what is stored at the addressed partition: the client's, or what a serializer made of it.

use bytes::{Buf, BufMut, TryGetError};
use ottla_stage::Run;
use ottla_wire::{ProducerEpoch, ProducerId, Sequence, Uuid};

use ottla_coordinator::sequence::{Span, Tail};

/// The formats that were ever written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryFormat {
    /// Release 0.1: all targets are in one topic.
    V1 = 1,
    /// As drawn above.
    V2 = 2,
}

const MOVED: u8 = 0;
const STAYED: u8 = 1;

/// One batch of an idempotent producer that could not simply be appended where it was addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The topic. A topic of the same name that is created later has another id.
    pub topic_id: Uuid,
    /// The partition that the producer addressed and whose sequence numbers these are.
    pub addressed: i32,
    /// The producer.
    pub producer_id: ProducerId,
    /// The batch, as the sequence check saw it.
    pub span: Span,
    /// What the partition knew of the producer just before, so that recovery can tell whether the predecessor survived.
    pub follows: Option<Tail>,
    /// The plugin that decided: SHA-256 of the component.
    pub plugin: [u8; 32],
    /// What becomes of the records.
    pub records: EntryRecords<'a>,
}

/// The records of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryRecords<'a> {
    /// The batch to store at the addressed partition: it had to wait for earlier ones that moved.
    Stayed(&'a [u8]),
    /// One new batch per target.
    Moved {
        /// The runs in batch order; their `target` is an index into `parts`.
        runs: Vec<Run>,
        /// The new batches.
        parts: Vec<Part<'a>>,
    },
}

/// A new batch for one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// The topic of the target.
    pub topic_id: Uuid,
    /// The target.
    pub partition: i32,
    /// The record batch, complete but for offset and leader epoch.
    pub batch: &'a [u8],
}

/// Why an entry does not read back. Entries are under a checksum: this is a newer format or a defect, not a torn write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by a later release.
    #[error("the route journal has entries of format {0}, which a later release wrote")]
    Format(u8),
    /// Shorter or longer than it says.
    #[error("an entry of the route journal contradicts its own lengths")]
    Length,
}

impl From<TryGetError> for EntryError {
    fn from(_: TryGetError) -> Self {
        Self::Length
    }
}

impl Entry<'_> {
    /// Appends the entry's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(EntryFormat::V2 as u8);
        out.put_u8(match self.records {
            EntryRecords::Moved { .. } => MOVED,
            EntryRecords::Stayed(_) => STAYED,
        });
        out.put_slice(self.topic_id.as_bytes());
        out.put_i32(self.addressed);
        out.put_i64(self.producer_id.get());
        out.put_i16(self.span.epoch.get());
        out.put_i32(self.span.first.get());
        out.put_i32(self.span.last.get());
        let tail = self.follows.unwrap_or(Tail { epoch: ProducerEpoch::NONE, last: Sequence::NONE });
        out.put_u8(u8::from(self.follows.is_some()));
        out.put_i16(tail.epoch.get());
        out.put_i32(tail.last.get());
        out.put_slice(&self.plugin);
        match &self.records {
            EntryRecords::Stayed(batch) => put_bytes(out, batch),
            EntryRecords::Moved { runs, parts } => {
                out.put_u32(runs.len() as u32);
                for run in runs {
                    out.put_u32(run.records);
                    out.put_u32(run.target);
                }
                out.put_u32(parts.len() as u32);
                for part in parts {
                    out.put_slice(part.topic_id.as_bytes());
                    out.put_i32(part.partition);
                    put_bytes(out, part.batch);
                }
            }
        }
    }
}

impl<'a> Entry<'a> {
    /// Reads what `encode` wrote.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EntryError> {
        let mut rest = bytes;
        let format = match rest.try_get_u8()? {
            1 => EntryFormat::V1,
            2 => EntryFormat::V2,
            later => return Err(EntryError::Format(later)),
        };
        let kind = rest.try_get_u8()?;
        let topic_id = Uuid::from_u128(rest.try_get_u128()?);
        let addressed = rest.try_get_i32()?;
        let producer_id = ProducerId(rest.try_get_i64()?);
        let epoch = ProducerEpoch(rest.try_get_i16()?);
        let first = Sequence(rest.try_get_i32()?);
        let last = Sequence(rest.try_get_i32()?);
        let known = rest.try_get_u8()? != 0;
        let tail = Tail { epoch: ProducerEpoch(rest.try_get_i16()?), last: Sequence(rest.try_get_i32()?) };
        let (plugin, after) = rest.split_first_chunk::<32>().ok_or(EntryError::Length)?;
        rest = after;
        let records = match kind {
            MOVED => {
                let runs = take_list(&mut rest, 8, |rest| {
                    Ok(Run { records: rest.try_get_u32()?, target: rest.try_get_u32()? })
                })?;
                let parts = take_list(&mut rest, 8, |rest| {
                    let topic_id = match format {
                        EntryFormat::V1 => topic_id,
                        EntryFormat::V2 => Uuid::from_u128(rest.try_get_u128()?),
                    };
                    Ok(Part { topic_id, partition: rest.try_get_i32()?, batch: take_bytes(rest)? })
                })?;
                EntryRecords::Moved { runs, parts }
            }
            STAYED => EntryRecords::Stayed(take_bytes(&mut rest)?),
            _ => return Err(EntryError::Length),
        };
        if !rest.is_empty() {
            return Err(EntryError::Length);
        }
        let span = Span { epoch, first, last };
        Ok(Self { topic_id, addressed, producer_id, span, follows: known.then_some(tail), plugin: *plugin, records })
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], EntryError> {
    let length = rest.try_get_u32()? as usize;
    let (bytes, after) = rest.split_at_checked(length).ok_or(EntryError::Length)?;
    *rest = after;
    Ok(bytes)
}

/// A counted list whose items take at least `item_bytes_min` each, so that the count is known to be honest before
/// memory is taken for it.
fn take_list<'a, T>(
    rest: &mut &'a [u8],
    item_bytes_min: usize,
    mut item: impl FnMut(&mut &'a [u8]) -> Result<T, EntryError>,
) -> Result<Vec<T>, EntryError> {
    let count = rest.try_get_u32()? as usize;
    if count > rest.len() / item_bytes_min {
        return Err(EntryError::Length);
    }
    (0..count).map(|_| item(rest)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(entry: &Entry<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn an_entry_reads_back_as_it_was(
            topic_id: u128, addressed: i32, producer_id: i64, epoch: i16, first: i32, last: i32, plugin: [u8; 32],
            follows in proptest::option::of((any::<i16>(), any::<i32>())), stayed: bool,
            runs in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..5),
            batches in proptest::collection::vec(
                (any::<u128>(), any::<i32>(), proptest::collection::vec(any::<u8>(), 0..50)),
                1..5,
            ),
        ) {
            let records = if stayed {
                EntryRecords::Stayed(&batches[0].2)
            } else {
                EntryRecords::Moved {
                    runs: runs.into_iter().map(|(records, target)| Run { records, target }).collect(),
                    parts: batches
                        .iter()
                        .map(|(topic, partition, batch)| Part {
                            topic_id: Uuid::from_u128(*topic),
                            partition: *partition,
                            batch,
                        })
                        .collect(),
                }
            };
            let entry = Entry {
                topic_id: Uuid::from_u128(topic_id),
                addressed,
                producer_id: ProducerId(producer_id),
                span: Span { epoch: ProducerEpoch(epoch), first: Sequence(first), last: Sequence(last) },
                follows: follows.map(|(epoch, last)| Tail { epoch: ProducerEpoch(epoch), last: Sequence(last) }),
                plugin,
                records,
            };
            let bytes = encoded(&entry);
            prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
            for length in 0..bytes.len() {
                prop_assert!(Entry::decode(&bytes[..length]).is_err());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 2..200)) {
            bytes[1] %= 2;
            for format in [1, 2] {
                bytes[0] = format;
                let _ = Entry::decode(&bytes);
            }
        }

        #[test]
        fn the_parts_of_format_1_are_for_the_topic_itself(
            topic_id: u128, partition: i32, batch in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let topic_id = Uuid::from_u128(topic_id);
            let entry = Entry {
                topic_id,
                addressed: 0,
                producer_id: ProducerId(1),
                span: Span { epoch: ProducerEpoch(0), first: Sequence(0), last: Sequence(1) },
                follows: None,
                plugin: [7; 32],
                records: EntryRecords::Moved { runs: Vec::new(), parts: vec![Part { topic_id, partition, batch: &batch }] },
            };
            let mut bytes = encoded(&entry);
            let part = bytes.len() - batch.len() - 24;
            bytes.drain(part..part + 16);
            bytes[0] = EntryFormat::V1 as u8;
            prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
        }
    }

    #[test]
    fn a_later_format_is_named() {
        assert_eq!(Entry::decode(&[9]), Err(EntryError::Format(9)));
    }
}
