//! The thread behind the journal's: appends what is durable there to its targets, in the order of the journal.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};

use bytes::BytesMut;
use ottla_log::AppendError;
use ottla_stage::Run;
use ottla_wire::record::BatchHeader;
use ottla_wire::{Offset, Uuid};

use super::order::{Item, ItemRecords};
use super::{Obstacle, Shared};
use crate::clock;
use crate::partition::{Claim, Landed, Moved, Partition, Place, Refusal, Target, append_refusal};

/// A batch on its way into one log.
struct Piece {
    bytes: Buffer,
    /// Which item of the group it is of.
    item: usize,
    /// Which part of it; for one that stays the only one.
    part: usize,
    /// Under which numbers the target remembers it.
    claim: Option<Claim>,
    base_offset: Offset,
}

enum Buffer {
    Part(Vec<u8>),
    Whole(BytesMut),
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Part(bytes) => bytes,
            Self::Whole(bytes) => bytes,
        }
    }
}

/// What an item was, once its bytes are on their way.
enum Shape {
    Stays,
    Moves { parts: Vec<(i32, i32)>, runs: Vec<Run> },
}

/// Everything of a group for one partition.
struct Load {
    partition: Arc<Partition>,
    pieces: Vec<Piece>,
}

impl Shared {
    /// Applies groups in their order until no more come.
    pub(super) fn apply_all(&self, written: &Receiver<Vec<Item>>) {
        while let Ok(group) = written.recv() {
            self.apply(group);
        }
    }

    fn apply(&self, mut group: Vec<Item>) {
        let mut outcomes: Vec<Result<Vec<Offset>, Refusal>> = group.iter().map(await_predecessor).collect();
        let mut shapes = Vec::with_capacity(group.len());
        let mut loads: BTreeMap<(Uuid, i32), Load> = BTreeMap::new();
        for (index, (item, outcome)) in group.iter_mut().zip(&mut outcomes).enumerate() {
            shapes.push(unload(index, item, outcome, &mut loads));
        }
        // Until everything is entered nobody takes a picture: see `checkpoint::save`.
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        for load in loads.into_values() {
            self.append_load(load, &mut outcomes);
        }
        let mark = group.iter().filter_map(|item| item.mark).max();
        for ((item, outcome), shape) in group.into_iter().zip(outcomes).zip(shapes) {
            self.finish(item, outcome.map(|offsets| landed(shape, &offsets)));
        }
        if let Some(mark) = mark.filter(|_| !self.stuck.load(Ordering::Acquire)) {
            self.applied.fetch_max(mark, Ordering::AcqRel);
        }
    }

    /// Appends everything that one partition gets of a group, with one write.
    fn append_load(&self, load: Load, outcomes: &mut [Result<Vec<Offset>, Refusal>]) {
        let Load { partition, mut pieces } = load;
        // Items of a topic that is gone have failed already.
        pieces.retain(|piece| outcomes.get(piece.item).is_some_and(Result::is_ok));
        if pieces.is_empty() {
            return;
        }
        match self.until_done("appending routed batches", || append_pieces(&partition, &mut pieces)) {
            Ok(()) => {
                for piece in pieces {
                    let offsets = outcomes.get_mut(piece.item).and_then(|outcome| outcome.as_mut().ok());
                    if let Some(place) = offsets.and_then(|offsets| offsets.get_mut(piece.part)) {
                        *place = piece.base_offset;
                    }
                }
            }
            Err(refusal) => {
                if !matches!(refusal, Refusal::UnknownPartition) {
                    // The journal still holds it, and the next start carries it out.
                    self.stuck.store(true, Ordering::Release);
                }
                for piece in pieces {
                    if let Some(outcome) = outcomes.get_mut(piece.item) {
                        *outcome = Err(refusal.clone());
                    }
                }
            }
        }
    }

    /// Tells everybody what became of an item.
    pub(super) fn finish(&self, item: Item, outcome: Result<Landed, Refusal>) {
        let outcome = outcome.map_err(Arc::new);
        {
            let mut intake = item.addressed.intake();
            if let (Some(claim), Ok(landed)) = (item.claim, &outcome) {
                intake.sequences.settle(claim.producer_id, claim.span, Place::Landed(landed.clone()));
            }
            if let Some(mark) = item.mark.filter(|_| outcome.is_ok()) {
                intake.journal_mark = intake.journal_mark.max(mark);
                intake.unsaved.journaled = true;
            }
            intake.lane.routed -= 1;
        }
        item.stub.settle(outcome);
        self.order.release(item.bytes);
    }
}

/// Waits until the batch before an item cannot be lost any more. Without that a power cut could keep this one and lose
/// the one before it, which nobody has been told is safe, and its retry would find its number taken.
fn await_predecessor(item: &Item) -> Result<Vec<Offset>, Refusal> {
    let parts = match &item.records {
        ItemRecords::Stays(_) => 1,
        ItemRecords::Moves(split) => split.parts.len(),
    };
    let durable = item.addressed.watermark.block_until(item.after);
    durable.map(|()| vec![Offset::NONE; parts]).map_err(|_| offline(&item.addressed))
}

fn offline(partition: &Partition) -> Refusal {
    match partition.log.offline_reason() {
        Some(reason) => Refusal::Storage(reason),
        None => Refusal::UnknownPartition,
    }
}

/// Puts the bytes of an item where they are to go.
fn unload(
    index: usize,
    item: &mut Item,
    outcome: &mut Result<Vec<Offset>, Refusal>,
    loads: &mut BTreeMap<(Uuid, i32), Load>,
) -> Shape {
    let topic = Arc::clone(&item.topic);
    let mut add = |partition: &Arc<Partition>, part, bytes: Buffer, claim| {
        let load = loads.entry((topic.id, partition.index));
        let load = load.or_insert_with(|| Load { partition: Arc::clone(partition), pieces: Vec::new() });
        load.pieces.push(Piece { bytes, item: index, part, claim, base_offset: Offset::NONE });
    };
    match &mut item.records {
        ItemRecords::Stays(batch) => {
            add(&item.addressed, 0, Buffer::Whole(std::mem::take(batch)), None);
            Shape::Stays
        }
        ItemRecords::Moves(split) => {
            let shape = split.parts.iter().map(|part| (part.partition, part.records)).collect();
            for (at, part) in split.parts.iter_mut().enumerate() {
                let bytes = std::mem::take(&mut part.bytes);
                // Only batches that went through the journal have numbers.
                let claim = BatchHeader::parse(&bytes).ok().and_then(|header| Claim::of(&header));
                match topic.partition(part.partition) {
                    Some(target) => add(target, at, Buffer::Part(bytes), claim),
                    None => *outcome = Err(Refusal::UnknownPartition),
                }
            }
            Shape::Moves { parts: shape, runs: std::mem::take(&mut split.runs) }
        }
    }
}

fn append_pieces(partition: &Partition, pieces: &mut [Piece]) -> Result<(), Obstacle> {
    let mut intake = partition.intake();
    let appended = {
        let mut buffers: Vec<&mut [u8]> = pieces.iter_mut().map(|piece| piece.bytes.as_mut()).collect();
        partition.log.append_gathered(&mut buffers).map_err(obstacle)?
    };
    intake.unsaved.bytes += appended.bytes;
    for piece in pieces {
        let base = piece.bytes.as_mut().first_chunk().map_or(-1, |offset| i64::from_be_bytes(*offset));
        piece.base_offset = Offset(base);
        if let Some(claim) = piece.claim {
            let place = Place::Landed(Landed::Here(piece.base_offset));
            intake.sequences.take(claim.producer_id, claim.span, place, clock::now_ms());
            intake.unsaved.journaled = true;
        }
    }
    Ok(())
}

fn obstacle(error: AppendError) -> Obstacle {
    match error {
        AppendError::NoSpace | AppendError::Io { .. } => Obstacle::Passing(error.to_string()),
        other => Obstacle::Final(append_refusal(other)),
    }
}

fn landed(shape: Shape, offsets: &[Offset]) -> Landed {
    match shape {
        Shape::Stays => Landed::Here(offsets.first().copied().unwrap_or_default()),
        Shape::Moves { parts, runs } => {
            let targets = parts.into_iter().zip(offsets);
            let targets = targets.map(|((partition, records), base_offset)| Target {
                partition,
                records,
                base_offset: *base_offset,
            });
            Landed::Moved(Arc::new(Moved { targets: targets.collect(), runs: runs.into() }))
        }
    }
}
