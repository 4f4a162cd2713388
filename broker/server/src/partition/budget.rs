//! How many idempotent producers all partitions of the broker remember together.
//!
//! Every partition counts the producers that it knows. Where all of them together are too many, a partition that has more
//! than its share forgets the producer that has been idle longest for every new one; a partition with less than its share
//! may still take one, so that a crowd on one partition never costs another one its producers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The bound and what is counted against it.
#[derive(Debug)]
pub(crate) struct ProducerBudget {
    producers_max: usize,
    producers: AtomicUsize,
    /// Partitions that know a producer.
    partitions: AtomicUsize,
    /// Producers that were forgotten for others since the last call.
    forgotten: AtomicU64,
}

impl Default for ProducerBudget {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl ProducerBudget {
    /// A budget for so many producers; one that writes to ten partitions counts ten times.
    pub(crate) fn new(producers_max: usize) -> Self {
        Self {
            producers_max,
            producers: AtomicUsize::new(0),
            partitions: AtomicUsize::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    /// How many producers were forgotten for others since the last call.
    pub(crate) fn take_forgotten(&self) -> u64 {
        self.forgotten.swap(0, Ordering::Relaxed)
    }
}

/// What one partition has of the budget.
#[derive(Debug, Default)]
pub(crate) struct ProducerShare {
    budget: Arc<ProducerBudget>,
    counted: usize,
}

impl ProducerShare {
    /// A share of nothing yet.
    pub(crate) fn of(budget: &Arc<ProducerBudget>) -> Self {
        Self { budget: Arc::clone(budget), counted: 0 }
    }

    /// Counts the producers that the partition knows by now.
    pub(crate) fn count(&mut self, known: usize) {
        let before = std::mem::replace(&mut self.counted, known);
        if known >= before {
            self.budget.producers.fetch_add(known - before, Ordering::Relaxed);
        } else {
            self.budget.producers.fetch_sub(before - known, Ordering::Relaxed);
        }
        match (before, known) {
            (0, 1..) => _ = self.budget.partitions.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => _ = self.budget.partitions.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    /// The bound for all partitions together.
    pub(crate) fn producers_max(&self) -> usize {
        self.budget.producers_max
    }

    /// Whether there are too many producers, and more than its share of them here.
    pub(crate) fn is_exceeded(&self) -> bool {
        let budget = &*self.budget;
        let partitions = budget.partitions.load(Ordering::Relaxed).max(1);
        budget.producers.load(Ordering::Relaxed) > budget.producers_max
            && self.counted > (budget.producers_max / partitions).max(1)
    }

    /// Notes that a producer was forgotten for another one.
    pub(crate) fn note_forgotten(&self) {
        self.budget.forgotten.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for ProducerShare {
    fn drop(&mut self) {
        self.count(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_with_more_than_its_share_pays_for_what_is_too_much() {
        let budget = Arc::new(ProducerBudget::new(10));
        let (mut crowded, mut quiet) = (ProducerShare::of(&budget), ProducerShare::of(&budget));
        crowded.count(10);
        assert!(!crowded.is_exceeded());
        quiet.count(1);
        assert!(crowded.is_exceeded() && !quiet.is_exceeded());
        crowded.count(9);
        assert!(!crowded.is_exceeded());
        quiet.count(6);
        assert!(crowded.is_exceeded() && quiet.is_exceeded());
    }

    #[test]
    fn a_partition_that_goes_gives_back_what_it_had() {
        let budget = Arc::new(ProducerBudget::new(1));
        let mut stays = ProducerShare::of(&budget);
        stays.count(2);
        let mut goes = ProducerShare::of(&budget);
        goes.count(5);
        drop(goes);
        assert_eq!(budget.producers.load(Ordering::Relaxed), 2);
        assert_eq!(budget.partitions.load(Ordering::Relaxed), 1);
    }
}
