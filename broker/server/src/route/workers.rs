//! Who works on the lanes: blocking threads, a bounded number per topic, each lane by one at a time.
//!
//! The bound is per topic so that a plugin that takes all the time it is allowed costs its own topic, not the others.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use ottla_wire::Uuid;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::topics::Topic;

/// Lanes of a topic that wait for a worker, and how many workers the topic has.
#[derive(Debug, Default)]
struct Crew {
    lanes: VecDeque<i32>,
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

    /// A lane has batches. True: the caller has to start another worker for the topic, which calls
    /// [`next`](Self::next) until there is none.
    pub(crate) fn add(&self, topic: &Topic, lane: i32) -> bool {
        let mut crews = self.crews();
        let crew = crews.entry(topic.id).or_default();
        crew.lanes.push_back(lane);
        let more = crew.working < self.per_topic_max;
        crew.working += usize::from(more);
        more
    }

    /// The next lane for a worker of the topic. None: the worker is done.
    pub(crate) fn next(&self, topic: &Topic) -> Option<i32> {
        let mut crews = self.crews();
        let crew = crews.get_mut(&topic.id)?;
        let lane = crew.lanes.pop_front();
        if lane.is_none() {
            crew.working -= 1;
            if crew.working == 0 {
                crews.remove(&topic.id);
                if crews.is_empty() {
                    self.idle.notify_all();
                }
            }
        }
        lane
    }

    /// Puts a lane back that has more batches, behind the others of its topic.
    pub(crate) fn put_back(&self, topic: &Topic, lane: i32) {
        if let Some(crew) = self.crews().get_mut(&topic.id) {
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

/// How a worker is started.
pub(crate) fn start(work: impl FnOnce() + Send + 'static) {
    drop(tokio::task::spawn_blocking(work));
}
