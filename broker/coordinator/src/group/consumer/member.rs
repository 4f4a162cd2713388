//! A member of a consumer group.

use std::collections::BTreeSet;

use super::super::Text;
use super::super::classic::Protocol;
use super::Partitions;

/// How far a member is on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum MemberState {
    /// It owns what it is to own, at its epoch.
    #[default]
    Stable,
    /// It has partitions to revoke.
    Unrevoked,
    /// It waits for partitions that others have to revoke.
    Unreleased,
    /// A later broker wrote something else.
    Unknown,
}

impl MemberState {
    /// The number in the record.
    pub(crate) const fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
            Self::Unknown => 127,
        }
    }

    pub(crate) const fn of_code(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::Unrevoked,
            2 => Self::Unreleased,
            _ => Self::Unknown,
        }
    }
}

/// What a member that speaks the classic protocol joined with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassicSide {
    pub(crate) session_timeout_ms: i32,
    /// What it likes best first.
    pub(crate) protocols: Vec<Protocol>,
}

/// A member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ConsumerMember {
    /// The instance id of a static member.
    pub(crate) instance_id: Option<Text>,
    pub(crate) rack_id: Option<Text>,
    pub(crate) client_id: Text,
    pub(crate) client_host: Text,
    /// The topics that it subscribes to by name.
    pub(crate) topics: BTreeSet<Text>,
    /// The regular expression that it subscribes to.
    pub(crate) regex: Option<Text>,
    pub(crate) rebalance_timeout_ms: i32,
    /// The assignor that it wants.
    pub(crate) assignor: Option<Text>,
    /// Set for one that speaks the classic protocol.
    pub(crate) classic: Option<ClassicSide>,
    pub(crate) epoch: i32,
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    /// What it owns.
    pub(crate) assigned: Partitions,
    /// What it has to revoke.
    pub(crate) revoking: Partitions,
}

impl ConsumerMember {
    pub(crate) fn is_reconciled_to(&self, assignment_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == assignment_epoch
    }

    /// Whether its subscription record has to be written anew.
    pub(crate) fn differs_in_subscription(&self, other: &Self) -> bool {
        let record = |member: &Self| Self {
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Partitions::new(),
            revoking: Partitions::new(),
            ..member.clone()
        };
        record(self) != record(other)
    }

    /// Moves to an epoch; the one before is remembered only when it changes.
    pub(crate) fn enter_epoch(&mut self, epoch: i32) {
        if self.epoch != epoch {
            self.previous_epoch = std::mem::replace(&mut self.epoch, epoch);
        }
    }
}
