//! The order in which Java's hash maps hand out their keys. Nothing promises it, but the sticky assignors go by it.

use super::TopicPartition;

/// Buckets of a map that was just made.
const BUCKETS: usize = 16;

/// Java's hash of a string.
pub(super) fn hash_of(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The hash of Java's `TopicPartition`.
fn hash_of_partition(of: &TopicPartition) -> i32 {
    31_i32.wrapping_add(of.partition).wrapping_mul(31).wrapping_add(hash_of(&of.topic))
}

/// The bucket of a hash in a map of so many.
fn bucket(hash: i32, buckets: usize) -> usize {
    let hash = hash as u32;
    (hash ^ (hash >> 16)) as usize & (buckets - 1)
}

/// The buckets of a map that has grown to this many keys.
fn buckets_for(keys: usize) -> usize {
    let mut buckets = BUCKETS;
    while keys > buckets / 4 * 3 {
        buckets *= 2;
    }
    buckets
}

/// The places of these keys in the order in which a map hands them out that they were put into one after another.
pub(super) fn order_of<'a>(keys: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let hashes: Vec<i32> = keys.map(hash_of).collect();
    let buckets = buckets_for(hashes.len());
    let mut order: Vec<usize> = (0..hashes.len()).collect();
    order.sort_by_key(|at| hashes.get(*at).map(|hash| bucket(*hash, buckets)));
    order
}

/// A hash set of partitions, as far as its first element goes.
#[derive(Debug, Default)]
pub(super) struct PartitionSet {
    partitions: Vec<TopicPartition>,
    largest: usize,
}

impl PartitionSet {
    pub(super) fn insert(&mut self, partition: TopicPartition) {
        if !self.partitions.contains(&partition) {
            self.partitions.push(partition);
            self.largest = self.largest.max(self.partitions.len());
        }
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) {
        self.partitions.retain(|it| it != partition);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    pub(super) fn first(&self) -> Option<&TopicPartition> {
        let buckets = buckets_for(self.largest);
        self.partitions.iter().min_by_key(|it| bucket(hash_of_partition(it), buckets))
    }
}
