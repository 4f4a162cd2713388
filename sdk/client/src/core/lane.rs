//! The batches of one partition, from the open one to those that await their answer, and the numbers they carry.
//!
//! ```text
//!  send ─▶ open ─▶ ready ─▶ sent: in flight ─▶ settled
//!                             ▲        │
//!                             └ waiting┘  an answer was lost, or asks for another try
//! ```
//!
//! What it promises for a numbered (idempotent) producer:
//! * Batches are settled as stored only once and keep their order, through all retries.
//! * A batch keeps its number within an epoch: a request of a connection that was given up may still reach the broker, and
//!   would be stored beside the batch if that had been sent under another number.
//! * A batch that was refused for good leaves a hole, and a batch given up in doubt (it may be stored or not) may leave one.
//!   Either ends the line of numbers if others travel behind it. Once they are resolved, the line starts again at 0 in a new
//!   epoch, so that the broker takes no later batch for a duplicate, and nothing of the old line.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::Sequence;

use super::batch::{Batch, BatchId, Format, OpenBatch, Parties, Payload};
use super::sequence::Identity;

/// How far batches of one partition may run ahead of an unresolved one: brokers remember the last five to recognise
/// duplicates, and a retry of anything older would be stored twice or not at all.
const BATCHES_AHEAD_MAX: u64 = 5;

/// Names a lane of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneId(pub(super) usize);

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// The broker that takes its batches, if known.
    pub(crate) leader: Option<i32>,
    pub(crate) standing: Standing,
    /// What went wrong since a batch was stored.
    pub(crate) trouble: Option<Arc<str>>,
    /// The most that a batch may hold, as far as the broker's refusals tell.
    pub(crate) batch_bytes_max: usize,
    numbered: bool,
    open: Option<OpenBatch>,
    ready: VecDeque<Batch>,
    sent: VecDeque<Sent>,
    identity: Identity,
    next: Sequence,
    next_ordinal: u64,
    line: Line,
    /// The present leader has stored a batch of this line. Until then batches leave one by one: a broker that knows nothing
    /// of a producer accepts any first number, so a second batch could overtake a first one that is refused.
    proven: bool,
    retry_at_ms: u64,
    failures: u32,
}

/// The numbers of a lane, under one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    /// They go on.
    Whole,
    /// They start anew, under another identity, once everything in the line is resolved.
    Broken,
    /// The same, and a batch that was given up in doubt may still arrive in the hole that it left.
    BrokenInDoubt,
}

/// What is known of a lane's partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing speaks against its leader.
    Sound,
    /// The leader could not be reached: perhaps another one leads by now.
    Doubted,
    /// The topic has no such partition any more: nothing new is sent.
    Gone,
}

/// A batch that has a number (or had one, see [`State::Unnumbered`]).
#[derive(Debug)]
struct Sent {
    batch: Batch,
    /// Its place among all batches that ever got a number here.
    ordinal: u64,
    sequence: Sequence,
    state: State,
    /// An attempt ended without an answer: the batch may be stored.
    in_doubt: bool,
    /// Its records were given up already; it stays for the sake of the numbers behind it.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// On its way; its answer will come, or the connection will end.
    InFlight,
    /// To be sent again under the same number.
    Waiting,
    /// Refused because its line of numbers is broken: certainly not stored, to be sent under a new number.
    Unnumbered,
}

/// A batch to be sent now.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) batch: BatchId,
    pub(crate) payload: Payload,
    pub(crate) identity: Identity,
    pub(crate) sequence: Sequence,
}

/// What a broker's refusal means for the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// Try again under the same number. `in_doubt`: the broker does not say whether it is stored.
    Retry {
        /// Whether it may be stored all the same.
        in_doubt: bool,
    },
    /// The number is not the one the broker expects.
    OutOfOrder,
    /// The broker does not accept this producer id or epoch any more.
    Fenced,
    /// Never.
    Final {
        /// Whether it may be stored all the same.
        in_doubt: bool,
    },
}

/// When a batch may leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) now_ms: u64,
    pub(crate) linger_ms: u64,
    /// The program flushes, or memory is short: nothing lingers.
    pub(crate) hurry: bool,
}

impl Sent {
    /// Waits, and no attempt of it is stored or may still arrive.
    fn is_nowhere(&self) -> bool {
        self.state == State::Waiting && !self.in_doubt
    }
}

impl Lane {
    pub(crate) fn new(topic: Arc<str>, partition: i32, numbered: bool) -> Self {
        Self {
            topic,
            partition,
            leader: None,
            standing: Standing::Sound,
            trouble: None,
            batch_bytes_max: usize::MAX,
            numbered,
            open: None,
            ready: VecDeque::new(),
            sent: VecDeque::new(),
            identity: Identity::NONE,
            next: if numbered { Sequence(0) } else { Sequence::NONE },
            next_ordinal: 0,
            line: Line::Whole,
            proven: false,
            retry_at_ms: 0,
            failures: 0,
        }
    }

    /// The batch that takes records, if there is one.
    pub(crate) fn open(&mut self) -> &mut Option<OpenBatch> {
        &mut self.open
    }

    /// What the open batch holds, if there is one.
    pub(crate) fn open_bytes(&self) -> Option<usize> {
        self.open.as_ref().map(OpenBatch::bytes)
    }

    /// Batches that wait to be sent.
    pub(crate) fn in_line(&self) -> usize {
        self.ready.len()
    }

    /// Another topic of the same name has this partition now: its broker knows nothing of this line of numbers.
    pub(crate) fn start_anew(&mut self) {
        self.proven = false;
    }

    /// Closes the open batch and puts it in line.
    pub(crate) fn close_open(&mut self, close_id: BatchId) {
        self.ready.extend(self.open.take().map(|open| open.close(close_id)));
    }

    /// The leader did not answer.
    pub(crate) fn doubt(&mut self, why: &Arc<str>) {
        self.trouble = Some(Arc::clone(why));
        if self.standing == Standing::Sound {
            self.standing = Standing::Doubted;
        }
    }

    /// Whether it has to be asked where this partition is led.
    pub(crate) fn wants_leader(&self) -> bool {
        let sound = self.standing == Standing::Sound && self.leader.is_some();
        !sound && self.standing != Standing::Gone && !self.is_idle()
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_none() && self.ready.is_empty() && self.sent.is_empty()
    }

    /// Whether a batch could leave now.
    pub(crate) fn is_due(&self, terms: Terms) -> bool {
        self.due_ms(terms).is_some_and(|due_ms| due_ms <= terms.now_ms)
    }

    /// When a batch can leave. None: not before some answer arrives.
    pub(crate) fn due_ms(&self, terms: Terms) -> Option<u64> {
        if self.must_prove() {
            return None;
        }
        if self.sent.iter().any(|sent| sent.state == State::Waiting) {
            return Some(self.retry_at_ms);
        }
        if self.is_blocked() {
            return None;
        }
        let fresh = match (&self.open, self.ready.is_empty()) {
            (_, false) => 0,
            (Some(_), true) if terms.hurry => 0,
            (Some(open), true) => open.created_ms.saturating_add(terms.linger_ms),
            (None, true) => return None,
        };
        Some(fresh.max(self.retry_at_ms))
    }

    /// Whether the one batch on its way has to arrive before another leaves.
    fn must_prove(&self) -> bool {
        !self.proven && self.sent.iter().any(|sent| sent.state == State::InFlight)
    }

    /// Whether new batches have to wait for the fate of those before them.
    fn is_blocked(&self) -> bool {
        let ahead = self.sent.front().map_or(0, |oldest| self.next_ordinal - oldest.ordinal);
        self.line != Line::Whole || ahead >= BATCHES_AHEAD_MAX
    }

    /// Bytes of the batch that [`dispatch`](Self::dispatch) would send.
    pub(crate) fn dispatch_bytes(&self) -> usize {
        let waiting = self.sent.iter().find(|sent| sent.state == State::Waiting).map(|sent| &sent.batch);
        match waiting.or(self.ready.front()) {
            Some(batch) => batch.payload.bytes(),
            None => self.open.as_ref().map_or(0, OpenBatch::bytes),
        }
    }

    /// Takes the next batch to send. `identity` is the producer's newest; `close_id` names the open batch if it has to be
    /// closed for this.
    pub(crate) fn dispatch(&mut self, now_ms: u64, identity: Identity, close_id: BatchId) -> Option<Dispatch> {
        if now_ms < self.retry_at_ms || self.must_prove() {
            return None;
        }
        let numbers = self.identity;
        // In order: everything before the first one that waits is on its way already.
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.state == State::Waiting) {
            sent.state = State::InFlight;
            let (batch, payload) = (sent.batch.id, sent.batch.payload.lend());
            return Some(Dispatch { batch, payload, identity: numbers, sequence: sent.sequence });
        }
        if self.is_blocked() {
            return None;
        }
        let mut batch = match self.ready.pop_front() {
            Some(batch) => batch,
            None => self.open.take()?.close(close_id),
        };
        if self.numbered && self.sent.is_empty() && self.identity != identity {
            self.identity = identity;
            self.next = Sequence(0);
            self.proven = false;
        }
        let sequence = self.next;
        if self.numbered {
            self.next = sequence.advance(batch.count);
        }
        let dispatch = Dispatch { batch: batch.id, payload: batch.payload.lend(), identity: self.identity, sequence };
        let (state, ordinal) = (State::InFlight, self.next_ordinal);
        self.next_ordinal += 1;
        self.sent.push_back(Sent { batch, ordinal, sequence, state, in_doubt: false, told: false });
        Some(dispatch)
    }

    /// Keeps the compressed form for another attempt.
    pub(crate) fn keep_sealed(&mut self, id: BatchId, sealed: Bytes) {
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.batch.id == id && !sent.told) {
            sent.batch.payload = Payload::Sealed(sealed);
        }
    }

    fn position(&self, id: BatchId) -> Option<usize> {
        self.sent.iter().position(|sent| sent.batch.id == id)
    }

    /// The broker stored it.
    pub(crate) fn stored(&mut self, id: BatchId) -> Option<Batch> {
        let sent = self.sent.remove(self.position(id)?)?;
        self.proven = true;
        self.failures = 0;
        self.retry_at_ms = 0;
        self.trouble = None;
        Some(sent.batch)
    }

    /// The connection ended before the answer came.
    pub(crate) fn lost(&mut self, id: BatchId, retry_at_ms: u64) {
        let Some(at) = self.position(id) else { return };
        if let Some(sent) = self.sent.get_mut(at) {
            sent.in_doubt = true;
            sent.state = State::Waiting;
            if sent.told {
                self.give_up(at);
            }
        }
        self.back_off(retry_at_ms);
    }

    /// The broker said no. Returns the batch if that is its end, and whether it may be stored all the same.
    pub(crate) fn refused(&mut self, id: BatchId, consequence: Consequence, retry_at_ms: u64) -> Option<(Batch, bool)> {
        let at = self.position(id)?;
        let numbered = self.numbered;
        // Nothing numbered is unresolved before it, so the broker's count itself differs from ours.
        let first = self.sent.iter().take(at).all(|sent| sent.state == State::Unnumbered);
        let sent = self.sent.get_mut(at)?;
        match consequence {
            Consequence::Retry { in_doubt } => {
                sent.in_doubt |= in_doubt;
                sent.state = State::Waiting;
            }
            Consequence::OutOfOrder if !first => sent.state = State::Waiting,
            // An earlier attempt of it may reach the broker behind one of the batch that left the hole.
            Consequence::OutOfOrder if sent.in_doubt && self.line == Line::BrokenInDoubt => return self.give_up(at),
            Consequence::OutOfOrder | Consequence::Fenced if numbered => {
                sent.state = State::Unnumbered;
                sent.in_doubt = false;
                self.line = self.line.max(Line::Broken);
            }
            // Without numbers there is no order to be out of: final, like the rest.
            Consequence::OutOfOrder | Consequence::Fenced => return self.give_up(at),
            Consequence::Final { in_doubt } => {
                sent.in_doubt |= in_doubt;
                // What a broker finds before it appends, it finds in an earlier attempt as well: that fills no hole.
                let before = self.line;
                let given_up = self.give_up(at);
                if !in_doubt {
                    self.line = self.line.min(before.max(Line::Broken));
                }
                return given_up;
            }
        }
        if self.sent.get(at).is_some_and(|sent| sent.told) {
            self.give_up(at);
        }
        self.back_off(retry_at_ms);
        None
    }

    fn back_off(&mut self, retry_at_ms: u64) {
        self.proven = false;
        self.failures = self.failures.saturating_add(1);
        self.retry_at_ms = self.retry_at_ms.max(retry_at_ms);
    }

    /// Failed attempts since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Puts two batches in place of one that the broker found too large. Together they carry its numbers.
    pub(crate) fn split(&mut self, id: BatchId, second_id: BatchId, format: Format) -> bool {
        let Some(at) = self.position(id) else { return false };
        let Some(sent) = self.sent.get_mut(at).filter(|sent| !sent.told && !sent.in_doubt) else { return false };
        let largest = sent.batch.charged_bytes;
        let Some(batch) = sent.batch.split_off(second_id, format) else { return false };
        sent.state = State::Waiting;
        let sequence = if self.numbered { sent.sequence.advance(sent.batch.count) } else { sent.sequence };
        let second =
            Sent { batch, ordinal: sent.ordinal + 1, sequence, state: State::Waiting, in_doubt: false, told: false };
        for behind in self.sent.range_mut(at + 1..) {
            behind.ordinal += 1;
        }
        self.next_ordinal += 1;
        self.sent.insert(at + 1, second);
        self.batch_bytes_max = self.batch_bytes_max.min((largest / 2).max(1));
        true
    }

    /// Takes a batch that is not in flight out of the line for good. Returns it with whether it may be stored all the same.
    fn give_up(&mut self, at: usize) -> Option<(Batch, bool)> {
        let sent = self.sent.remove(at)?;
        if self.numbered && sent.state != State::Unnumbered {
            if !sent.in_doubt && at == self.sent.len() {
                // Its numbers were never used: they are free for the next batch.
                self.next = sent.sequence;
            } else {
                self.line = self.line.max(if sent.in_doubt { Line::BrokenInDoubt } else { Line::Broken });
                // What waits, and was refused whenever it was sent, needs no refusal to leave the line.
                for behind in self.sent.range_mut(at..).filter(|sent| sent.is_nowhere()) {
                    behind.state = State::Unnumbered;
                }
            }
        }
        Some((sent.batch, sent.in_doubt))
    }

    /// The identity whose numbers are broken, once nothing under it is unresolved any more.
    pub(crate) fn broken_identity(&self) -> Option<Identity> {
        let resolved = self.sent.iter().all(|sent| sent.state == State::Unnumbered);
        (self.line != Line::Whole && resolved).then_some(self.identity)
    }

    /// Starts a new line of numbers under another identity.
    pub(crate) fn renumber(&mut self, identity: Identity) {
        self.identity = identity;
        self.next = Sequence(0);
        self.line = Line::Whole;
        self.proven = false;
        for sent in &mut self.sent {
            sent.ordinal = self.next_ordinal;
            self.next_ordinal += 1;
            sent.sequence = self.next;
            sent.state = State::Waiting;
            self.next = self.next.advance(sent.batch.count);
        }
    }

    /// When the oldest batch was begun whose sender still waits.
    pub(crate) fn oldest_ms(&self) -> Option<u64> {
        let sent = self.sent.iter().find(|sent| !sent.told).map(|sent| sent.batch.created_ms);
        sent.or_else(|| self.ready.front().map(|batch| batch.created_ms))
            .or_else(|| self.open.as_ref().map(|open| open.created_ms))
    }

    /// The serial of the first record that is not settled.
    pub(crate) fn oldest_serial(&self) -> Option<u64> {
        let sent = self.sent.iter().find(|sent| !sent.told).map(|sent| sent.batch.serial);
        sent.or_else(|| self.ready.front().map(|batch| batch.serial))
            .or_else(|| self.open.as_ref().map(|open| open.serial))
    }

    /// Gives up every batch that is not in flight.
    pub(crate) fn abandon(&mut self, close_id: BatchId) -> Vec<Batch> {
        let mut abandoned = Vec::new();
        let mut at = 0;
        while let Some(sent) = self.sent.get(at) {
            if sent.state == State::InFlight {
                at += 1;
            } else {
                abandoned.extend(self.give_up(at).map(|(batch, _)| batch));
            }
        }
        abandoned.extend(self.ready.drain(..));
        abandoned.extend(self.open.take().map(|open| open.close(close_id)));
        abandoned
    }

    /// Gives up every batch begun at or before `created_ms`. Each comes with whether it may be stored all the same.
    pub(crate) fn expire(&mut self, created_ms: u64, close_id: BatchId) -> Vec<(Batch, bool)> {
        let mut expired = Vec::new();
        let mut at = 0;
        while let Some(sent) = self.sent.get_mut(at) {
            if sent.told || sent.batch.created_ms > created_ms {
                at += 1;
            } else if sent.state == State::InFlight {
                sent.told = true;
                expired.push((hollow_out(&mut sent.batch), true));
                at += 1;
            } else {
                expired.extend(self.give_up(at));
            }
        }
        while self.ready.front().is_some_and(|batch| batch.created_ms <= created_ms) {
            expired.extend(self.ready.pop_front().map(|batch| (batch, false)));
        }
        if self.open.as_ref().is_some_and(|open| open.created_ms <= created_ms) {
            expired.extend(self.open.take().map(|open| (open.close(close_id), false)));
        }
        expired
    }
}

/// Leaves a shell in the line, with the count that its numbers need, and returns what has to be told and freed.
fn hollow_out(batch: &mut Batch) -> Batch {
    let shell = Batch {
        id: batch.id,
        created_ms: batch.created_ms,
        serial: batch.serial,
        charged_bytes: 0,
        count: batch.count,
        payload: Payload::Away,
        parties: Parties::default(),
    };
    std::mem::replace(batch, shell)
}
