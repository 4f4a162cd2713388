//! One live guest: its store, its memory and its deadline.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use crate::contract::{ExportIndices, Exports};
use crate::cpu_time::thread_cpu_time;
use crate::engine::{Clock, InstanceSlot, TABLE_ELEMENTS_MAX};
use crate::manifest::{Kind, shorten};
use crate::trap;

/// How far wall-clock time may run past a deadline that counts processor time.
const WALL_FACTOR_MAX: u64 = 20;
/// Data that a guest may hand over besides its answer: error texts and the pairs of a manifest.
pub(crate) const TEXT_BYTES_MAX: usize = 128 << 10;

/// A component ready to be instantiated, its exports looked up once.
pub(crate) struct Prepared {
    instance: InstancePre<Guest>,
    exports: ExportIndices,
}

impl Prepared {
    /// Links the component to nothing: no import is granted.
    pub(crate) fn new(kind: Kind, component: &Component) -> wasmtime::Result<Self> {
        let instance = Linker::new(component.engine()).instantiate_pre(component)?;
        let exports = ExportIndices::new(kind, &instance)?;
        Ok(Self { instance, exports })
    }
}

/// A guest and everything it holds. Dropped whole after any failure: nothing in it can be trusted then.
pub(crate) struct Instance {
    store: Store<Guest>,
    plugin: Exports,
}

/// What the host keeps about a guest inside its store.
pub(crate) struct Guest {
    slot: InstanceSlot,
    memory_max: u64,
    memory_held: u64,
    /// What all instances of its binding hold.
    memory_shown: Arc<AtomicU64>,
    deadline: Deadline,
    stopped: Option<Stop>,
}

/// Why the host stopped a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its time was up.
    Deadline { allowed: Duration },
    /// It wanted more memory than one instance gets.
    Memory { wanted_bytes: u64, allowed_bytes: u64 },
    /// All plugins together wanted more memory than there is for them.
    MemoryTotal { allowed_bytes: u64 },
    /// Its functions have other types than the contract.
    WrongTypes { reason: String },
    /// It did something that WebAssembly or the contract does not allow.
    Trap { reason: String },
}

/// The time of one call, in ticks of the engine's clock (1 ms).
///
/// The clock counts wall time. A call that did not get a processor is not to blame for that, so half-way through, the
/// thread's processor time is noted, and the second half ends only when it was really computed.
#[derive(Debug, Clone, Copy, Default)]
struct Deadline {
    allowed_ms: u64,
    given_ms: u64,
    cpu_at_half: Option<Duration>,
}

impl Deadline {
    fn new(allowed_ms: u64) -> Self {
        Self { allowed_ms, given_ms: allowed_ms.div_ceil(2), cpu_at_half: None }
    }

    /// More ticks, or none if the time is up.
    fn extend(&mut self) -> Option<u64> {
        let half = self.allowed_ms.div_ceil(2);
        let now = thread_cpu_time();
        let computed = match self.cpu_at_half {
            None => {
                self.cpu_at_half = Some(now);
                Duration::ZERO
            }
            Some(at_half) => now.saturating_sub(at_half),
        };
        let left = Duration::from_millis(half).saturating_sub(computed);
        if left.is_zero() || self.given_ms >= self.allowed_ms.saturating_mul(WALL_FACTOR_MAX) {
            return None;
        }
        let more = (left.as_millis() as u64).max(1);
        self.given_ms = self.given_ms.saturating_add(more);
        Some(more)
    }
}

impl Instance {
    /// Creates a guest: instantiates and runs its start code, nothing more. What it holds is added to `memory_shown` while
    /// it lives.
    pub(crate) fn create(
        prepared: &Prepared,
        slot: InstanceSlot,
        memory_max: u64,
        memory_shown: Arc<AtomicU64>,
    ) -> Result<Self, Stop> {
        let runtime = std::sync::Arc::clone(slot.runtime());
        let _running = runtime.clock.run();
        let deadline = Deadline::new(runtime.limits.start_deadline_ms);
        let guest = Guest { slot, memory_max, memory_held: 0, memory_shown, deadline, stopped: None };
        let mut store = Store::new(&runtime.engine, guest);
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(TEXT_BYTES_MAX);
        store.set_epoch_deadline(deadline.given_ms);
        store.epoch_deadline_callback(|mut context| {
            let guest = context.data_mut();
            if let Some(ticks) = guest.deadline.extend() {
                return Ok(UpdateDeadline::Continue(ticks));
            }
            guest.stopped = Some(Stop::Deadline { allowed: Duration::from_millis(guest.deadline.allowed_ms) });
            Ok(UpdateDeadline::Interrupt)
        });
        let instance = match guarded(|| prepared.instance.instantiate(&mut store)) {
            Ok(instance) => instance,
            Err(error) => return Err(why(&mut store, &error)),
        };
        let plugin = guarded(|| prepared.exports.load(&mut store, &instance));
        let plugin = plugin.map_err(|error| Stop::WrongTypes { reason: shorten(&format!("{error:#}")) })?;
        Ok(Self { store, plugin })
    }

    /// Runs one exported function under a deadline, with `data_bytes` at most coming back.
    pub(crate) fn call<R>(
        &mut self,
        clock: &Clock,
        deadline_ms: u64,
        data_bytes: usize,
        function: impl FnOnce(&Exports, &mut Store<Guest>) -> wasmtime::Result<R>,
    ) -> Result<R, Stop> {
        let Self { store, plugin } = self;
        let _running = clock.run();
        store.data_mut().deadline = Deadline::new(deadline_ms);
        store.set_epoch_deadline(deadline_ms.div_ceil(2));
        store.set_hostcall_fuel(data_bytes);
        guarded(|| function(plugin, store)).map_err(|error| why(store, &error))
    }
}

/// A bug in the engine is the plugin's failure, not the broker's.
fn guarded<R>(function: impl FnOnce() -> wasmtime::Result<R>) -> wasmtime::Result<R> {
    catch_unwind(AssertUnwindSafe(function)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(wasmtime::Error::msg(format!("the WebAssembly engine failed: {}", text.unwrap_or("unknown panic"))))
    })
}

fn why(store: &mut Store<Guest>, error: &wasmtime::Error) -> Stop {
    let stopped = store.data_mut().stopped.take();
    stopped.unwrap_or_else(|| Stop::Trap { reason: trap::reason_in(error, store) })
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.slot.runtime().memory.give_back(self.memory_held);
        self.memory_shown.fetch_sub(self.memory_held, Ordering::Relaxed);
    }
}

/// Errors instead of a refusal: a guest that goes on after a refused growth usually ends in a less telling trap.
impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        let wanted_bytes = desired as u64;
        if wanted_bytes > self.memory_max {
            self.stopped = Some(Stop::Memory { wanted_bytes, allowed_bytes: self.memory_max });
            return Err(wasmtime::Error::msg("memory limit of the instance"));
        }
        let memory = &self.slot.runtime().memory;
        if !memory.take(wanted_bytes.saturating_sub(self.memory_held)) {
            self.stopped = Some(Stop::MemoryTotal { allowed_bytes: memory.max() });
            return Err(wasmtime::Error::msg("memory limit of all plugins"));
        }
        self.memory_shown.fetch_add(wanted_bytes.saturating_sub(self.memory_held), Ordering::Relaxed);
        self.memory_held = self.memory_held.max(wanted_bytes);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            return Err(wasmtime::Error::msg(format!("a table of {desired} elements (at most {TABLE_ELEMENTS_MAX})")));
        }
        Ok(true)
    }
}
