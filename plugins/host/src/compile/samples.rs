//! The first calls of a plugin: on sample records, before it is admitted.
//!
//! Some guests can never answer, and show it only when they are called: one that asks for the time, for instance, panics each time.
//! Only that is refused here. A plugin may trap on a sample that its topic never has, so one answer is enough; and running out of
//! time says more about the machine than about the plugin.

use std::sync::Arc;

use super::report::ComponentRefusal;
use crate::columns::{Columns, ColumnsBuilder};
use crate::engine::Runtime;
use crate::instance::Prepared;
use crate::instance::{Instance, Stop, TEXT_BYTES_MAX};
use crate::manifest::Manifest;

const PARTITIONS: u32 = 6;
const TOPIC: &str = "sample";

/// Key and value.
type Sample = (Option<&'static [u8]>, Option<&'static [u8]>);

/// All have the same header.
const SAMPLES: [Sample; 4] = [
    (Some(b"sample-1"), Some(br#"{"name": "sample", "number": 1}"#)),
    (Some(b"2"), Some(b"Package: sample\nSection: samples\n")),
    (Some(b""), Some(b"")),
    (None, None),
];
const HEADER: (&[u8], Option<&[u8]>) = (b"content-type", Some(b"application/json"));

/// What came of a sample.
enum Tried {
    /// An answer, or a reason not to judge.
    Enough,
    Trapped(String),
}

/// Refuses a plugin that traps on the empty configuration or on every sample.
pub(super) fn try_out(
    runtime: &Arc<Runtime>,
    prepared: &Prepared,
    manifest: &Manifest,
) -> Result<(), ComponentRefusal> {
    let mut first = None;
    for (key, value) in SAMPLES {
        let mut columns = ColumnsBuilder::new(manifest.reads);
        columns.push(key, value, [HEADER]);
        match try_sample(runtime, prepared, &columns.build())? {
            Tried::Enough => return Ok(()),
            Tried::Trapped(reason) => drop(first.get_or_insert(reason)),
        }
    }
    first.map_or(Ok(()), |reason| Err(ComponentRefusal::SampleCalls { samples: SAMPLES.len(), reason }))
}

fn try_sample(runtime: &Arc<Runtime>, prepared: &Prepared, columns: &Columns) -> Result<Tried, ComponentRefusal> {
    let Some(slot) = runtime.instance_slot() else { return Ok(Tried::Enough) };
    let limits = &runtime.limits;
    let Ok(mut instance) = Instance::create(prepared, slot, limits.memory_bytes, Arc::default()) else {
        return Ok(Tried::Enough);
    };
    let init = instance.call(&runtime.clock, limits.start_deadline_ms, TEXT_BYTES_MAX, |plugin, store| {
        plugin.ottla_plugin_partitioner().call_init(store, "")
    });
    match init {
        Ok(Ok(())) => {}
        Err(Stop::Trap { reason }) => return Err(ComponentRefusal::InitCall { reason }),
        // It wants a configuration: the first topic that uses it tries it.
        Ok(Err(_)) | Err(_) => return Ok(Tried::Enough),
    }
    let context: &[_] = if columns.reads().topic { &[("topic", TOPIC)] } else { &[] };
    let chunk = columns.chunks(1, usize::MAX).next();
    let Some(chunk) = chunk else { return Ok(Tried::Enough) };
    let answer = instance.call(&runtime.clock, limits.call_deadline_ms, TEXT_BYTES_MAX, |plugin, store| {
        plugin.ottla_plugin_partitioner().call_partition(store, context, 1, PARTITIONS, chunk.columns())
    });
    match answer {
        Err(Stop::Trap { reason }) => Ok(Tried::Trapped(reason)),
        _ => Ok(Tried::Enough),
    }
}
