//! LeaveGroup: one member, or several at once, static ones by their instance id (KIP-345).

use ottla_wire::ErrorCode;
use ottla_wire::message::LeavingMember;

use super::super::effect::EventKind;
use super::super::reply::LeftMember;
use super::super::timers::Timer;
use super::super::{Context, Text};
use super::ClassicGroup;

impl ClassicGroup {
    pub(crate) fn leave(&mut self, cx: &mut Context, members: &[LeavingMember<'_>]) -> Vec<LeftMember> {
        let left: Vec<LeftMember> = members
            .iter()
            .map(|member| LeftMember {
                member_id: Text::from(&*member.member_id),
                instance_id: member.group_instance_id.as_deref().map(Text::from),
                error: self.leave_one(cx, member).err().unwrap_or_default(),
            })
            .collect();
        let gone: Vec<&str> = left
            .iter()
            .filter(|member| member.error.is_none())
            .map(|member| member.instance_id.as_deref().unwrap_or(&member.member_id))
            .collect();
        if !gone.is_empty() {
            self.member_is_gone(cx, &format!("explicit LeaveGroup of ({})", gone.join(", ")));
        }
        left
    }

    fn leave_one(&mut self, cx: &mut Context, leaving: &LeavingMember<'_>) -> Result<(), ErrorCode> {
        let instance_id = leaving.group_instance_id.as_deref();
        let member_id = if leaving.member_id.is_empty() {
            let current = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            current.cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else {
            Text::from(&*leaving.member_id)
        };
        if self.pending_joins.remove(&member_id) {
            cx.timers.cancel(&Timer::Session(Text::clone(&self.id), Text::clone(&member_id)));
        } else {
            if !leaving.member_id.is_empty() {
                self.check_member(&member_id, instance_id)?;
            }
            self.drop_member(cx, &member_id);
        }
        let reason = leaving.reason.as_deref().unwrap_or("not provided");
        cx.event(&self.id, EventKind::MemberRemoved, format!("member {member_id} left; client reason: {reason}"));
        Ok(())
    }
}
