//! Who works on the lanes: workers in a pool of threads, a bounded number per topic, each lane by one at a time.
//!
//! Workers of all topics take turns on the threads. The bound per topic makes these turns fair, so that a plugin that takes
//! all the time it is allowed costs its own topic more than the others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_wire::Uuid;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::partition::Partition;

/// Lanes of a topic that wait for a worker, and how many workers the topic has.
#[derive(Debug, Default)]
struct Crew {
    lanes: VecDeque<Arc<Partition>>,
    working: usize,
}

/// The workers of all topics.
#[derive(Debug)]
pub(crate) struct Workers {
    crews: Mutex<HashMap<Uuid, Crew>>,
    idle: Condvar,
    per_topic_max: usize,
}

impl Workers {
    pub(crate) fn new(per_topic_max: usize) -> Self {
        Self { crews: Mutex::default(), idle: Condvar::new(), per_topic_max: per_topic_max.max(1) }
    }

    /// A lane has batches. True: the caller has to start another worker for the topic.
    pub(crate) fn add(&self, lane: &Arc<Partition>) -> bool {
        let mut crews = self.crews();
        let crew = crews.entry(lane.topic_id).or_default();
        crew.lanes.push_back(Arc::clone(lane));
        let more = crew.working < self.per_topic_max;
        crew.working += usize::from(more);
        more
    }

    /// The next lane for a worker of the topic. None: the worker is done.
    pub(crate) fn next(&self, topic_id: Uuid) -> Option<Arc<Partition>> {
        let mut crews = self.crews();
        let lane = crews.get_mut(&topic_id)?.lanes.pop_front();
        if lane.is_none() {
            self.end(&mut crews, topic_id);
        }
        lane
    }

    /// Whether the worker has another lane to see to. If not it is done.
    pub(crate) fn goes_on(&self, topic_id: Uuid) -> bool {
        let mut crews = self.crews();
        let goes_on = crews.get(&topic_id).is_some_and(|crew| !crew.lanes.is_empty());
        if !goes_on {
            self.end(&mut crews, topic_id);
        }
        goes_on
    }

    fn end(&self, crews: &mut HashMap<Uuid, Crew>, topic_id: Uuid) {
        let Some(crew) = crews.get_mut(&topic_id) else { return };
        crew.working -= 1;
        if crew.working == 0 {
            crews.remove(&topic_id);
            if crews.is_empty() {
                self.idle.notify_all();
            }
        }
    }

    /// Puts a lane back that has more batches, behind the others of its topic.
    pub(crate) fn put_back(&self, lane: Arc<Partition>) {
        if let Some(crew) = self.crews().get_mut(&lane.topic_id) {
            crew.lanes.push_back(lane);
        }
    }

    /// Waits until no lane has batches, or `patience` is over.
    pub(crate) fn wait_idle(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut crews = self.crews();
        while !crews.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            self.idle.wait_for(&mut crews, left);
        }
        true
    }

    fn crews(&self) -> MutexGuard<'_, HashMap<Uuid, Crew>> {
        self.crews.lock()
    }
}
