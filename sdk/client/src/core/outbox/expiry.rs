//! Time passes: records become too old, lanes idle.

use std::sync::Arc;

use super::Outbox;
use crate::core::batch::BatchId;
use crate::core::lane::Lane;
use crate::core::outcome::Outcome;
use crate::error::ProduceError;

impl Outbox {
    /// Gives up what has waited for longer than `delivery_timeout_ms`, and forgets idle lanes.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let timeout_ms = self.limits.delivery_timeout_ms;
        if let Some(created_ms) = now_ms.checked_sub(timeout_ms) {
            let trouble = self.trouble.words();
            self.give_up(created_ms, &|in_doubt, last| {
                let last = last.cloned().or_else(|| trouble.clone());
                ProduceError::TimedOut { timeout_ms, in_doubt, last }
            });
        }
        let (lanes, is_active) = (&self.lanes, &mut self.is_active);
        self.active.retain(|id| {
            let busy = lanes.get(id.0).is_some_and(|lane| !lane.is_idle());
            if !busy && let Some(flag) = is_active.get_mut(id.0) {
                *flag = false;
            }
            busy
        });
        if self.is_settled(self.ledger.flush_mark()) {
            self.ledger.flushed();
        }
    }

    /// Takes no more records and gives up those that it has.
    pub(crate) fn fail_all(&mut self, error: &dyn Fn(bool) -> ProduceError) {
        self.closed = true;
        self.give_up(u64::MAX, &|in_doubt, _| error(in_doubt));
    }

    fn give_up(&mut self, created_ms: u64, error: &dyn Fn(bool, Option<&Arc<str>>) -> ProduceError) {
        for at in 0..self.topics.len() {
            let Some(topic) = self.topics.get_mut(at) else { continue };
            let late = topic.waiting.iter().take_while(|waiting| waiting.created_ms <= created_ms).count();
            for waiting in topic.waiting.drain(..late).collect::<Vec<_>>() {
                self.fail_waiting(at, waiting, error(false, None));
            }
        }
        for id in self.active.clone() {
            self.next_batch += 1;
            let close_id = BatchId(self.next_batch);
            let Some(lane) = self.lanes.get_mut(id.0) else { continue };
            let (topic, partition) = (Arc::clone(&lane.topic), lane.partition);
            for (batch, in_doubt) in lane.expire(created_ms, close_id) {
                let error = error(in_doubt, lane.trouble.as_ref());
                let outcome = Outcome::failed(Arc::clone(&topic), partition, error);
                self.ledger.settle(batch, outcome);
            }
            self.after(id);
        }
    }

    /// When something is to be done even if nothing happens: a batch has lingered, a pause is over, a record is too old.
    /// What is due by now and still here waits for something else.
    pub(crate) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let terms = self.terms(now_ms);
        let due = self.active_lanes().filter(|lane| lane.leader.is_some()).filter_map(|lane| lane.due_ms(terms));
        let oldest = self.active_lanes().filter_map(Lane::oldest_ms);
        let waiting = self.topics.first_waiting().map(|waiting| waiting.created_ms);
        let expiry = oldest.chain(waiting).map(|ms| ms.saturating_add(self.limits.delivery_timeout_ms));
        due.chain(expiry).filter(|at_ms| *at_ms > now_ms).min()
    }
}
