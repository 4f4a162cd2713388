//! What a partitioner costs per record: in-process against native code, and in the broker against no plugin.

use std::time::Instant;

use anyhow::{Context as _, Result};
use ottla_plugin_host::{ColumnsBuilder, Compiler, Context, Host, HostOptions, Limits, Partitioner};
use ottla_wire::record::Codec;

use super::Plan;
use crate::frames;
use crate::load::{SECONDS_MAX, Script, drive};
use crate::pairs::{Latency, Measurement, Pairs};
use crate::peer::{Peer, ottla_binary};
use crate::report::Row;

/// Records handed over in one call.
const RECORDS: usize = 500;
/// Calls per run.
const CALLS: usize = 2_000;
/// Partitions of the topic.
const PARTITIONS: u32 = 6;

pub(super) fn rows(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    if plan.wants("plugin/partition/by-key") {
        stage(plan, dir.path(), rows)?;
    }
    let codecs = [(Codec::None, "none"), (Codec::Lz4, "lz4"), (Codec::Zstd, "zstd")];
    for (codec, name) in codecs.into_iter().filter(|(_, name)| plan.wants(&format!("plugin/route/by-section/{name}"))) {
        route(plan, codec, name, rows)?;
    }
    Ok(())
}

/// The built plugin, beside the broker's binary.
fn component(name: &str) -> Result<std::path::PathBuf> {
    let path = ottla_binary()?
        .parent()
        .and_then(|p| p.parent())
        .context("no target directory")?
        .join("plugins")
        .join(format!("{name}.wasm"));
    anyhow::ensure!(path.exists(), "{} is missing: build it with `cargo xtask plugins`", path.display());
    Ok(path)
}

/// `partition` of `by-key` through the host, columns included, against the same hash in native code.
fn stage(plan: &Plan, dir: &std::path::Path, rows: &mut Vec<Row>) -> Result<()> {
    let host = Host::new(HostOptions {
        store_dir: dir.join("store"),
        compiler: Compiler { program: ottla_binary()?.canonicalize()?, args: vec!["__compile".into()] },
        limits: Limits::default(),
    });
    let admitted = host.admit(&std::fs::read(component("by-key")?)?)?;
    let plugin = host.partitioner(&admitted.digest, "")?;
    let keys: Vec<String> = (0..RECORDS).map(|n| format!("customer-{n:08}-{:07}", n * 7919)).collect();
    let work = (RECORDS * CALLS) as f64;
    let timed = |call: &mut dyn FnMut() -> Result<()>| -> Result<Measurement> {
        let begin = Instant::now();
        for _ in 0..CALLS {
            call()?;
        }
        let wall_s = begin.elapsed().as_secs_f64();
        Ok(Measurement { work, wall_s, cpu_s: wall_s, latency: Latency::default() })
    };
    let mut answer = Vec::new();
    let mut columns = None;
    let mut subject = || ask(&plugin, &keys, &mut columns, &mut answer);
    let mut native_answer = Vec::new();
    let mut native = || {
        native_answer.clear();
        native_answer.extend(keys.iter().map(|key| ottla_plugin::hash::kafka_partition(key.as_bytes(), PARTITIONS)));
        std::hint::black_box(&native_answer);
        Ok(())
    };
    let pairs = Pairs::measure(plan.pairs, || timed(&mut subject), || timed(&mut native))?;
    let ns = |r: &Measurement| r.wall_s / r.work * 1e9;
    let native_ns = pairs.ceiling_median(ns);
    let added = crate::pairs::Ratios::of(pairs.runs.iter().map(|(s, c)| (ns(s) - ns(c)) / native_ns).collect());
    let note =
        format!("native: {native_ns:.1} ns per record; the plugin adds {:.1} ns (hold: 15)", added.median * native_ns);
    let of = "native murmur2 of 24-byte keys, 500 records a call, time per record";
    rows.push(Row::new("plugin/partition/by-key/time", of, pairs.ratios(ns), note));
    Ok(())
}

fn ask(
    plugin: &Partitioner,
    keys: &[String],
    columns: &mut Option<ottla_plugin_host::Columns>,
    answer: &mut Vec<i32>,
) -> Result<()> {
    let reads = plugin.reads();
    let mut builder = columns.take().map_or_else(|| ColumnsBuilder::new(reads), |c| c.into_builder(reads));
    for key in keys {
        builder.push(Some(key.as_bytes()), None, 0, []);
    }
    let built = builder.build();
    plugin.partition(&Context { topic: frames::TOPIC, partition: 0, partition_count: PARTITIONS }, &built, answer)?;
    *columns = Some(built);
    Ok(())
}

/// Broker CPU per record with `by-section` routing every batch, against the same load without a plugin.
fn route(plan: &Plan, codec: Codec, name: &str, rows: &mut Vec<Row>) -> Result<()> {
    let dirs = (tempfile::tempdir()?, tempfile::tempdir()?);
    let configs = ["ottla.durability=page-cache"];
    let routed = Peer::ottla(dirs.0.path(), &[])?;
    routed.create_topic(PARTITIONS, &configs)?;
    let wasm = component("by-section")?.display().to_string();
    routed.command(&["plugin".into(), "push".into(), wasm, "--name".into(), "by-section".into()])?;
    routed.command(&["topic".into(), "set".into(), frames::TOPIC.into(), "ottla.partitioner=by-section".into()])?;
    let unrouted = Peer::ottla(dirs.1.path(), &[])?;
    unrouted.create_topic(PARTITIONS, &configs)?;

    let batch_bytes = 128 << 10;
    let records = batch_bytes / 900;
    let frame = frames::produce(0, 1, &frames::batch(batch_bytes, records, codec)?);
    let count = (plan.run_bytes as usize / 4 / batch_bytes).max(8);
    let run = |peer: &Peer| -> Result<Measurement> {
        // The answer's base offset says where the records went; its error code is still checked.
        let script = Script {
            requests: vec![frame.clone()],
            count,
            seconds_max: SECONDS_MAX,
            every_s: None,
            window: 5,
            error_at: Some(frames::PRODUCE_ERROR_AT),
        };
        let cpu = peer.cpu_s()?;
        let done = drive(peer.addr, &[script])?;
        Ok(Measurement {
            work: (done.requests * records) as f64,
            wall_s: done.wall_s,
            cpu_s: peer.cpu_s()? - cpu,
            latency: done.latency(),
        })
    };
    let pairs = Pairs::measure(plan.pairs, || run(&routed), || run(&unrouted))?;
    let of = format!("no plugin, {name}, 900-byte records in 128 KiB batches, broker CPU per record");
    let note = format!("no plugin: {:.2} CPU µs per record", pairs.ceiling_median(|r| r.cpu_per_work() * 1e6));
    rows.push(Row::new(
        format!("plugin/route/by-section/{name}/cpu"),
        of,
        pairs.ratios(Measurement::cpu_per_work),
        note,
    ));
    Ok(())
}
