//! What every machine of a shard works with.

use std::sync::Arc;

use ottla_wire::ErrorCode;

use super::Text;
use super::config::GroupConfig;
use super::effect::{Effect, Event, EventKind, Record, Reply, RequestId, WriteId};
use super::timers::{Timer, Timers};
use super::topics::Topics;
use super::writes::{After, Writes};

/// The time, the settings, the deadlines, and where effects go.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) now_ms: i64,
    pub(crate) config: Arc<GroupConfig>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) timers: Timers,
    pub(crate) writes: Writes,
    pub(crate) effects: Vec<Effect>,
}

impl Context {
    pub(crate) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.effects.push(Effect::Reply { request, reply });
    }

    pub(crate) fn append(&mut self, records: Vec<Record>, after: Vec<After>) -> WriteId {
        self.writes.append(records, after, &mut self.effects)
    }

    /// Replies once `write` is durable: at once if it is.
    pub(crate) fn reply_after(&mut self, write: Option<WriteId>, request: RequestId, reply: Reply) {
        if let Err(After::Reply(request, reply)) = self.writes.wait_for(write, After::Reply(request, reply)) {
            self.reply(request, reply);
        }
    }

    pub(crate) fn event(&mut self, group: &Text, kind: EventKind, reason: impl Into<String>) {
        self.effects.push(Effect::Event(Event { group: Text::clone(group), kind, reason: reason.into() }));
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, after_ms: i32) {
        self.timers.set(timer, self.now_ms + i64::from(after_ms.max(0)));
    }
}

/// What a request that arrives while the shard cannot serve it is told.
pub(crate) const LOADING: ErrorCode = ErrorCode::CoordinatorLoadInProgress;
/// What a request is told by a shard whose writes failed.
pub(crate) const FAILED: ErrorCode = ErrorCode::NotCoordinator;
