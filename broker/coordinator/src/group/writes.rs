//! What waits for the disk: answers, and changes that become true only when they are durable.

use std::collections::{BTreeMap, VecDeque};

use super::effect::{Effect, Record, Reply, RequestId, WriteId};
use super::offsets::OffsetChange;
use super::{Bytes, Text};

/// What happens once a write is durable.
#[derive(Debug)]
pub(crate) enum After {
    /// A request is answered.
    Reply(RequestId, Reply),
    /// A classic group has this assignment, if it still is in this generation.
    Assigned { group: Text, generation: i32, assignment: BTreeMap<Text, Bytes> },
    /// A static member of a classic group that came back is answered, if it still waits.
    Rejoined { group: Text, member: Text, previous_leader: Option<Text>, may_skip_assignment: bool },
    /// Offsets become visible, or go.
    Offsets(Vec<OffsetChange>),
}

#[derive(Debug)]
struct Write {
    id: WriteId,
    after: Vec<After>,
}

/// The writes under way.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    last: u64,
    waiting: VecDeque<Write>,
}

impl Writes {
    /// Asks for an append.
    pub(crate) fn append(&mut self, records: Vec<Record>, after: Vec<After>, effects: &mut Vec<Effect>) -> WriteId {
        self.last += 1;
        let id = WriteId(self.last);
        self.waiting.push_back(Write { id, after });
        effects.push(Effect::Append { write: id, records });
        id
    }

    /// Lets something wait for a write that may be under way; gives it back if the write is not.
    pub(crate) fn wait_for(&mut self, write: Option<WriteId>, after: After) -> Result<(), After> {
        // Writes become durable in order and are few: the one sought is near the end.
        match self.waiting.iter_mut().rev().find(|waiting| Some(waiting.id) == write) {
            Some(waiting) => {
                waiting.after.push(after);
                Ok(())
            }
            None => Err(after),
        }
    }

    /// Takes what waited for writes up to `id`.
    pub(crate) fn durable(&mut self, id: WriteId) -> Vec<After> {
        let mut after = Vec::new();
        while self.waiting.front().is_some_and(|write| write.id <= id) {
            after.extend(self.waiting.pop_front().into_iter().flat_map(|write| write.after));
        }
        after
    }

    /// Takes all that waits.
    pub(crate) fn failed(&mut self) -> Vec<After> {
        self.waiting.drain(..).flat_map(|write| write.after).collect()
    }
}
