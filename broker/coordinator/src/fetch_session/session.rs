//! One session: its partitions, and what was last said about each.

use std::collections::BTreeMap;

use super::{Outcome, TopicRef, WantedPartition};

/// What was never said.
const UNSAID: i64 = -1;

#[derive(Debug, Clone)]
struct Entry {
    wanted: WantedPartition,
    high_watermark: i64,
    log_start_offset: i64,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) has_ids: bool,
    /// The epoch of the next request.
    pub(super) epoch: i32,
    pub(super) created_ms: i64,
    pub(super) used_ms: i64,
    /// Partitions by their place in the order: what had news goes to the end, so that all get their turn.
    entries: BTreeMap<u64, Entry>,
    places: BTreeMap<(TopicRef, i32), u64>,
    last_place: u64,
}

impl Session {
    pub(super) const fn new(has_ids: bool, now_ms: i64) -> Self {
        Self {
            has_ids,
            epoch: 1,
            created_ms: now_ms,
            used_ms: now_ms,
            entries: BTreeMap::new(),
            places: BTreeMap::new(),
            last_place: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn partitions(&self) -> Vec<WantedPartition> {
        self.entries.values().map(|entry| entry.wanted.clone()).collect()
    }

    pub(super) fn into_partitions(self) -> Vec<WantedPartition> {
        self.entries.into_values().map(|entry| entry.wanted).collect()
    }

    /// Takes partitions in, or takes what is wanted of them anew.
    pub(super) fn add(&mut self, partitions: impl IntoIterator<Item = WantedPartition>) {
        for wanted in partitions {
            let key = (wanted.topic.clone(), wanted.partition.partition);
            if let Some(entry) = self.places.get(&key).and_then(|place| self.entries.get_mut(place)) {
                entry.wanted = wanted;
                continue;
            }
            self.last_place += 1;
            self.places.insert(key, self.last_place);
            let entry = Entry { wanted, high_watermark: UNSAID, log_start_offset: UNSAID };
            self.entries.insert(self.last_place, entry);
        }
    }

    pub(super) fn forget(&mut self, partitions: impl IntoIterator<Item = (TopicRef, i32)>) {
        for key in partitions {
            if let Some(place) = self.places.remove(&key) {
                self.entries.remove(&place);
            }
        }
    }

    /// Remembers what came of a partition, and says whether the client has to know.
    pub(super) fn note(&mut self, wanted: &WantedPartition, outcome: Outcome) -> bool {
        let key = (wanted.topic.clone(), wanted.partition.partition);
        let Some(place) = self.places.get_mut(&key) else { return true };
        let Some(mut entry) = self.entries.remove(place) else { return true };
        let mut is_new = outcome.has_news
            || entry.high_watermark != outcome.high_watermark
            || entry.log_start_offset != outcome.log_start_offset;
        (entry.high_watermark, entry.log_start_offset) = (outcome.high_watermark, outcome.log_start_offset);
        if !outcome.error.is_none() {
            // An error is always told, and so is its end.
            entry.high_watermark = UNSAID;
            is_new = true;
        }
        if is_new {
            self.last_place += 1;
            *place = self.last_place;
        }
        self.entries.insert(*place, entry);
        is_new
    }
}
