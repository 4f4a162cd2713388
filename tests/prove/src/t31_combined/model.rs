//! What may be there: what was sent, answered and deleted, against what was read. No clock, no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::check::Partition;
use crate::content::Identity;

/// Keys of one sender on a compacted topic.
pub(super) const KEYS: u64 = 7;

/// One topic, from its creation to the end of the storm.
#[derive(Clone, Debug, Default)]
pub(super) struct Topic {
    pub(super) name: String,
    /// A plugin may move records to another partition.
    pub(super) is_routed: bool,
    /// Of each key the last record stays.
    pub(super) is_compacted: bool,
    /// Retention may have removed what is oldest.
    pub(super) is_retained: bool,
    /// Per partition, how far `DeleteRecords` was asked to delete, and how far it said that it had.
    pub(super) asked: Vec<i64>,
    pub(super) deleted: Vec<i64>,
    pub(super) senders: Vec<Sender>,
}

/// One producer id with everything that was sent under it to one partition, in order.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    /// The tag of its records.
    pub(super) tag: u32,
    /// The partition that its batches name.
    pub(super) addressed: i32,
    /// It began to send to a topic of the same name that was deleted since.
    pub(super) is_of_old: bool,
    pub(super) batches: Vec<Batch>,
}

/// Records that were sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) fate: Fate,
}

/// What is known of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was acknowledged, and its records are at these places, in turn.
    Kept(Vec<At>),
    /// No answer that counts: its records are there once, or not at all.
    Unsure,
    /// It was acknowledged by a topic of this name that was deleted since: it must not come back.
    Gone,
}

/// Where a record is: partition and offset.
pub(super) type At = (i32, i64);

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// Records that were acknowledged and are nowhere.
    pub(super) lost: u64,
    /// Records that are there again.
    pub(super) doubled: u64,
    /// How many things are wrong, those included.
    pub(super) wrong: u64,
    /// The first few of them.
    pub(super) what: Vec<String>,
}

impl Verdict {
    fn say(&mut self, what: String) {
        self.wrong += 1;
        if self.what.len() < 3 {
            self.what.push(what);
        }
    }
}

/// Whether `read`, the partitions of a topic in turn, is what its history allows.
pub(super) fn judge(topic: &Topic, read: &[Partition]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut places: HashMap<Identity, Vec<At>> = HashMap::new();
    for (index, partition) in (0..).zip(read) {
        for entry in &partition.records {
            places.entry(entry.identity).or_default().push((index, entry.offset));
        }
    }
    starts(topic, read, &mut verdict);
    once(&places, &mut verdict);
    in_order(read, &mut verdict);
    let senders: HashMap<u32, &Sender> = topic.senders.iter().map(|sender| (sender.tag, sender)).collect();
    for (identity, at) in &places {
        match senders.get(&identity.tag) {
            Some(sender) => {
                for (partition, offset) in at.iter().filter(|at| !topic.is_routed && at.0 != sender.addressed) {
                    verdict.say(format!(
                        "{identity:?} was sent to partition {} and is at {partition}:{offset}",
                        sender.addressed
                    ));
                }
            }
            None => verdict.say(format!("{identity:?} at {at:?} was never sent to this topic")),
        }
    }
    let keys = last_of_keys(topic, read);
    for sender in &topic.senders {
        kept(topic, sender, read, (&places, &keys), &mut verdict);
    }
    verdict
}

/// A log begins where it was told to, or behind what retention may take.
fn starts(topic: &Topic, read: &[Partition], verdict: &mut Verdict) {
    for (index, partition) in read.iter().enumerate() {
        let (asked, deleted) = (topic.asked.get(index), topic.deleted.get(index));
        let (asked, deleted) = (asked.copied().unwrap_or(0), deleted.copied().unwrap_or(0));
        if partition.start > asked && !topic.is_retained {
            verdict.say(format!("partition {index} begins at {}, {asked} was asked for", partition.start));
        }
        if partition.start < deleted {
            verdict.say(format!("partition {index} begins at {}, {deleted} was answered", partition.start));
        }
    }
}

fn once(places: &HashMap<Identity, Vec<At>>, verdict: &mut Verdict) {
    let mut twice: Vec<_> = places.iter().filter(|(_, at)| at.len() > 1).collect();
    twice.sort_unstable();
    for (identity, at) in twice {
        verdict.doubled += at.len() as u64 - 1;
        verdict.say(format!("{identity:?} is there {} times, at {at:?}", at.len()));
    }
}

/// Each partition has the records of a sender in the order in which they were sent.
fn in_order(read: &[Partition], verdict: &mut Verdict) {
    for (index, partition) in read.iter().enumerate() {
        let (mut last, mut seen) = (HashMap::new(), HashSet::new());
        for entry in &partition.records {
            let Identity { tag, number } = entry.identity;
            // One that comes again is counted as that.
            if !seen.insert(entry.identity) {
                continue;
            }
            let before = last.insert(tag, number);
            if before.is_some_and(|before| before > number) {
                verdict
                    .say(format!("{:?} at {index}:{} stands behind record {before:?}", entry.identity, entry.offset));
            }
        }
    }
}

/// The last offset of each key in each partition; a key is one of a sender.
fn last_of_keys(topic: &Topic, read: &[Partition]) -> HashMap<(i32, u32, u64), i64> {
    let mut keys = HashMap::new();
    if topic.is_compacted {
        for (index, partition) in (0..).zip(read) {
            for entry in &partition.records {
                keys.insert((index, entry.identity.tag, entry.identity.number % KEYS), entry.offset);
            }
        }
    }
    keys
}

type Found<'a> = (&'a HashMap<Identity, Vec<At>>, &'a HashMap<(i32, u32, u64), i64>);

/// What was acknowledged is at its place, nothing is missing in the middle, and nothing came back.
fn kept(topic: &Topic, sender: &Sender, read: &[Partition], (places, keys): Found<'_>, verdict: &mut Verdict) {
    let tag = sender.tag;
    let deletes =
        sender.is_of_old || topic.is_compacted || topic.is_retained || topic.asked.iter().any(|asked| *asked > 0);
    let is_there = |number| places.contains_key(&Identity { tag, number });
    let mut missing: BTreeMap<u64, u64> = BTreeMap::new();
    let mut last_there = None;
    for batch in &sender.batches {
        let numbers = batch.first..batch.first + u64::from(batch.count);
        match &batch.fate {
            Fate::Gone => {
                for number in numbers.filter(|number| is_there(*number)) {
                    verdict.say(format!("record {number} of {tag} went with its topic and is there again"));
                }
            }
            Fate::Unsure => {
                for number in numbers {
                    if is_there(number) {
                        last_there = Some(number);
                    } else {
                        missing.insert(number, batch.first);
                    }
                }
            }
            Fate::Kept(at) => {
                last_there = Some(numbers.end - 1);
                for (number, &(partition, offset)) in numbers.zip(at) {
                    let found = places.get(&Identity { tag, number });
                    if found.is_some_and(|found| found.contains(&(partition, offset))) {
                        continue;
                    }
                    let start =
                        usize::try_from(partition).ok().and_then(|index| read.get(index)).map_or(0, |it| it.start);
                    let key = keys.get(&(partition, tag, number % KEYS));
                    let is_deleted = offset < start || key.is_some_and(|last| *last > offset);
                    match found {
                        None if is_deleted => {}
                        None => {
                            verdict.lost += 1;
                            verdict.say(format!(
                                "record {number} of {tag} was acknowledged at {partition}:{offset} and is not there"
                            ));
                        }
                        Some(found) => {
                            // The answer said one place: what stands at another one was appended again.
                            verdict.doubled += u64::from(found.len() == 1);
                            verdict.say(format!(
                                "record {number} of {tag} was acknowledged at {partition}:{offset} and is at {found:?}"
                            ));
                        }
                    }
                }
            }
        }
    }
    if let Some(last) = last_there.filter(|_| !deletes)
        && let Some((number, _)) = missing.range(..last).next()
    {
        let count = missing.range(..last).count();
        verdict.say(format!("record {number} of {tag} and {} more are missing before record {last}", count - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Entry;

    const TAG: u32 = 5;

    fn partition(start: i64, numbers: &[(i64, u64)]) -> Partition {
        let entry = |&(offset, number)| Entry { offset, timestamp: 0, identity: Identity { tag: TAG, number } };
        let records: Vec<_> = numbers.iter().map(entry).collect();
        Partition { end: records.last().map_or(start, |last| last.offset + 1), records, start }
    }

    fn acked(first: u64, partition: i32, base_offset: i64) -> Batch {
        Batch { first, count: 1, fate: Fate::Kept(vec![(partition, base_offset)]) }
    }

    fn unsure(first: u64) -> Batch {
        Batch { first, count: 1, fate: Fate::Unsure }
    }

    fn topic(batches: Vec<Batch>) -> Topic {
        let senders = vec![Sender { tag: TAG, addressed: 0, is_of_old: false, batches }];
        Topic { name: "t".into(), asked: vec![0; 2], deleted: vec![0; 2], senders, ..Topic::default() }
    }

    fn counts(topic: &Topic, read: &[Partition]) -> (u64, u64, u64) {
        let Verdict { lost, doubled, wrong, .. } = judge(topic, read);
        (lost, doubled, wrong)
    }

    #[test]
    fn what_was_acknowledged_has_to_be_at_its_place() {
        let topic = topic(vec![acked(0, 0, 0), acked(1, 0, 1)]);
        assert_eq!(counts(&topic, &[partition(0, &[(0, 0), (1, 1)])]), (0, 0, 0));
        assert_eq!(counts(&topic, &[partition(0, &[(0, 0)])]), (1, 0, 1));
        assert_eq!(counts(&topic, &[partition(0, &[(0, 0), (2, 1)])]), (0, 1, 1), "at another place it came again");
    }

    #[test]
    fn a_record_is_there_once_in_all_partitions_together() {
        let routed = Topic { is_routed: true, ..topic(vec![acked(0, 1, 0), unsure(1)]) };
        assert_eq!(counts(&routed, &[partition(0, &[(0, 1)]), partition(0, &[(0, 0)])]), (0, 0, 0));
        assert_eq!(counts(&routed, &[partition(0, &[(0, 1), (1, 0)]), partition(0, &[(0, 0)])]).1, 1);
        assert_eq!(counts(&routed, &[partition(0, &[(0, 1), (1, 1)]), partition(0, &[(0, 0)])]), (0, 1, 1));
    }

    #[test]
    fn without_an_answer_a_batch_is_there_or_not_but_none_behind_it_without_it() {
        let history = topic(vec![acked(0, 0, 0), unsure(1), unsure(2)]);
        for there in [&[(0, 0)][..], &[(0, 0), (1, 1)], &[(0, 0), (1, 1), (2, 2)]] {
            assert_eq!(counts(&history, &[partition(0, there)]), (0, 0, 0));
        }
        assert_eq!(counts(&history, &[partition(0, &[(0, 0), (1, 2)])]), (0, 0, 1));
        let refused = topic(vec![acked(0, 0, 0), unsure(1), acked(2, 0, 1)]);
        assert_eq!(counts(&refused, &[partition(0, &[(0, 0), (1, 2)])]), (0, 0, 1));
    }

    #[test]
    fn records_of_a_sender_stand_in_their_order() {
        let history = topic(vec![unsure(0), unsure(1)]);
        assert_eq!(counts(&history, &[partition(0, &[(0, 1), (1, 0)])]), (0, 0, 1));
        assert_eq!(counts(&history, &[partition(0, &[]), partition(0, &[(0, 0)])]), (0, 0, 1), "they stay there");
    }

    #[test]
    fn a_log_begins_where_it_was_asked_to() {
        let asked = |asked, deleted| Topic {
            asked: vec![asked],
            deleted: vec![deleted],
            ..topic(vec![acked(0, 0, 0), acked(1, 0, 1)])
        };
        let read = [partition(1, &[(1, 1)])];
        assert_eq!(counts(&asked(1, 1), &read), (0, 0, 0));
        assert_eq!(counts(&asked(0, 0), &read), (0, 0, 1));
        assert_eq!(counts(&asked(2, 2), &read), (0, 0, 1));
        let retained = Topic { is_retained: true, ..asked(0, 0) };
        assert_eq!(counts(&retained, &read), (0, 0, 0));
    }

    #[test]
    fn a_deleted_record_that_comes_again_is_doubled() {
        let history = Topic { asked: vec![1], ..topic(vec![acked(0, 0, 0), acked(1, 0, 1)]) };
        assert_eq!(counts(&history, &[partition(1, &[(1, 1), (2, 0)])]).1, 1);
    }

    #[test]
    fn compaction_takes_what_a_later_record_of_the_key_replaces() {
        let history =
            Topic { is_compacted: true, ..topic(vec![acked(0, 0, 0), acked(KEYS, 0, 1), acked(KEYS + 1, 0, 2)]) };
        assert_eq!(counts(&history, &[partition(0, &[(1, KEYS), (2, KEYS + 1)])]), (0, 0, 0));
        assert_eq!(counts(&history, &[partition(0, &[(0, 0), (2, KEYS + 1)])]), (1, 0, 1));
        assert_eq!(counts(&history, &[partition(0, &[(2, KEYS + 1)])]).0, 2);
    }

    #[test]
    fn what_went_with_its_topic_stays_away() {
        let gone = Batch { first: 0, count: 1, fate: Fate::Gone };
        assert_eq!(counts(&topic(vec![gone.clone()]), &[partition(0, &[])]), (0, 0, 0));
        assert_eq!(counts(&topic(vec![gone]), &[partition(0, &[(0, 0)])]), (0, 0, 1));
    }

    #[test]
    fn what_was_never_sent_is_noticed() {
        let other = Topic { senders: Vec::new(), ..topic(Vec::new()) };
        assert_eq!(counts(&other, &[partition(0, &[(0, 0)])]), (0, 0, 1));
    }
}
