//! What is only read: OffsetFetch, DescribeGroups, ListGroups. Answered at once, no effects.

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    DescribedConsumerGroup, DescribedGroup, ListedGroup, OffsetFetchRequestGroup, OffsetFetchResponseGroup,
};

use super::super::offsets;
use super::{FAILED, Group, LOADING, Phase, Shard};

/// From this version on, DescribeGroups says that a group does not exist; before, it is `Dead`.
const GROUP_ID_NOT_FOUND_FROM: i16 = 6;

impl Shard {
    /// The error of every request for now, if the shard does not serve.
    pub fn unavailable(&self) -> Option<ErrorCode> {
        match self.phase {
            Phase::Loading => Some(LOADING),
            Phase::Failed => Some(FAILED),
            Phase::Active => None,
        }
    }

    /// OffsetFetch for one group: durable offsets only. Below version 8 the driver makes a group of the request's fields.
    pub fn fetch_offsets(
        &self,
        version: i16,
        request: &OffsetFetchRequestGroup<'_>,
    ) -> OffsetFetchResponseGroup<'static> {
        match self.unavailable().or_else(|| self.refused_fetch(request)) {
            Some(error_code) => OffsetFetchResponseGroup { error_code, ..offsets::empty(request) },
            None => offsets::fetch(&self.offsets, &self.cx.topics, version, request),
        }
    }

    fn refused_fetch(&self, request: &OffsetFetchRequestGroup<'_>) -> Option<ErrorCode> {
        match self.groups.get(&*request.group_id) {
            Some(Group::Consumer(group)) => group.check_fetch(request.member_id.as_deref(), request.member_epoch).err(),
            _ => None,
        }
    }

    /// ConsumerGroupDescribe for one group.
    pub fn describe_consumer<'a>(&'a self, group_id: &'a str) -> DescribedConsumerGroup<'a> {
        let refused = |error_code, message: Option<String>| DescribedConsumerGroup {
            error_code,
            error_message: message.map(Into::into),
            group_id: group_id.into(),
            ..Default::default()
        };
        let not_found = |what| refused(ErrorCode::GroupIdNotFound, Some(format!("Group {group_id} {what}.")));
        match (self.unavailable(), self.groups.get(group_id)) {
            (Some(error_code), _) => refused(error_code, None),
            (None, Some(Group::Consumer(group))) => group.describe(&self.cx.topics),
            (None, Some(Group::Classic(_))) => not_found("is not a consumer group"),
            (None, None) => not_found("not found"),
        }
    }

    /// DescribeGroups for one group.
    pub fn describe<'a>(&'a self, version: i16, group_id: &'a str) -> DescribedGroup<'a> {
        if let Some(error_code) = self.unavailable() {
            return DescribedGroup { error_code, group_id: group_id.into(), ..Default::default() };
        }
        match self.groups.get(group_id) {
            Some(Group::Classic(group)) => group.describe(),
            Some(Group::Consumer(_)) => {
                not_classic(version, group_id, format!("Group {group_id} is not a classic group."))
            }
            None => not_classic(version, group_id, format!("Group {group_id} not found.")),
        }
    }

    /// ListGroups. Empty filters let all pass; names of states are compared without case.
    pub fn list(&self, states: &[&str], types: &[&str]) -> Vec<ListedGroup<'_>> {
        let passes = |filter: &[&str], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
        };
        let listed = self.groups.values().map(|group| match group {
            Group::Classic(group) => group.list(),
            Group::Consumer(group) => group.list(),
        });
        listed.filter(|group| passes(states, &group.group_state) && passes(types, &group.group_type)).collect()
    }

    /// The durable offsets of all groups, for lag in the metrics: group, topic, partition, offset.
    pub fn offsets(&self) -> impl Iterator<Item = (&str, &str, i32, i64)> {
        self.offsets.groups().flat_map(|group| {
            self.offsets
                .visible_of(group)
                .map(move |(topic, partition, committed)| (&**group, &**topic, partition, committed.offset))
        })
    }
}

fn not_classic(version: i16, group_id: &str, message: String) -> DescribedGroup<'_> {
    let mut group = DescribedGroup { group_id: group_id.into(), group_state: "Dead".into(), ..Default::default() };
    if version >= GROUP_ID_NOT_FOUND_FROM {
        group.error_code = ErrorCode::GroupIdNotFound;
        group.error_message = Some(message.into());
    }
    group
}
