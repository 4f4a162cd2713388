//! The door of a partition: every checked batch of a producer comes in here.
//!
//! Where no plugin is concerned a batch is appended before the call returns, those of one partition with one write. Where a
//! plugin may move its records, or an earlier batch of the partition still waits, it queues up in the
//! [lane](super::lane), and a worker of the route takes it [out](Partition::next_in_lane).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use ottla_coordinator::sequence::Check;
use ottla_front::Memory;
use ottla_log::PartitionLog;
use ottla_wire::record::BatchHeader;

use super::lane::Job;
use super::{Claim, Intake, Landing, Outcome, Partition, Place, Refusal, ticket};

/// From how many bytes on a batch waits in the receive buffer it came in: half of such a buffer.
const OWN_BUFFER_BYTES_MIN: usize = 128 << 10;
/// Most bytes of batches that are appended to one partition together.
const JOINED_BYTES_MAX: usize = 4 << 20;

/// A checked batch on its way in.
#[derive(Debug)]
pub struct Submission {
    /// The partition that its producer chose.
    pub partition: Arc<Partition>,
    /// Whether a plugin of the topic looks at it first.
    pub staged: bool,
    /// Bytes of a segment of the topic: no more is appended together.
    pub segment_bytes: u64,
    /// Its bytes.
    pub batch: BytesMut,
    /// Its header.
    pub header: BatchHeader,
}

impl Submission {
    fn claim(&self) -> Option<Claim> {
        Claim::of(&self.header)
    }
}

/// Sends checked batches through the doors of their partitions, given in the order in which those of each partition arrived.
/// What became of each comes back in the order given. Batches that wait take of `memory`; `start` is told of every lane that
/// needs a worker.
pub fn submit_all(mut batches: Vec<Submission>, memory: &Arc<Memory>, start: impl Fn(&Arc<Partition>)) -> Vec<Outcome> {
    if batches.len() < 2 {
        return batches.into_iter().map(|batch| submit(batch, memory, &start)).collect();
    }
    let mut outcomes: Vec<_> = batches.iter().map(|_| Err(Refusal::Stopping)).collect();
    let mut numbered: Vec<_> = batches.drain(..).enumerate().collect();
    // A stable sort: batches of one partition keep their order.
    numbered.sort_by_key(|(_, batch)| Arc::as_ptr(&batch.partition));
    let mut numbered = numbered.into_iter().peekable();
    while let Some((number, first)) = numbered.next() {
        let same = |next: &(usize, Submission)| Arc::ptr_eq(&next.1.partition, &first.partition);
        if !numbered.peek().is_some_and(same) {
            outcomes[number] = submit(first, memory, &start);
            continue;
        }
        let partition = Arc::clone(&first.partition);
        let mut run = VecDeque::from([(number, first)]);
        run.extend(std::iter::from_fn(|| numbered.next_if(|next| Arc::ptr_eq(&next.1.partition, &partition))));
        submit_run(&partition, run, memory, &start, &mut outcomes);
    }
    outcomes
}

/// Sends batches of one partition through its door.
fn submit_run(
    partition: &Partition,
    mut run: VecDeque<(usize, Submission)>,
    memory: &Arc<Memory>,
    start: &impl Fn(&Arc<Partition>),
    outcomes: &mut [Outcome],
) {
    let mut intake = partition.intake();
    while let Some((number, first)) = run.pop_front() {
        if !intake.is_open_to(&first) {
            drop(intake);
            outcomes[number] = submit(first, memory, start);
            for (number, next) in run {
                outcomes[number] = submit(next, memory, start);
            }
            return;
        }
        if let Err(known) = intake.admit(first.claim()) {
            outcomes[number] = known;
            continue;
        }
        let bytes_max = usize::try_from(first.segment_bytes).unwrap_or(0).min(JOINED_BYTES_MAX);
        let mut bytes = first.batch.len();
        let mut numbers = vec![number];
        let mut joined = vec![Unplaced::from(first)];
        while let Some((number, next)) = run.pop_front_if(|(_, next)| {
            bytes += next.batch.len();
            bytes <= bytes_max && !next.staged && intake.follows(&joined, next.claim())
        }) {
            numbers.push(number);
            joined.push(Unplaced::from(next));
        }
        let placed = intake.append_joined(&partition.log, joined);
        for (number, placed) in numbers.into_iter().zip(placed) {
            outcomes[number] = placed;
        }
    }
}

/// Sends one checked batch through the door of its partition.
fn submit(submission: Submission, memory: &Arc<Memory>, start: &impl Fn(&Arc<Partition>)) -> Outcome {
    let Submission { partition, staged, mut batch, header, .. } = submission;
    let claim = Claim::of(&header);
    let mut intake = partition.intake();
    if let Some(held) = &intake.held {
        let refusal = held.clone();
        intake.refuse(claim);
        return Err(refusal);
    }
    if !staged && intake.lane.is_free() {
        return intake.append(&partition.log, &mut batch, claim);
    }
    let Some(charge) = partition.lanes.take(memory, batch.len()) else {
        intake.refuse(claim);
        return Err(Refusal::LanesFull);
    };
    if batch.len() < OWN_BUFFER_BYTES_MIN {
        // It lies in a large receive buffer, which would otherwise wait with it.
        batch = BytesMut::from(&*batch);
    }
    let (stub, ticket) = ticket();
    let needs_worker = intake.lane.push(Job { batch, header, charge, stub });
    drop(intake);
    if needs_worker {
        start(&partition);
    }
    Ok(Place::Waiting(ticket))
}

/// What a worker finds in a lane.
#[derive(Debug)]
pub(crate) enum Found {
    /// A batch that is the next of its producer.
    Next(Job),
    /// A batch that needed no plugin: it was taken before, or is refused.
    Answered,
    /// Nothing: the lane is given back.
    Empty,
}

impl Partition {
    /// Takes the next batch out of the lane, for the worker that has it, and checks its sequence.
    pub(crate) fn next_in_lane(&self) -> Found {
        let mut intake = self.intake();
        let Some(job) = intake.lane.pop() else { return Found::Empty };
        self.lanes.give_back(job.batch.len());
        let claim = Claim::of(&job.header);
        if job.stub.is_abandoned() {
            // Its producer was told that it took too long, or is gone. Its number is still free for a retry.
            intake.refuse(claim);
            return Found::Answered;
        }
        match intake.admit(claim) {
            Ok(_) => Found::Next(job),
            Err(known) => {
                if known.is_err() {
                    intake.refuse(claim);
                }
                drop(intake);
                job.stub.settle(known);
                Found::Answered
            }
        }
    }
}

/// A batch that may be appended together with others.
#[derive(Debug)]
struct Unplaced {
    batch: BytesMut,
    records: i64,
    claim: Option<Claim>,
}

impl From<Submission> for Unplaced {
    fn from(Submission { batch, header, .. }: Submission) -> Self {
        Self { batch, records: i64::from(header.last_offset_delta) + 1, claim: Claim::of(&header) }
    }
}

impl Intake {
    /// Whether a batch may be appended at once.
    fn is_open_to(&self, submission: &Submission) -> bool {
        !submission.staged && self.held.is_none() && self.lane.is_free()
    }

    /// Whether a batch would be the next of its producer once `joined` are appended: so surely that it can be appended
    /// together with them. Where the answer is no, it is checked by itself afterwards.
    fn follows(&self, joined: &[Unplaced], claim: Option<Claim>) -> bool {
        let Some(claim) = claim else { return true };
        let check = self.sequences.check(claim.producer_id, claim.span);
        let before = joined.iter().rev().filter_map(|it| it.claim).find(|it| it.producer_id == claim.producer_id);
        match before {
            Some(before) => {
                let next = before.span.epoch == claim.span.epoch && before.span.last.advance(1) == claim.span.first;
                next && !matches!(check, Ok(Check::Duplicate(_)))
            }
            None => matches!(check, Ok(Check::Next(_))),
        }
    }

    /// Appends batches in one write, the first of them admitted under the same lock and each of the others found to
    /// [follow](Self::follows). If that fails each is checked and tried by itself: the fault of one must not be the
    /// others'. What became of each comes back in turn.
    fn append_joined(&mut self, log: &PartitionLog, mut joined: Vec<Unplaced>) -> Vec<Outcome> {
        if joined.len() > 1 {
            let mut buffers: Vec<&mut [u8]> = joined.iter_mut().map(|it| &mut *it.batch).collect();
            if let Ok(appended) = log.append_gathered(&mut buffers) {
                self.unsaved.bytes += appended.bytes;
                let mut base_offset = appended.base_offset;
                let placed = joined.iter().map(|it| {
                    let end_offset = base_offset.advance(it.records);
                    let landing = Landing::Here { base_offset, end_offset };
                    base_offset = end_offset;
                    Ok(self.land(it.claim, landing))
                });
                return placed.collect();
            }
        }
        joined.into_iter().map(|mut it| self.append(log, &mut it.batch, it.claim)).collect()
    }
}
