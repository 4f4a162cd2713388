//! Which members may commit and fetch offsets.

use ottla_wire::ErrorCode;

use super::ConsumerGroup;

/// From this version on OffsetCommit knows member epochs.
const MEMBER_EPOCHS_FROM: i16 = 9;

impl ConsumerGroup {
    /// Whether a commit is accepted: from a member at its epoch, or from outside a group without members.
    pub(crate) fn check_commit(&self, version: i16, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.classic.is_none() && version < MEMBER_EPOCHS_FROM {
            return Err(ErrorCode::UnsupportedVersion);
        }
        self.check_epoch(member_id, epoch)
    }

    /// Whether a fetch is accepted: from a member at its epoch, or from outside.
    pub(crate) fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        match member_id {
            None if epoch < 0 => Ok(()),
            member_id => self.check_epoch(member_id.unwrap_or_default(), epoch),
        }
    }

    fn check_epoch(&self, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        match (member.epoch == epoch, member.classic.is_some()) {
            (true, _) => Ok(()),
            (false, true) => Err(ErrorCode::IllegalGeneration),
            (false, false) => Err(ErrorCode::StaleMemberEpoch),
        }
    }
}
