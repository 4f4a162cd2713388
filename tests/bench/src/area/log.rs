//! Produce: ingest without waiting for the disk, group commit with it, and what either costs by size and number.

mod cleaning;
mod matrix;

use anyhow::Result;
use ottla_wire::record::Codec;

use super::Plan;
use crate::beside::Beside;
use crate::frames;
use crate::load::{SECONDS_MAX, Script, drive};
use crate::pairs::{Measurement, Pairs};
use crate::peer::Peer;
use crate::raw::Ceiling;
use crate::report::Row;

/// CPU seconds per GiB of the bare ingest loop on the reference machine, by batch size (reference figures, 2 vCPU).
const INGEST_REFERENCE: [(usize, f64); 3] = [(16 << 10, 0.387), (128 << 10, 0.229), (1 << 20, 0.237)];

/// Requests in flight on one connection, as librdkafka and the Java producer have them.
const WINDOW: usize = 5;

/// Producers that wait for the disk at once.
const PRODUCERS: usize = 64;

pub(super) fn rows(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    for (bytes, reference) in INGEST_REFERENCE {
        if plan.wants(&format!("log/ingest/{}KiB", bytes >> 10)) {
            ingest(plan, bytes, reference, rows)?;
        }
    }
    if plan.wants("log/group-commit/64") {
        group_commit(plan, rows)?;
    }
    if plan.wants("log/cleaning") || plan.only.starts_with("log/cleaning") {
        cleaning::rows(plan, rows)?;
    }
    matrix::rows(plan, rows)
}

fn ingest(plan: &Plan, bytes: usize, reference: f64, rows: &mut Vec<Row>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ottla = Peer::ottla(&dir.path().join("ottla"), &["message.max.bytes=2097152"])?;
    ottla.create_topic(1, &["ottla.durability=page-cache"])?;
    let beside = Beside::start(plan, Ceiling::Ingest, dir.path(), &["message.max.bytes=2097152"])?;
    if let Some(other) = beside.broker() {
        other.create_topic(1, &["ottla.durability=page-cache"])?;
    }
    let frame = frames::produce(0, 1, &frames::batch(bytes, (bytes / 1024).max(1), Codec::None)?);
    let count = (plan.run_bytes as usize / frame.len()).max(1);
    let script = || Script {
        requests: vec![frame.clone()],
        count,
        seconds_max: SECONDS_MAX,
        every_s: None,
        window: WINDOW,
        error_at: Some(frames::PRODUCE_ERROR_AT),
    };
    let run = |peer: &Peer| -> Result<Measurement> {
        let cpu = peer.cpu_s()?;
        let done = drive(peer.addr, &[script()])?;
        Ok(Measurement {
            work: (done.requests * frame.len()) as f64,
            wall_s: done.wall_s,
            cpu_s: peer.cpu_s()? - cpu,
            latency: done.latency(),
        })
    };
    let pairs = Pairs::measure(plan.pairs, || run(&ottla), || run(&beside.peer))?;
    let gib = f64::from(1_u32 << 30);
    let ceiling = pairs.ceiling_median(|r| r.cpu_per_work() * gib);
    let figure = format!("{ceiling:.3} CPU s/GiB, {:.2} GiB/s", pairs.ceiling_median(Measurement::rate) / gib);
    let note = beside.note(&figure, || crate::report::validity(ceiling, reference));
    let size = bytes >> 10;
    let of = beside.of("bare recv + CRC + pwrite");
    rows.push(Row::new(
        format!("log/ingest/{size}KiB/throughput"),
        format!("{of}, bytes per second"),
        pairs.ratios(Measurement::rate),
        note,
    ));
    rows.push(Row::new(
        format!("log/ingest/{size}KiB/cpu"),
        format!("{of}, CPU seconds per byte"),
        pairs.ratios(Measurement::cpu_per_work),
        "",
    ));
    Ok(())
}

fn group_commit(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ottla = Peer::ottla(&dir.path().join("ottla"), &[])?;
    ottla.create_topic(1, &[])?;
    let beside = Beside::start(plan, Ceiling::GroupCommit, dir.path(), &[])?;
    if let Some(other) = beside.broker() {
        other.create_topic(1, &[])?;
    }
    let frame = frames::produce(0, -1, &frames::batch(1024, 1, Codec::None)?);
    let run = |peer: &Peer| -> Result<Measurement> {
        let scripts: Vec<_> = (0..PRODUCERS)
            .map(|_| Script {
                requests: vec![frame.clone()],
                count: 300,
                seconds_max: SECONDS_MAX,
                every_s: None,
                window: 1,
                error_at: Some(frames::PRODUCE_ERROR_AT),
            })
            .collect();
        let cpu = peer.cpu_s()?;
        let done = drive(peer.addr, &scripts)?;
        Ok(Measurement {
            work: done.requests as f64,
            wall_s: done.wall_s,
            cpu_s: peer.cpu_s()? - cpu,
            latency: done.latency(),
        })
    };
    let pairs = Pairs::measure(plan.pairs, || run(&ottla), || run(&beside.peer))?;
    let of = beside.of("bare append + group fdatasync, 64 producers");
    let note = beside.note(&format!("{:.0} acks/s", pairs.ceiling_median(Measurement::rate)), String::new);
    rows.push(Row::new(
        "log/group-commit/64/throughput",
        format!("{of}, acks per second"),
        pairs.ratios(Measurement::rate),
        note,
    ));
    let p99 = pairs.ratios(|run| run.latency.p99_us);
    rows.push(Row::new("log/group-commit/64/p99", format!("{of}, 99th percentile of an ack"), p99, ""));
    Ok(())
}
