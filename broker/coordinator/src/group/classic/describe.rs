//! What DescribeGroups and ListGroups say.

use std::borrow::Cow;

use ottla_wire::message::{DescribedGroup, DescribedGroupMember, ListedGroup};

use super::{ClassicGroup, State};

impl ClassicGroup {
    /// Protocol, metadata and assignments are told while they are settled.
    pub(crate) fn describe(&self) -> DescribedGroup<'_> {
        let protocol = self.protocol.as_deref().filter(|_| self.state == State::Stable);
        let members = self.members.iter().map(|(member_id, member)| DescribedGroupMember {
            member_id: Cow::Borrowed(&**member_id),
            group_instance_id: member.instance_id.as_deref().map(Cow::Borrowed),
            client_id: Cow::Borrowed(&*member.client_id),
            client_host: Cow::Borrowed(&*member.client_host),
            member_metadata: protocol.and_then(|protocol| member.metadata(protocol)).unwrap_or_default(),
            member_assignment: if protocol.is_some() { &member.assignment } else { &[] },
        });
        DescribedGroup {
            group_id: Cow::Borrowed(&*self.id),
            group_state: self.state.name().into(),
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().into(),
            protocol_data: protocol.unwrap_or_default().into(),
            members: members.collect(),
            ..Default::default()
        }
    }

    pub(crate) fn list(&self) -> ListedGroup<'_> {
        ListedGroup {
            group_id: Cow::Borrowed(&*self.id),
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().into(),
            group_state: self.state.name().into(),
            group_type: "Classic".into(),
        }
    }
}
