//! One order for everything that waits behind the stage: the order of the route journal.
//!
//! Batches that leave their partition go through here, and so do those that stay but come behind one that leaves. The
//! order is total over all topics, which makes every order that matters hold at once: that of each addressed partition,
//! and that of the journal's sequence numbers on each target.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use ottla_front::{Charge, Memory, Use};
use ottla_stage::Split;
use ottla_wire::Offset;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::partition::{Claim, Partition, TicketStub};
use crate::topics::Topic;
use ottla_coordinator::sequence::Tail;

/// A batch behind the stage.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) topic: Arc<Topic>,
    /// The partition it was addressed to.
    pub(crate) addressed: Arc<Partition>,
    /// Its producer, if that is idempotent: then it goes through the journal.
    pub(crate) claim: Option<Claim>,
    /// What the partition knew of the producer before it.
    pub(crate) follows: Option<Tail>,
    /// How far the addressed partition must be readable before this one is applied: the batch before it must not be
    /// lost when this one is not.
    pub(crate) after: Offset,
    /// Digest of the plugin that decided.
    pub(crate) plugin: [u8; 32],
    pub(crate) records: ItemRecords,
    /// Tells producer and duplicates where it went.
    pub(crate) stub: TicketStub,
    /// What it takes of the room.
    pub(crate) bytes: usize,
    /// Its mark in the journal, once it is there.
    pub(crate) mark: Option<u64>,
}

/// The records of an item.
#[derive(Debug)]
pub(crate) enum ItemRecords {
    /// The batch as it was sent, for the addressed partition.
    Stays { batch: BytesMut, records: i64 },
    /// One batch per target.
    Moves(Split),
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Order {
    state: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
    bytes_max: usize,
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<Item>,
    /// Bytes of items that are promised a place, in the queue, or not applied yet.
    bytes: usize,
    /// Their memory.
    charge: Charge,
    closed: bool,
}

/// The broker stops; nothing more is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrderClosed;

impl Queue {
    /// Nothing in the order is dropped, so that its memory is taken even where there is none left.
    fn change(&mut self, bytes: usize) {
        self.bytes = bytes;
        self.charge.set(bytes);
    }
}

impl Order {
    pub(crate) fn new(bytes_max: usize, memory: &Arc<Memory>) -> Self {
        let queue = Queue { items: VecDeque::new(), bytes: 0, charge: memory.charge(Use::Order), closed: false };
        Self { state: Mutex::new(queue), filled: Condvar::new(), drained: Condvar::new(), bytes_max }
    }

    /// Waits until there is room for so many bytes, and takes it. A batch larger than all of it gets in alone.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), OrderClosed> {
        let mut queue = self.lock();
        while !queue.closed && queue.bytes > 0 && queue.bytes + bytes > self.bytes_max {
            self.drained.wait(&mut queue);
        }
        if queue.closed {
            return Err(OrderClosed);
        }
        let taken = queue.bytes + bytes;
        queue.change(taken);
        Ok(())
    }

    /// Gives back what was reserved.
    pub(crate) fn release(&self, bytes: usize) {
        let mut queue = self.lock();
        let left = queue.bytes - bytes;
        queue.change(left);
        drop(queue);
        self.drained.notify_all();
    }

    /// Puts an item, for which room was reserved, at the end.
    pub(crate) fn push(&self, item: Item) {
        self.lock().items.push_back(item);
        self.filled.notify_one();
    }

    /// Waits for items and takes as many as there are, up to about `bytes_max`. None: closed, and all taken.
    pub(crate) fn take(&self, bytes_max: usize) -> Option<Vec<Item>> {
        let mut queue = self.lock();
        while queue.items.is_empty() {
            if queue.closed {
                return None;
            }
            self.filled.wait(&mut queue);
        }
        let mut bytes = 0;
        let count = queue.items.iter().take_while(|item| {
            bytes += item.bytes;
            bytes <= bytes_max
        });
        let count = count.count().max(1);
        Some(queue.items.drain(..count).collect())
    }

    /// Takes the items out that were addressed to a partition, in their order. The holder of the partition's intake
    /// lets none of them in meanwhile.
    pub(crate) fn take_addressed(&self, addressed: &Arc<Partition>) -> Vec<Item> {
        let mut queue = self.lock();
        let is_addressed = |item: &Item| Arc::ptr_eq(&item.addressed, addressed);
        let (taken, rest) = std::mem::take(&mut queue.items).into_iter().partition(is_addressed);
        queue.items = rest;
        Vec::from(taken)
    }

    /// Takes nothing more. What is in the queue is still handed out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_waited_for_and_given_back() {
        let order = Arc::new(Order::new(100, &Memory::new(1 << 20)));
        order.reserve(80).unwrap();
        let waiting = std::thread::spawn({
            let order = Arc::clone(&order);
            move || order.reserve(50)
        });
        order.release(80);
        assert_eq!(waiting.join().unwrap(), Ok(()));
        assert_eq!(order.lock().bytes, 50);
    }

    #[test]
    fn a_batch_larger_than_the_room_gets_in_alone() {
        let order = Order::new(100, &Memory::new(1 << 20));
        order.reserve(1000).unwrap();
        assert_eq!(order.lock().bytes, 1000);
    }

    #[test]
    fn a_stop_ends_the_waiting() {
        let order = Arc::new(Order::new(100, &Memory::new(1 << 20)));
        order.reserve(100).unwrap();
        let waiting = std::thread::spawn({
            let order = Arc::clone(&order);
            move || order.reserve(50)
        });
        order.close();
        assert_eq!(waiting.join().unwrap(), Err(OrderClosed));
        assert!(order.take(10).is_none());
    }
}
