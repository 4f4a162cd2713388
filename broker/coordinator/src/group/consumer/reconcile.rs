//! One step of a member towards its target (Kafka's `CurrentAssignmentBuilder`).

use super::{ConsumerGroup, ConsumerMember, MemberState, Partitions};

impl ConsumerGroup {
    /// The member after its next step. `owned` is what it says that it owns; `None`: as before.
    ///
    /// First it revokes what it is not to own; then it gets the partitions without an owner; it waits for those that others still own.
    pub(super) fn reconciled(
        &self,
        member: &ConsumerMember,
        target: &Partitions,
        owned: Option<&Partitions>,
    ) -> ConsumerMember {
        match member.state {
            MemberState::Stable if member.epoch == self.assignment_epoch => member.clone(),
            MemberState::Unrevoked if still_owns(owned, &member.revoking) => member.clone(),
            // It has revoked: it is done with its epoch, and may already be on its way to another one.
            MemberState::Unrevoked => self.next(member, member.epoch.saturating_add(1), target, owned),
            MemberState::Stable | MemberState::Unreleased => self.next(member, member.epoch, target, owned),
            MemberState::Unknown => self.next(member, self.assignment_epoch, target, owned),
        }
    }

    fn next(
        &self,
        member: &ConsumerMember,
        epoch: i32,
        target: &Partitions,
        owned: Option<&Partitions>,
    ) -> ConsumerMember {
        let (mut kept, mut revoking) = (Partitions::new(), Partitions::new());
        for (topic, partitions) in &member.assigned {
            for partition in partitions {
                let stays = target.get(topic).is_some_and(|wanted| wanted.contains(partition));
                let goes_to = if stays { &mut kept } else { &mut revoking };
                goes_to.entry(*topic).or_default().insert(*partition);
            }
        }
        let mut next = ConsumerMember { revoking: Partitions::new(), ..member.clone() };
        if !revoking.is_empty() && still_owns(owned, &revoking) {
            next.enter_epoch(epoch);
            (next.state, next.assigned, next.revoking) = (MemberState::Unrevoked, kept, revoking);
            return next;
        }
        // What the member no longer owns is free for others with this step, but not for itself in the same one.
        let mut waits = false;
        for (topic, partitions) in target {
            for partition in partitions {
                let has = kept.get(topic).is_some_and(|kept| kept.contains(partition));
                if has {
                    continue;
                }
                if self.is_owned(*topic, *partition) {
                    waits = true;
                } else {
                    kept.entry(*topic).or_default().insert(*partition);
                }
            }
        }
        next.enter_epoch(self.assignment_epoch);
        next.state = if waits { MemberState::Unreleased } else { MemberState::Stable };
        next.assigned = kept;
        next
    }

    /// Whether a member that waits for partitions has nothing to wait for any more.
    pub(super) fn is_waiting_for_others(&self, member_id: &str, member: &ConsumerMember) -> bool {
        member.state == MemberState::Unreleased
            && self.target.get(member_id).into_iter().flatten().any(|(topic, partitions)| {
                let assigned = member.assigned.get(topic);
                partitions.iter().any(|partition| {
                    !assigned.is_some_and(|own| own.contains(partition)) && self.is_owned(*topic, *partition)
                })
            })
    }
}

/// Whether the member still has one of these partitions, or does not say.
fn still_owns(owned: Option<&Partitions>, partitions: &Partitions) -> bool {
    let Some(owned) = owned else { return true };
    partitions.iter().any(|(topic, partitions)| {
        owned.get(topic).is_some_and(|owned| partitions.iter().any(|partition| owned.contains(partition)))
    })
}
