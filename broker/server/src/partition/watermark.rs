//! How far a partition may be read, and the waiters for it to move.
//!
//! Owns the high watermark as the server sees it and the list of waiters; the log moves it. Promises that a waiter
//! registered before a move is woken by it, exactly once. Never decides how far the watermark is: that is the log's
//! (durable offset for `fsync`, log end for `page-cache`).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use ottla_wire::Offset;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// The partition can no longer move its watermark: its log directory went offline or the partition was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the partition is offline")]
pub struct PartitionOffline;

/// The high watermark of one partition: every offset below it may be read. Clones share it.
#[derive(Debug, Clone)]
pub struct Watermark(Arc<WatermarkState>);

#[derive(Debug)]
struct WatermarkState {
    high: AtomicI64,
    offline: AtomicBool,
    waiters: Mutex<Waiters>,
}

/// Waiters by the watermark they wait for; the number tells equal ones apart.
#[derive(Debug, Default)]
struct Waiters {
    next: u64,
    by_offset: BTreeMap<(i64, u64), Waiter>,
}

#[derive(Debug)]
enum Waiter {
    Task(Waker),
    Bell(Arc<Bell>),
}

impl Watermark {
    /// A watermark that begins at `high`.
    pub fn new(high: Offset) -> Self {
        Self(Arc::new(WatermarkState {
            high: AtomicI64::new(high.get()),
            offline: AtomicBool::new(false),
            waiters: Mutex::default(),
        }))
    }

    /// The first offset that may not be read yet.
    pub fn high(&self) -> Offset {
        Offset(self.0.high.load(Ordering::Acquire))
    }

    /// Whether it will never move again.
    pub fn is_offline(&self) -> bool {
        self.0.offline.load(Ordering::Acquire)
    }

    /// Moves the watermark to `high`, never backwards, and wakes whom that concerns.
    pub fn advance(&self, high: Offset) {
        if self.0.high.fetch_max(high.get(), Ordering::AcqRel) >= high.get() {
            return;
        }
        let reached = {
            let mut waiters = self.0.waiters();
            let later = waiters.by_offset.split_off(&(high.get().saturating_add(1), 0));
            std::mem::replace(&mut waiters.by_offset, later)
        };
        reached.into_values().for_each(Waiter::wake);
    }

    /// Wakes all waiters with [`PartitionOffline`]; later waiters get it at once.
    pub fn close(&self) {
        self.0.offline.store(true, Ordering::Release);
        let all = std::mem::take(&mut self.0.waiters().by_offset);
        all.into_values().for_each(Waiter::wake);
    }

    /// Waits until everything below `end` may be read.
    pub fn wait_for(&self, end: Offset) -> WaitFor {
        WaitFor { shared: Arc::clone(&self.0), end: end.get(), number: None }
    }

    /// Waits like [`Watermark::wait_for`], on a thread that may sleep.
    pub fn block_until(&self, end: Offset) -> Result<(), PartitionOffline> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut wait = self.wait_for(end);
        loop {
            match Pin::new(&mut wait).poll(&mut context) {
                Poll::Ready(done) => return done,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    /// Rings `bell` once as soon as everything below `end` may be read, or the partition goes offline. At once when
    /// that is already so. The registration ends with the guard.
    ///
    /// A long poll over many partitions registers one bell with all of them and sleeps on it, so that a move wakes
    /// only those who asked for that move.
    pub fn ring(&self, bell: &Arc<Bell>, end: Offset) -> Registration {
        let mut waiters = self.0.waiters();
        if self.0.reached(end.get()).is_some() {
            drop(waiters);
            bell.ring();
            return Registration { shared: Arc::clone(&self.0), key: None };
        }
        let key = waiters.add(end.get(), Waiter::Bell(Arc::clone(bell)));
        Registration { shared: Arc::clone(&self.0), key: Some(key) }
    }
}

impl WatermarkState {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock()
    }

    /// The answer for a waiter, if there is one. Called under the lock of the waiters before adding one, because
    /// `advance` and `close` publish before they take that lock: so no wake-up can fall between.
    fn reached(&self, end: i64) -> Option<Result<(), PartitionOffline>> {
        if self.high.load(Ordering::Acquire) >= end {
            Some(Ok(()))
        } else if self.offline.load(Ordering::Acquire) {
            Some(Err(PartitionOffline))
        } else {
            None
        }
    }
}

impl Waiters {
    fn add(&mut self, end: i64, waiter: Waiter) -> (i64, u64) {
        self.next += 1;
        let key = (end, self.next);
        self.by_offset.insert(key, waiter);
        key
    }
}

impl Waiter {
    fn wake(self) {
        match self {
            Self::Task(waker) => waker.wake(),
            Self::Bell(bell) => bell.ring(),
        }
    }
}

/// Waits for the watermark of one partition.
#[derive(Debug)]
pub struct WaitFor {
    shared: Arc<WatermarkState>,
    end: i64,
    number: Option<u64>,
}

impl Future for WaitFor {
    type Output = Result<(), PartitionOffline>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = Arc::clone(&self.shared);
        if let Some(done) = shared.reached(self.end) {
            return Poll::Ready(done);
        }
        let mut waiters = shared.waiters();
        if let Some(done) = shared.reached(self.end) {
            return Poll::Ready(done);
        }
        let waiter = Waiter::Task(context.waker().clone());
        match self.number.and_then(|number| waiters.by_offset.get_mut(&(self.end, number))) {
            Some(registered) => *registered = waiter,
            None => self.number = Some(waiters.add(self.end, waiter).1),
        }
        Poll::Pending
    }
}

impl Drop for WaitFor {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.waiters().by_offset.remove(&(self.end, number));
        }
    }
}

/// A bell that several partitions can ring and one task hears. A ring before the listening is not lost.
#[derive(Debug, Default)]
pub struct Bell(Notify);

impl Bell {
    /// A silent bell.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Rings it.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for a ring; several rings since the last wait count as one.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// Keeps a bell registered with a partition.
#[derive(Debug)]
#[must_use = "the bell is taken off when this is dropped"]
pub struct Registration {
    shared: Arc<WatermarkState>,
    key: Option<(i64, u64)>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.waiters().by_offset.remove(&key);
        }
    }
}

/// Wakes a sleeping thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiters(watermark: &Watermark) -> usize {
        watermark.0.waiters().by_offset.len()
    }

    #[tokio::test]
    async fn a_waiter_wakes_when_its_offset_is_reached_and_not_before() {
        let watermark = Watermark::new(Offset(3));
        watermark.wait_for(Offset(3)).await.unwrap();
        let early = tokio::spawn(watermark.wait_for(Offset(5)));
        let late = tokio::spawn(watermark.wait_for(Offset(9)));
        while waiters(&watermark) < 2 {
            tokio::task::yield_now().await;
        }
        watermark.advance(Offset(5));
        early.await.unwrap().unwrap();
        assert!(!late.is_finished());
        assert_eq!(waiters(&watermark), 1);
        watermark.close();
        assert_eq!(late.await.unwrap(), Err(PartitionOffline));
    }

    #[test]
    fn the_watermark_never_moves_backwards() {
        let watermark = Watermark::new(Offset(3));
        watermark.advance(Offset(8));
        watermark.advance(Offset(6));
        assert_eq!(watermark.high(), Offset(8));
    }

    #[test]
    fn what_is_readable_stays_so_after_the_end() {
        let watermark = Watermark::new(Offset(3));
        watermark.close();
        assert_eq!(watermark.block_until(Offset(2)), Ok(()));
        assert_eq!(watermark.block_until(Offset(4)), Err(PartitionOffline));
    }

    #[test]
    fn a_thread_can_wait() {
        let watermark = Watermark::new(Offset(0));
        let waiting = std::thread::spawn({
            let watermark = watermark.clone();
            move || watermark.block_until(Offset(2))
        });
        watermark.advance(Offset(1));
        watermark.advance(Offset(2));
        assert_eq!(waiting.join().unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_bell_is_rung_once_by_whichever_partition_moves_first() {
        let (one, two) = (Watermark::new(Offset(0)), Watermark::new(Offset(0)));
        let bell = Bell::new();
        let registrations = [one.ring(&bell, Offset(4)), two.ring(&bell, Offset(4))];
        one.advance(Offset(3));
        two.advance(Offset(4));
        bell.rung().await;
        drop(registrations);
        assert_eq!((waiters(&one), waiters(&two)), (0, 0));
        let _at_once = two.ring(&bell, Offset(2));
        bell.rung().await;
    }

    #[tokio::test]
    async fn a_dropped_waiter_leaves_nothing_behind() {
        let watermark = Watermark::new(Offset(0));
        let waiting = tokio::spawn(watermark.wait_for(Offset(1)));
        while waiters(&watermark) == 0 {
            tokio::task::yield_now().await;
        }
        waiting.abort();
        let _ = waiting.await;
        assert_eq!(waiters(&watermark), 0);
    }
}
