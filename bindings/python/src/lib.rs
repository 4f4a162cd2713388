//! `ottla._core`: the Python client's compiled part, on the shared core `ottla-client`.
//!
//! What it owns: the way from Python objects into the core and back. What it promises: the GIL is released once per wait
//! and never per record, every wait notices Ctrl-C, a forked child gets an error instead of a hang, nothing is made per
//! record without being asked. What it never does: touch a Python object on a thread of the runtime.
//!
//! The modules, in the order in which a record meets them:
//!
//! 1. `settings`, `moment`, `start`, `payload`: arguments as Python gives them.
//! 2. `producer`: `send`; `delivery`, `placement`: what became of it; `callbacks`: the functions to call.
//! 3. `consumer`: `poll` and iteration; `ready`, `batch`, `record`: what they hand out.
//! 4. `admin`: topics and plugins.
//! 5. `failure`: errors on their way to `ottla/errors.py`.
//! 6. `runtime`, `events`, `logs`, `fork`, `exit`: threads, waiting, log lines, processes that split and that end.

mod admin;
mod batch;
mod callbacks;
mod consumer;
mod delivery;
mod events;
mod exit;
mod failure;
mod fork;
mod logs;
mod moment;
mod payload;
mod placement;
mod producer;
mod ready;
mod record;
mod runtime;
mod settings;
mod start;

#[pyo3::pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::admin::Admin;
    #[pymodule_export]
    use crate::batch::Batch;
    #[pymodule_export]
    use crate::consumer::Consumer;
    #[pymodule_export]
    use crate::delivery::{Deliveries, Delivery};
    #[pymodule_export]
    use crate::events::end;
    #[pymodule_export]
    use crate::exit::begin;
    #[pymodule_export]
    use crate::fork::forked;
    #[pymodule_export]
    use crate::logs::set_level;
    #[pymodule_export]
    use crate::placement::Placement;
    #[pymodule_export]
    use crate::producer::Producer;
    #[pymodule_export]
    use crate::record::Record;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::logs::install();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
