//! The fetch sessions of all connections, behind one lock that is held for as long as a request is compared with its
//! session. A request that names no session and wants none does not take it.

use ottla_coordinator::fetch_session::{Answer, FetchSessionConfig, FetchSessions, Outcome, Plan};
use ottla_wire::ErrorCode;
use ottla_wire::message::FetchRequest;
use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::clock;

/// The fetch sessions of a broker.
#[derive(Debug)]
pub struct Sessions(Mutex<FetchSessions>);

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
    pub fn new(config: FetchSessionConfig) -> Self {
        Self(Mutex::new(FetchSessions::new(config)))
    }

    /// Which partitions `request` means, or the error of all of it.
    pub fn begin(&self, version: i16, request: &FetchRequest<'_>) -> Result<Plan, ErrorCode> {
        const NONE: (i32, i32) = (0, -1);
        if (request.session_id, request.session_epoch) == NONE {
            return Ok(Plan::sessionless(version, request));
        }
        self.lock().begin(clock::now_ms(), version, request)
    }

    /// Which of them are answered, or the error of all of it: the session went on or gave way while the fetch waited.
    pub fn finish(&self, plan: &Plan, outcomes: &[Outcome]) -> Result<Answer, ErrorCode> {
        let fresh = Uuid::new_v4().as_u128() as i32;
        self.lock().finish(clock::now_ms(), fresh, plan, outcomes)
    }

    /// How many there are.
    pub fn counts(&self) -> SessionCounts {
        let sessions = self.lock();
        SessionCounts { sessions: sessions.len(), partitions: sessions.partitions(), evictions: sessions.evictions() }
    }

    fn lock(&self) -> MutexGuard<'_, FetchSessions> {
        self.0.lock()
    }
}
