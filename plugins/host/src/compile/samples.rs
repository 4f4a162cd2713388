//! The first calls of a plugin: on sample records, before it is admitted.
//!
//! Some guests can never answer, and show it only when they are called: one that asks for the time, for instance, panics each time.
//! Only that is refused here. A plugin may trap on a sample that its topic never has, so one answer is enough; and running out of
//! time says more about the machine than about the plugin.

use std::sync::Arc;

use wasmtime::Store;

use super::report::ComponentRefusal;
use crate::binding::{asked, context};
use crate::columns::{Chunk, Columns, ColumnsBuilder, Failure};
use crate::contract::Exports;
use crate::engine::Runtime;
use crate::instance::{Guest, Instance, Prepared, Stop, TEXT_BYTES_MAX};
use crate::manifest::{Function, Kind, Manifest};

const PARTITIONS: u32 = 6;
const TOPIC: &str = "sample";
const TIMESTAMP_MS: i64 = 1_700_000_000_000;
/// Cause 1: the verdict of a plugin.
const FAILURE: Failure<'static> =
    Failure { cause: 1, code: None, reason: Some("sample"), attempts: 1, hops: 0, partition: 0 };

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
        let mut columns = ColumnsBuilder::new(&manifest.reads);
        columns.push_failed(key, value, TIMESTAMP_MS, [HEADER], &FAILURE);
        match try_sample(runtime, prepared, manifest, &columns.build())? {
            Tried::Enough => return Ok(()),
            Tried::Trapped(reason) => drop(first.get_or_insert(reason)),
        }
    }
    first.map_or(Ok(()), |reason| Err(ComponentRefusal::SampleCalls { samples: SAMPLES.len(), reason }))
}

fn try_sample(
    runtime: &Arc<Runtime>,
    prepared: &Prepared,
    manifest: &Manifest,
    columns: &Columns,
) -> Result<Tried, ComponentRefusal> {
    // What it is bound with is not here.
    if !manifest.assets.is_empty() {
        return Ok(Tried::Enough);
    }
    let Some(slot) = runtime.instance_slot() else { return Ok(Tried::Enough) };
    let limits = &runtime.limits;
    let Ok(mut instance) = Instance::create(prepared, slot, limits.memory_bytes, Arc::default()) else {
        return Ok(Tried::Enough);
    };
    let init = instance
        .call(&runtime.clock, limits.start_deadline_ms, TEXT_BYTES_MAX, |plugin, store| plugin.init(store, "", &[]));
    match init {
        Ok(Ok(narrowed)) if narrowed.is_empty() => {}
        Err(Stop::Trap { reason }) => return Err(ComponentRefusal::InitCall { reason }),
        // It wants a configuration, or reads less without one: the first topic that uses it tries it.
        Ok(Ok(_) | Err(_)) | Err(_) => return Ok(Tried::Enough),
    }
    let Some(chunk) = columns.chunks(1, usize::MAX).next() else { return Ok(Tried::Enough) };
    let answer = instance.call(&runtime.clock, limits.call_deadline_ms, TEXT_BYTES_MAX, |plugin, store| {
        work(manifest, plugin, store, &chunk)
    });
    match answer {
        Err(Stop::Trap { reason }) => Ok(Tried::Trapped(reason)),
        _ => Ok(Tried::Enough),
    }
}

/// The work functions of the kind; what they answer is not looked at.
fn work(manifest: &Manifest, plugin: &Exports, store: &mut Store<Guest>, chunk: &Chunk<'_>) -> wasmtime::Result<()> {
    let context = context(&manifest.reads, TOPIC, "0");
    let asked = asked(chunk, &context);
    match manifest.kind {
        Kind::Partitioner => drop(plugin.partition(store, asked, PARTITIONS)?),
        Kind::Serializer if manifest.functions.contains(&Function::Encode) => drop(plugin.encode(store, asked)?),
        Kind::Serializer => drop(plugin.decode(store, asked)?),
        Kind::DeadLetterPolicy => drop(plugin.decide(store, asked)?),
    }
    Ok(())
}
