//! The topics that records were sent to: which partitions each has, what waits for it to become known, and which
//! partition a record goes to.
//!
//! A record without partition and key goes where the ones before it went, until that partition got `batch_bytes`; then
//! another one is drawn (KIP-794). Partitions with batches in line are drawn less often, those without a leader only if
//! there is no other: a slow broker gets less, and every other partition the same.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ottla_wire::Uuid;

use super::backoff::scramble;
use super::lane::{Lane, LaneId};
use super::murmur2::partition_of_key;
use super::record::ProducerRecord;
use super::waiting::WaitingRecord;
use crate::error::SendError;

/// Every topic that was ever named, in the order in which they were.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    boxes: Vec<TopicBox>,
    index: HashMap<Arc<str>, usize>,
}

/// One topic.
#[derive(Debug)]
pub(crate) struct TopicBox {
    pub(crate) name: Arc<str>,
    /// Tells a topic from an earlier one of the same name; zero where the broker does not say.
    pub(crate) id: Uuid,
    /// Lane of every partition ever seen; empty while the topic is unknown.
    pub(crate) lanes: Vec<LaneId>,
    /// How many partitions there are now: a topic that was made anew may have fewer than before.
    pub(crate) partition_count: usize,
    pub(crate) waiting: VecDeque<WaitingRecord>,
    /// Since when records wait for this topic.
    pub(crate) wanted_since_ms: u64,
    sticky: Sticky,
}

/// Where keyless records go at present.
#[derive(Debug, Default)]
struct Sticky {
    partition: Option<usize>,
    /// What they brought there.
    bytes: usize,
    /// The partition before it, whose open batch may be full.
    left: Option<usize>,
}

impl Topics {
    /// The place of a topic, made when it is first named.
    pub(crate) fn enter(&mut self, now_ms: u64, name: &str) -> Result<usize, SendError> {
        if let Some(at) = self.index.get(name) {
            return Ok(*at);
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 249 || matches!(name, "." | "..") || !name.chars().all(legal) {
            return Err(SendError::InvalidTopic(name.to_owned()));
        }
        let name: Arc<str> = name.into();
        self.boxes.push(TopicBox {
            name: Arc::clone(&name),
            id: Uuid::default(),
            lanes: Vec::new(),
            partition_count: 0,
            waiting: VecDeque::new(),
            wanted_since_ms: now_ms,
            sticky: Sticky::default(),
        });
        self.index.insert(name, self.boxes.len() - 1);
        Ok(self.boxes.len() - 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.boxes.len()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&TopicBox> {
        self.boxes.get(at)
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut TopicBox> {
        self.boxes.get_mut(at)
    }

    pub(crate) fn place_of(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TopicBox> {
        self.boxes.iter()
    }

    /// The name of a topic.
    pub(crate) fn name_of(&self, at: usize) -> Arc<str> {
        self.get(at).map_or_else(|| Arc::from(""), |topic| Arc::clone(&topic.name))
    }

    /// The oldest records that wait for their topics.
    pub(crate) fn first_waiting(&self) -> impl Iterator<Item = &WaitingRecord> {
        self.boxes.iter().filter_map(|topic| topic.waiting.front())
    }
}

impl TopicBox {
    /// The lane for a record of `bytes` bytes, of a topic that is known. `turn` is any number; the same draws the same.
    pub(crate) fn choose(
        &mut self,
        lanes: &[Lane],
        record: &ProducerRecord<'_>,
        bytes: usize,
        batch_bytes: usize,
        turn: &mut u64,
    ) -> Result<LaneId, SendError> {
        let count = self.partition_count;
        let at = match (record.partition, record.key) {
            (Some(partition), _) => usize::try_from(partition).ok().filter(|at| *at < count),
            (None, Some(key)) => Some(partition_of_key(key, count as i32) as usize),
            (None, None) => Some(self.stick(lanes, bytes, batch_bytes, turn)),
        };
        at.and_then(|at| self.lanes.get(at)).copied().ok_or_else(|| SendError::NoSuchPartition {
            topic: Arc::clone(&self.name),
            partition: record.partition.unwrap_or(-1),
            count: count as i32,
        })
    }

    /// The lane that keyless records have just left, once.
    pub(crate) fn take_left(&mut self) -> Option<LaneId> {
        let left = self.sticky.left.take()?;
        self.lanes.get(left).copied()
    }

    fn stick(&mut self, lanes: &[Lane], bytes: usize, batch_bytes: usize, turn: &mut u64) -> usize {
        let lane_at = |at: usize| self.lanes.get(at).and_then(|id| lanes.get(id.0));
        let stays = self.sticky.partition.filter(|at| *at < self.partition_count).filter(|at| {
            let Some(lane) = lane_at(*at).filter(|lane| lane.leader.is_some()) else { return false };
            // Full batches are worth a little patience: it moves on where a batch ends, or after twice as much.
            let fits = lane.open_bytes().is_some_and(|open| open + bytes <= batch_bytes);
            self.sticky.bytes < batch_bytes || (fits && self.sticky.bytes < 2 * batch_bytes)
        });
        let at = stays.unwrap_or_else(|| {
            *turn = turn.wrapping_add(1);
            let drawn = self.draw(lanes, scramble(*turn));
            self.sticky = Sticky { partition: None, bytes: 0, left: self.sticky.partition };
            drawn
        });
        self.sticky.partition = Some(at);
        self.sticky.bytes += bytes;
        at
    }

    /// Draws a partition, each with a weight that shrinks with the batches in line for it.
    fn draw(&self, lanes: &[Lane], dice: u64) -> usize {
        let present = || self.lanes.iter().take(self.partition_count).map(|id| lanes.get(id.0));
        let in_line = |lane: Option<&Lane>| lane.filter(|lane| lane.leader.is_some()).map(Lane::in_line);
        let longest = present().filter_map(in_line).max();
        let Some(longest) = longest else {
            return (dice % self.partition_count.max(1) as u64) as usize;
        };
        let weight = |lane| in_line(lane).map_or(0, |length| (longest - length + 1) as u64);
        let mut drawn = dice % present().map(weight).sum::<u64>().max(1);
        for (at, weight) in present().map(weight).enumerate() {
            match drawn.checked_sub(weight) {
                Some(rest) => drawn = rest,
                None => return at,
            }
        }
        0
    }
}
