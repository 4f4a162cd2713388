//! Which members may commit offsets, and when offsets expire.

use ottla_wire::ErrorCode;

use super::{ClassicGroup, State};

impl ClassicGroup {
    /// Whether a commit is accepted: from a member of this generation, or from outside an empty group.
    pub(crate) fn check_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !self.is_empty() {
            return Err(ErrorCode::UnknownMemberId);
        }
        if self.state == State::CompletingRebalance {
            // The member knows the new generation already, and may have lost the partition in it.
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Since when an offset that was committed at `commit_ms` is not in use; `None` while it is.
    pub(crate) fn unused_since_ms(&self, commit_ms: i64) -> Option<i64> {
        match (&self.protocol_type, self.state) {
            (None, _) => Some(commit_ms),
            (Some(_), State::Empty) => Some(self.state_since_ms.unwrap_or(commit_ms)),
            (Some(_), State::Stable) if self.is_consumer_type() && self.subscribed_topics.is_some() => Some(commit_ms),
            _ => None,
        }
    }
}
