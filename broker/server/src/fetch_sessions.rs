//! The fetch sessions of all connections, behind one lock that is held for as long as a request is compared with its
//! session. A request that names no session and wants none does not take it. What the sessions remember is charged to the
//! memory of all: while there is no room, a request is answered without a session.

use std::sync::Arc;

use ottla_coordinator::fetch_session::{Answer, FetchSessionConfig, FetchSessions, Outcome, Plan};
use ottla_front::{Charge, Memory, Use};
use ottla_wire::ErrorCode;
use ottla_wire::message::FetchRequest;
use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::clock;

/// Memory that a session takes for each partition, about.
const PARTITION_BYTES: usize = 300;

/// The fetch sessions of a broker.
#[derive(Debug)]
pub struct Sessions {
    memory: Arc<Memory>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    sessions: FetchSessions,
    charge: Charge,
}

impl Kept {
    /// Charges what the sessions have become.
    fn account(&mut self) {
        self.charge.set(self.sessions.partitions() * PARTITION_BYTES);
    }
}

/// How many there are, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions.
    pub sessions: usize,
    /// Partitions in all of them.
    pub partitions: usize,
    /// Sessions that gave way to others since the start.
    pub evictions: u64,
}

impl Sessions {
    /// No sessions yet.
    pub fn new(config: FetchSessionConfig, memory: &Arc<Memory>) -> Self {
        let kept = Kept { sessions: FetchSessions::new(config), charge: memory.charge(Use::Sessions) };
        Self { memory: Arc::clone(memory), kept: Mutex::new(kept) }
    }

    /// Which partitions `request` means, or the error of all of it.
    pub fn begin(&self, version: i16, request: &FetchRequest<'_>) -> Result<Plan, ErrorCode> {
        const NONE: (i32, i32) = (0, -1);
        if (request.session_id, request.session_epoch) == NONE {
            return Ok(Plan::sessionless(version, request));
        }
        let mut kept = self.lock();
        let plan = kept.sessions.begin(clock::now_ms(), version, request);
        kept.account();
        plan
    }

    /// Which of them are answered, or the error of all of it: the session went on or gave way while the fetch waited.
    pub fn finish(&self, plan: &Plan, outcomes: &[Outcome]) -> Result<Answer, ErrorCode> {
        let fresh = Uuid::new_v4().as_u128() as i32;
        let mut kept = self.lock();
        if plan.begins_session() && !self.has_room(&kept, plan) {
            return Ok(Answer::without_session(plan));
        }
        let answer = kept.sessions.finish(clock::now_ms(), fresh, plan, outcomes);
        kept.account();
        answer
    }

    /// Sessions together are one holder: they may take as much as they leave free.
    fn has_room(&self, kept: &Kept, plan: &Plan) -> bool {
        kept.charge.bytes() + plan.partitions.len() * PARTITION_BYTES <= self.memory.free()
    }

    /// How many there are.
    pub fn counts(&self) -> SessionCounts {
        let Kept { sessions, .. } = &*self.lock();
        SessionCounts { sessions: sessions.len(), partitions: sessions.partitions(), evictions: sessions.evictions() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock()
    }
}

#[cfg(test)]
mod tests {
    use ottla_wire::message::{FetchPartition, FetchTopic};

    use super::*;

    fn wants_session(partitions: i32) -> FetchRequest<'static> {
        let partitions =
            (0..partitions).map(|partition| FetchPartition { partition, ..FetchPartition::default() }).collect();
        let topic = FetchTopic { topic: "t".into(), partitions, ..FetchTopic::default() };
        FetchRequest { topics: vec![topic], session_epoch: 0, ..FetchRequest::default() }
    }

    /// The id of a session for so many partitions.
    fn session(sessions: &Sessions, partitions: i32) -> i32 {
        let plan = sessions.begin(12, &wants_session(partitions)).unwrap();
        let outcomes = vec![Outcome::default(); plan.partitions.len()];
        let answer = sessions.finish(&plan, &outcomes).unwrap();
        assert_eq!(answer.included, vec![true; plan.partitions.len()]);
        answer.session_id
    }

    #[test]
    fn sessions_are_charged_and_where_there_is_no_room_there_is_none() {
        let memory = Memory::new(100 * PARTITION_BYTES);
        let sessions = Sessions::new(FetchSessionConfig::default(), &memory);
        assert_eq!(session(&sessions, 101), 0, "more than all memory");
        let first = session(&sessions, 40);
        assert_ne!(first, 0);
        assert_eq!(memory.used(Use::Sessions), 40 * PARTITION_BYTES);
        assert_eq!(session(&sessions, 30), 0, "more than is left free");
        let ended = FetchRequest { session_id: first, session_epoch: -1, ..FetchRequest::default() };
        sessions.begin(12, &ended).unwrap();
        assert_eq!(memory.used(Use::Sessions), 0);
        assert_ne!(session(&sessions, 30), 0);
    }
}
