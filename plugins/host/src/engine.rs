//! The wasmtime engine and its clock, created with the first plugin.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::limits::Limits;

/// One tick of the clock that ends runaway guests.
const EPOCH_TICK: Duration = Duration::from_millis(1);
/// The clock stops after so many ticks without a call, so that an idle process stays asleep.
const IDLE_TICKS_MAX: u32 = 50;
const WASM_STACK_BYTES: usize = 512 << 10;
/// Enough to reach the author's functions behind the ones that a panic goes through.
const BACKTRACE_FRAMES: usize = 32;
/// Elements of one table; a Python component has about 40 000 functions in it.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 60_000;

/// The engine, its clock, and what all plugins share.
pub(crate) struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<Clock>,
    pub(crate) memory: MemoryBudget,
    instances: AtomicUsize,
    pools: Mutex<Vec<Weak<dyn Idle>>>,
    fingerprint: String,
}

/// Holds instances that wait for a call, and can do without them.
pub(crate) trait Idle: Send + Sync {
    /// Drops the instances that wait for a call.
    fn drop_idle(&self);
}

/// Moves the engine's epoch while calls run.
pub(crate) struct Clock {
    running: AtomicUsize,
    parked: AtomicBool,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

/// A call runs; the clock ticks until this is dropped.
pub(crate) struct Running<'a>(&'a Clock);

/// Linear memory of all instances together.
pub(crate) struct MemoryBudget {
    used: AtomicU64,
    max: u64,
}

/// One of the instances that may be alive; given back when dropped.
pub(crate) struct InstanceSlot(Arc<Runtime>);

impl Runtime {
    /// Creates the engine with room for `instances` and starts its clock.
    pub(crate) fn new(limits: &Limits, instances: u32) -> Result<Arc<Self>, wasmtime::Error> {
        let engine = Engine::new(&config(limits, instances))?;
        let mut hasher = Fingerprint(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let name = hasher.0.finalize();
        let fingerprint = name.first_chunk().map_or(0, |name| u64::from_be_bytes(*name));
        Ok(Arc::new(Self {
            clock: Clock::start(engine.clone())?,
            engine,
            limits: Limits { instances_max: instances, ..limits.clone() },
            memory: MemoryBudget { used: AtomicU64::new(0), max: limits.memory_total_bytes },
            instances: AtomicUsize::new(0),
            pools: Mutex::new(Vec::new()),
            fingerprint: format!("{fingerprint:016x}"),
        }))
    }

    /// Names compiled code that this engine on this processor can run.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Lets idle instances of this pool make room for those of others.
    pub(crate) fn register(&self, pool: Weak<dyn Idle>) {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    /// Takes the right to one more instance, at the cost of idle ones where all are taken.
    pub(crate) fn instance_slot(self: &Arc<Self>) -> Option<InstanceSlot> {
        self.try_slot().or_else(|| {
            self.drop_idle();
            self.try_slot()
        })
    }

    fn try_slot(self: &Arc<Self>) -> Option<InstanceSlot> {
        let max = self.limits.instances_max as usize;
        let taken = self.instances.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1));
        taken.ok().map(|_| InstanceSlot(Arc::clone(self)))
    }

    /// Drops every instance that waits for a call.
    pub(crate) fn drop_idle(&self) {
        let pools: Vec<_> = self.pools.lock().iter().filter_map(Weak::upgrade).collect();
        for pool in pools {
            pool.drop_idle();
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.clock.stop();
    }
}

impl Drop for InstanceSlot {
    fn drop(&mut self) {
        self.0.instances.fetch_sub(1, Ordering::AcqRel);
    }
}

impl InstanceSlot {
    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.0
    }
}

impl MemoryBudget {
    /// Takes `bytes` more, or says that there are not as many left.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let enough = |used: u64| used.checked_add(bytes).filter(|&total| total <= self.max);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, enough).is_ok()
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }
}

impl Clock {
    fn start(engine: Engine) -> Result<Arc<Self>, wasmtime::Error> {
        let clock = Arc::new(Self {
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let ticking = Arc::clone(&clock);
        let handle = thread::Builder::new()
            .name("plugin-clock".to_owned())
            .spawn(move || ticking.tick(&engine))
            .map_err(wasmtime::Error::new)?;
        clock.thread.get_or_init(|| handle.thread().clone());
        Ok(clock)
    }

    /// Keeps the clock ticking for one call.
    pub(crate) fn run(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) {
            self.wake();
        }
        Running(self)
    }

    fn tick(&self, engine: &Engine) {
        let mut idle_ticks = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            thread::sleep(EPOCH_TICK);
            engine.increment_epoch();
            let idle = self.running.load(Ordering::SeqCst) == 0;
            idle_ticks = if idle { idle_ticks + 1 } else { 0 };
            if idle_ticks > IDLE_TICKS_MAX {
                self.park();
                idle_ticks = 0;
            }
        }
    }

    /// Sleeps until a call begins. `parked` is set before `running` is read again, and a call counts itself before it
    /// reads `parked`, so one of the two always sees the other.
    fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Only what a plugin needs is on. Threads, garbage collection, exceptions, component-model-async and stack switching are
/// not even compiled in.
fn config(limits: &Limits, instances: u32) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // The same call gives the same answer on every machine and in years: so does a NaN.
        .cranelift_nan_canonicalization(true)
        .generate_address_map(false)
        .native_unwind_info(false)
        // Handles to the memory of a guest that trapped, whose last words are in it; nothing is copied.
        .coredump_on_trap(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES))
        .max_wasm_stack(WASM_STACK_BYTES)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(limits, instances)));
    config
}

fn pooling(limits: &Limits, instances: u32) -> PoolingAllocationConfig {
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(16).max(256))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(4).max(256))
        // A Python component is made of more than 25 core instances, most of them tiny.
        .max_core_instances_per_component(200)
        .max_memories_per_component(1)
        .max_tables_per_component(200)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(limits.memory_bytes.try_into().unwrap_or(usize::MAX));
    pooling
}

/// A hasher whose result is the same in every build, for a file name.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // only the digest is read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_budget_is_never_overdrawn() {
        let budget = MemoryBudget { used: AtomicU64::new(0), max: 100 };
        assert!(budget.take(60) && !budget.take(41) && budget.take(40));
        assert!(!budget.take(u64::MAX));
        budget.give_back(100);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_clock_sleeps_without_calls_and_wakes_for_one() {
        let runtime = Runtime::new(&Limits::default(), 1).unwrap();
        while !runtime.clock.parked.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let running = runtime.clock.run();
        while runtime.clock.parked.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        drop(running);
    }
}
