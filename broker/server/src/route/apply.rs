//! The thread behind the journal's: appends what is durable there to its targets, in the order of the journal.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use bytes::BytesMut;
use ottla_log::AppendError;
use ottla_log::canary::{Canary, broken};
use ottla_stage::Run;
use ottla_wire::record::BatchHeader;
use ottla_wire::{Offset, Uuid};

use super::order::{Item, ItemRecords};
use super::{Obstacle, Shared, target};
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
    /// Whether it is in another topic than the one it was addressed to.
    is_abroad: bool,
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
    Moves { targets: Vec<Target>, runs: Vec<Run> },
}

/// Everything of a group for one partition.
struct Load {
    partition: Arc<Partition>,
    pieces: Vec<Piece>,
}

/// Where an item was addressed: topic and partition.
type Addressed = (Uuid, i32);

/// What was not applied, which keeps from being applied what is behind it: all that was addressed to the same partition,
/// since a start would skip what comes before an item that is entered; and everything once the broker stops, so that what
/// the next start carries out is an end of the order.
#[derive(Debug, Clone, Default)]
struct Left {
    is_stopped: bool,
    addressed: HashMap<Addressed, Refusal>,
}

/// Offsets of the batches that an item became, one for each of its parts; or why it is not applied.
type Outcome = Result<Vec<Offset>, Refusal>;

impl Shared {
    /// Applies groups in their order until no more come.
    pub(super) fn apply_all(&self, written: &Receiver<Vec<Item>>) {
        let mut left = Left::default();
        while let Ok(group) = written.recv() {
            self.apply(group, &mut left);
        }
    }

    fn apply(&self, mut group: Vec<Item>, left: &mut Left) {
        let addressed: Vec<Addressed> = group.iter().map(|item| (item.topic.id, item.addressed.index)).collect();
        let mut outcomes: Vec<Outcome> = group.iter().map(await_predecessor).collect();
        let mut shapes = Vec::with_capacity(group.len());
        let mut loads: BTreeMap<(Uuid, i32), Load> = BTreeMap::new();
        for (index, (item, outcome)) in group.iter_mut().zip(&mut outcomes).enumerate() {
            shapes.push(self.unload(index, item, outcome, &mut loads));
        }
        left.fail_behind(&addressed, &mut outcomes);
        let mut appended = Vec::with_capacity(loads.len());
        for mut load in loads.into_values() {
            self.append_load(&mut load, &mut outcomes);
            left.fail_behind(&addressed, &mut outcomes);
            appended.push(load);
        }
        left.note(&addressed, &outcomes);
        for load in &appended {
            load.note_abroad(&group);
        }
        let mark = group.iter().filter_map(|item| item.mark).max();
        let is_left = |(item, outcome): (&Item, &Outcome)| item.mark.is_some() && outcome.is_err();
        let items_left: Vec<bool> = group.iter().zip(&outcomes).map(is_left).collect();
        for ((item, outcome), shape) in group.into_iter().zip(outcomes).zip(shapes) {
            match outcome {
                Ok(offsets) => self.finish(item, Ok(landed(shape, &offsets))),
                Err(refusal) => self.leave(item, refusal),
            }
        }
        // Only now: a snapshot of an addressed partition that lacks an item is one whose topic is read from the parts on.
        for load in &appended {
            load.note_entered(&items_left);
        }
        if let Some(mark) = mark.filter(|_| !self.stuck.load(Ordering::Acquire)) {
            self.applied.fetch_max(mark, Ordering::AcqRel);
        }
    }

    /// Puts the bytes of an item where they are to go. A part whose topic is gone goes with it.
    fn unload(
        &self,
        index: usize,
        item: &mut Item,
        outcome: &mut Outcome,
        loads: &mut BTreeMap<(Uuid, i32), Load>,
    ) -> Shape {
        let topic = Arc::clone(&item.topic);
        let mut add = |partition: &Arc<Partition>, part, bytes: Buffer, claim| {
            let load = loads.entry((partition.topic_id, partition.index));
            let load = load.or_insert_with(|| Load { partition: Arc::clone(partition), pieces: Vec::new() });
            let is_abroad = partition.topic_id != topic.id;
            load.pieces.push(Piece { bytes, item: index, part, claim, is_abroad, base_offset: Offset::NONE });
        };
        match &mut item.records {
            ItemRecords::Stays(batch) => {
                add(&item.addressed, 0, Buffer::Whole(std::mem::take(batch)), None);
                Shape::Stays
            }
            ItemRecords::Moves(split) => {
                for (at, part) in split.parts.iter_mut().enumerate() {
                    let bytes = std::mem::take(&mut part.bytes);
                    // Only batches that went through the journal have numbers.
                    let claim = BatchHeader::parse(&bytes).ok().and_then(|header| Claim::of(&header));
                    match target(&self.topics, &topic, part) {
                        Some(target) => add(&target, at, Buffer::Part(bytes), claim),
                        None if part.topic_id == topic.id => *outcome = Err(Refusal::UnknownPartition),
                        None => {}
                    }
                }
                let targets = split.parts.iter().map(|part| Target {
                    topic_id: part.topic_id,
                    partition: part.partition,
                    records: part.records,
                    base_offset: Offset::NONE,
                });
                Shape::Moves { targets: targets.collect(), runs: std::mem::take(&mut split.runs) }
            }
        }
    }

    /// Appends everything that one partition gets of a group, with one write.
    fn append_load(&self, load: &mut Load, outcomes: &mut [Outcome]) {
        let Load { partition, pieces } = load;
        // Those of items that have failed already stay away.
        pieces.retain(|piece| outcomes.get(piece.item).is_some_and(Result::is_ok));
        if pieces.is_empty() {
            return;
        }
        match self.until_done("appending routed batches", || append_pieces(partition, pieces)) {
            Ok(()) => {
                for piece in pieces {
                    let offsets = outcomes.get_mut(piece.item).and_then(|outcome| outcome.as_mut().ok());
                    if let Some(place) = offsets.and_then(|offsets| offsets.get_mut(piece.part)) {
                        *place = piece.base_offset;
                    }
                }
            }
            Err(refusal) => {
                for piece in pieces.drain(..) {
                    if let Some(outcome) = outcomes.get_mut(piece.item) {
                        *outcome = Err(refusal.clone());
                    }
                }
            }
        }
    }

    /// Tells all that wait for it that an item is not applied. What the journal has of it the next start carries out; until then
    /// nothing that is addressed to the same partition may follow on it.
    pub(super) fn leave(&self, item: Item, refusal: Refusal) {
        // A topic that is gone leaves nothing to do.
        if item.mark.is_some() && !matches!(refusal, Refusal::UnknownPartition) {
            self.stuck.store(true, Ordering::Release);
            item.addressed.intake().left.get_or_insert_with(|| refusal.clone());
        }
        self.finish(item, Err(refusal));
    }

    /// Tells all that wait for it what became of an item.
    pub(super) fn finish(&self, item: Item, outcome: Result<Landed, Refusal>) {
        let outcome = outcome.map_err(Arc::new);
        {
            let mut intake = item.addressed.intake();
            if let (Some(claim), Ok(landed)) = (item.claim, &outcome) {
                intake.sequences.settle(claim.producer_id, claim.span, Place::Landed(landed.clone().remembered()));
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

impl Load {
    /// What the partition got from other topics: their snapshots must not be ahead of this log, nor its own ahead of theirs.
    fn note_abroad(&self, group: &[Item]) {
        for piece in self.pieces.iter().filter(|piece| piece.is_abroad) {
            let Some((item, mark)) = group.get(piece.item).and_then(|item| Some((item, item.mark?))) else { continue };
            item.addressed.intake().abroad.note_sent(&self.partition);
            let mut intake = self.partition.intake();
            intake.abroad.note_received(&item.addressed, mark, piece.base_offset);
        }
    }

    /// What the partition got is entered, but for items that are `left`.
    fn note_entered(&self, left: &[bool]) {
        let Some(first) = self.pieces.first() else { return };
        let is_left = |piece: &&Piece| left.get(piece.item).is_some_and(|left| *left);
        let mut intake = self.partition.intake();
        // One that an earlier group left lies before it and stays.
        if intake.unentered == Some(first.base_offset) {
            intake.unentered = self.pieces.iter().find(is_left).map(|piece| piece.base_offset);
        }
    }
}

impl Left {
    /// Lets items fail that may not be applied because one before them was not.
    fn fail_behind(&self, addressed: &[Addressed], outcomes: &mut [Outcome]) {
        if broken(Canary::ApplyBehindStopped) {
            return;
        }
        let mut left = self.clone();
        for (partition, outcome) in addressed.iter().zip(outcomes) {
            if let (Ok(_), Some(refusal)) = (&outcome, left.refusal(partition)) {
                *outcome = Err(refusal);
            }
            left.add(partition, outcome);
        }
    }

    /// Remembers what became of a group, for those behind it.
    fn note(&mut self, addressed: &[Addressed], outcomes: &[Outcome]) {
        addressed.iter().zip(outcomes).for_each(|(partition, outcome)| self.add(partition, outcome));
    }

    fn add(&mut self, partition: &Addressed, outcome: &Outcome) {
        match outcome {
            Ok(_) | Err(Refusal::UnknownPartition) => {}
            Err(refusal) => {
                self.is_stopped |= *refusal == Refusal::Stopping;
                self.addressed.entry(*partition).or_insert_with(|| refusal.clone());
            }
        }
    }

    fn refusal(&self, partition: &Addressed) -> Option<Refusal> {
        if self.is_stopped { Some(Refusal::Stopping) } else { self.addressed.get(partition).cloned() }
    }
}

/// Waits until the batch before an item cannot be lost any more. Without that a power cut could keep this one and lose
/// the one before it, which was not acknowledged, and its retry would find its number taken.
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

fn append_pieces(partition: &Partition, pieces: &mut [Piece]) -> Result<(), Obstacle> {
    let mut intake = partition.intake();
    let appended = {
        let mut buffers: Vec<&mut [u8]> = pieces.iter_mut().map(|piece| piece.bytes.as_mut()).collect();
        loop {
            match partition.log.append_gathered(&mut buffers) {
                Err(AppendError::NoSpace) if broken(Canary::HoldApplyingWhileFull) => std::thread::yield_now(),
                appended => break appended.map_err(obstacle)?,
            }
        }
    };
    intake.unsaved.bytes += appended.bytes;
    for piece in &mut *pieces {
        let base = piece.bytes.as_mut().first_chunk().map_or(-1, |offset| i64::from_be_bytes(*offset));
        piece.base_offset = Offset(base);
        if let Some(claim) = piece.claim {
            intake.take(claim, Place::Landed(Landed::Here(piece.base_offset)));
            intake.unsaved.journaled = true;
        }
    }
    if let Some(first) = pieces.first() {
        intake.unentered.get_or_insert(first.base_offset);
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
        Shape::Moves { targets, runs } => {
            let targets = targets.into_iter().zip(offsets);
            let targets = targets.map(|(target, base_offset)| Target { base_offset: *base_offset, ..target });
            Landed::Moved(Arc::new(Moved { targets: targets.collect(), runs: runs.into() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFLINE: &str = "the disk failed";

    /// What a group of items becomes, each addressed to a partition of one topic: `+` is applied, `o` meets a directory
    /// that is offline, `s` the stop of the broker, `d` a topic that was deleted. A failed item that is left for the next
    /// start is a `-`, one that needs nothing a `d`.
    fn fate(left: &mut Left, group: &[(i32, char)]) -> String {
        let addressed: Vec<Addressed> = group.iter().map(|(partition, _)| (Uuid::nil(), *partition)).collect();
        let outcome = |(_, met): &(i32, char)| match met {
            '+' => Ok(Vec::new()),
            'o' => Err(Refusal::Storage(OFFLINE.to_owned())),
            's' => Err(Refusal::Stopping),
            _ => Err(Refusal::UnknownPartition),
        };
        let mut outcomes: Vec<Outcome> = group.iter().map(outcome).collect();
        left.fail_behind(&addressed, &mut outcomes);
        left.note(&addressed, &outcomes);
        let told = outcomes.iter().map(|outcome| match outcome {
            Ok(_) => '+',
            Err(Refusal::UnknownPartition) => 'd',
            Err(_) => '-',
        });
        told.collect()
    }

    #[test]
    fn behind_an_item_that_met_the_stop_nothing_is_applied_of_its_group_and_of_those_that_follow() {
        let mut left = Left::default();
        assert_eq!(fate(&mut left, &[(0, '+'), (1, 's'), (0, '+'), (2, '+')]), "+---");
        assert_eq!(fate(&mut left, &[(3, '+'), (0, '+')]), "--");
    }

    #[test]
    fn behind_an_item_that_met_a_failed_directory_nothing_is_applied_that_was_addressed_alike() {
        let mut left = Left::default();
        assert_eq!(fate(&mut left, &[(0, '+'), (1, 'o'), (0, '+'), (1, '+'), (2, '+')]), "+-+-+");
        assert_eq!(fate(&mut left, &[(1, '+'), (0, '+')]), "-+");
    }

    #[test]
    fn a_topic_that_is_gone_keeps_nothing_from_being_applied() {
        let mut left = Left::default();
        assert_eq!(fate(&mut left, &[(0, 'd'), (0, '+'), (1, '+')]), "d++");
    }
}
