//! One owner of the memory that requests can take.
//!
//! What a client or a plugin makes the broker hold is charged here, by [use](Use), for as long as it is held: a
//! [`Charge`] travels with the bytes. Together the charges stay within one limit. New work waits for room or is refused
//! with an error that clients retry; nothing is taken back from work that was accepted.
//!
//! Room is shared without a list of who holds what: a holder may take more as long as it would hold no more than what is
//! left free. One greedy holder ends at half of the limit, `n` of them at one part in `n + 1` each, and there is always
//! the same part left for the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// What memory is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Requests that arrive or wait for their answers.
    Requests,
    /// Answers that a client has not taken yet.
    Answers,
    /// Records that are unpacked, and answers in the making.
    Work,
    /// Batches that wait for a plugin.
    Lanes,
    /// Batches between a plugin and the log.
    Order,
    /// Instances of plugins.
    Plugins,
    /// What fetch sessions remember.
    Sessions,
    /// Producers on their way to the disk.
    Snapshots,
    /// The keys of a compaction, and a batch that it unpacks.
    Compaction,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Requests,
        Self::Answers,
        Self::Work,
        Self::Lanes,
        Self::Order,
        Self::Plugins,
        Self::Sessions,
        Self::Snapshots,
        Self::Compaction,
    ];

    /// Its name in metrics and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Answers => "answers",
            Self::Work => "work",
            Self::Lanes => "lanes",
            Self::Order => "order",
            Self::Plugins => "plugins",
            Self::Sessions => "sessions",
            Self::Snapshots => "snapshots",
            Self::Compaction => "compaction",
        }
    }
}

/// The owner. One for all connections, pools and plugins of a broker.
#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    used: [AtomicUsize; Use::ALL.len()],
    /// How many wait for room: giving back costs the others nothing.
    waiting: AtomicUsize,
    freed: Notify,
    freed_lock: Mutex<()>,
    freed_for_threads: Condvar,
}

/// Bytes that are held. Given back when dropped.
#[derive(Debug)]
pub struct Charge {
    memory: Arc<Memory>,
    held_for: Use,
    bytes: usize,
}

impl Memory {
    /// An owner of so many bytes.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            used: Default::default(),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            freed_lock: Mutex::new(()),
            freed_for_threads: Condvar::new(),
        })
    }

    /// The limit.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes held for one use.
    pub fn used(&self, held_for: Use) -> usize {
        self.used[held_for as usize].load(Ordering::Relaxed)
    }

    /// Bytes that are not held.
    pub fn free(&self) -> usize {
        self.bytes_max.saturating_sub(self.used_by_all())
    }

    fn used_by_all(&self) -> usize {
        self.used.iter().map(|used| used.load(Ordering::Relaxed)).sum()
    }

    /// Whether a connection that holds `own` bytes may bring `more`. A quarter of the limit is left for the work on what
    /// was accepted.
    pub fn has_room(&self, own: usize, more: usize) -> bool {
        own.saturating_add(more) <= self.free().saturating_sub(self.bytes_max / 4)
    }

    /// Whether less than an eighth is free: clients that take nothing of their answers are not waited for.
    pub fn is_short(&self) -> bool {
        self.free() < self.bytes_max / 8
    }

    /// A charge of nothing yet.
    pub fn charge(self: &Arc<Self>, held_for: Use) -> Charge {
        Charge { memory: Arc::clone(self), held_for, bytes: 0 }
    }

    /// Takes `bytes` if a holder of `own` has room for them.
    pub fn take(self: &Arc<Self>, held_for: Use, own: usize, bytes: usize) -> Option<Charge> {
        if own.saturating_add(bytes) > self.free() {
            return None;
        }
        let mut charge = self.charge(held_for);
        charge.set(bytes);
        // Two that come together may both have seen the last room.
        (bytes == 0 || self.used_by_all() <= self.bytes_max).then_some(charge)
    }

    /// The same, and the thread waits up to `patience` for the room.
    pub fn take_patiently(self: &Arc<Self>, held_for: Use, bytes: usize, patience: Duration) -> Option<Charge> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(charge) = self.take(held_for, 0, bytes) {
                return Some(charge);
            }
            let _waiting = Waiting::on(self);
            let mut lock = self.freed_lock.lock();
            if bytes > self.free() && self.freed_for_threads.wait_until(&mut lock, deadline).timed_out() {
                return None;
            }
        }
    }

    /// Waits until a connection that holds `own` bytes may bring `more`.
    pub async fn room(&self, own: usize, more: usize) {
        let _waiting = Waiting::on(self);
        loop {
            let freed = self.freed.notified();
            if self.has_room(own, more) {
                return;
            }
            freed.await;
        }
    }

    fn give_back(&self, held_for: Use, bytes: usize) {
        self.used[held_for as usize].fetch_sub(bytes, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_waiters();
            drop(self.freed_lock.lock());
            self.freed_for_threads.notify_all();
        }
    }
}

/// Counts one that waits for room.
struct Waiting<'a>(&'a Memory);

impl<'a> Waiting<'a> {
    fn on(memory: &'a Memory) -> Self {
        memory.waiting.fetch_add(1, Ordering::SeqCst);
        // What is looked at from here on is newer than what a giver saw that did not see this.
        fence(Ordering::SeqCst);
        Self(memory)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Charge {
    /// Holds `bytes` from now on, whether there is room or not: for what is bounded by other means.
    pub fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes > before {
            self.memory.used[self.held_for as usize].fetch_add(bytes - before, Ordering::Relaxed);
        } else if bytes < before {
            self.memory.give_back(self.held_for, before - bytes);
        }
    }

    /// What it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_holder_leaves_as_much_as_it_takes() {
        let memory = Memory::new(1000);
        let mut held = Vec::new();
        let mut own = 0;
        while let Some(charge) = memory.take(Use::Lanes, own, 10) {
            own += 10;
            held.push(charge);
        }
        assert_eq!((own, memory.free()), (500, 500));
        let other = memory.take(Use::Lanes, 0, 500).expect("the next holder finds room");
        drop(other);
        drop(held);
        assert_eq!(memory.free(), 1000);
    }

    #[test]
    fn what_waits_for_room_goes_on_when_room_comes() {
        let memory = Memory::new(100);
        let all = memory.take(Use::Work, 0, 60).expect("room");
        assert!(memory.take_patiently(Use::Work, 60, Duration::from_millis(1)).is_none());
        let waiting = std::thread::spawn({
            let memory = Arc::clone(&memory);
            move || memory.take_patiently(Use::Work, 60, Duration::from_mins(1)).is_some()
        });
        while memory.waiting.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        drop(all);
        assert!(waiting.join().unwrap());
        assert_eq!(memory.free(), 100);
    }

    #[tokio::test]
    async fn a_connection_waits_for_room_without_a_thread() {
        let memory = Memory::new(100);
        let mut charge = memory.charge(Use::Requests);
        charge.set(90);
        let (room, gone) = tokio::join!(memory.room(20, 1), async move {
            tokio::task::yield_now().await;
            drop(charge);
        });
        assert_eq!((room, gone), ((), ()));
    }

    #[test]
    fn each_use_is_counted_by_itself() {
        let memory = Memory::new(100);
        let mut charge = memory.charge(Use::Requests);
        charge.set(30);
        let _other = memory.take(Use::Plugins, 0, 5).expect("room");
        assert_eq!((memory.used(Use::Requests), memory.used(Use::Plugins), memory.free()), (30, 5, 65));
        charge.set(10);
        assert_eq!(memory.used(Use::Requests), 10);
        drop(charge);
        assert_eq!(memory.used(Use::Requests), 0);
    }
}
