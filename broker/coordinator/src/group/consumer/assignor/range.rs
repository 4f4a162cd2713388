//! `range`: of every topic, each subscriber gets a stretch of neighbouring partitions. Topics of the same size that have the
//! same subscribers are cut at the same places, so that what belongs together stays together.

use std::collections::BTreeSet;

use super::super::super::Text;
use super::{Answer, Candidate, Question};

pub(super) const NAME: &str = "range";

pub(super) fn assign(question: &Question) -> Answer {
    let mut answer = Answer::new();
    // Static members keep their place under every member id.
    let mut members: Vec<(&Text, &Candidate)> = question.members.iter().collect();
    members.sort_by_key(|(member_id, member)| {
        let instance_id = member.instance_id.as_ref();
        (instance_id.is_none(), instance_id.unwrap_or(member_id))
    });
    for (topic, count) in &question.partition_counts {
        let subscribers: Vec<&Text> = members
            .iter()
            .filter(|(_, member)| member.topics.contains(topic))
            .map(|(member_id, _)| *member_id)
            .collect();
        let Ok(members) = i32::try_from(subscribers.len()) else { continue };
        if members == 0 {
            continue;
        }
        let (each, more) = (count / members, count % members);
        let mut next = 0;
        for (place, member_id) in (0..members).zip(subscribers) {
            let end = next + each + i32::from(place < more);
            let stretch: BTreeSet<i32> = (next..end).collect();
            next = end;
            if !stretch.is_empty() {
                answer.entry(Text::clone(member_id)).or_default().insert(*topic, stretch);
            }
        }
    }
    answer
}
