//! Fetch and small requests.

use std::path::Path;

use anyhow::Result;
use ottla_wire::record::Codec;

use super::{Plan, forget};
use crate::beside::Beside;
use crate::frames;
use crate::load::{SECONDS_MAX, Script, drive};
use crate::pairs::{Measurement, Pairs};
use crate::peer::Peer;
use crate::raw::{Ceiling, EGRESS_CHUNK_BYTES, EGRESS_FILE_CHUNKS, egress_apart};
use crate::report::Row;

/// CPU seconds per GiB of bare sendfile, 1 MiB at a time, on the reference machine, by connections.
const EGRESS_REFERENCE: [(usize, f64); 2] = [(1, 0.077), (50, 0.073)];

/// Records of one batch of the topic that is read.
const BATCH_RECORDS: usize = 128;
/// Batches that one fetch brings.
const BATCHES_PER_FETCH: usize = 8;

pub(super) fn rows(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ottla = Peer::ottla(&dir.path().join("ottla"), &[])?;
    for (connections, reference) in EGRESS_REFERENCE {
        egress(plan, &ottla, dir.path(), connections, Some(reference), rows)?;
    }
    // From the disk; 50 connections would read it once and then from memory.
    egress(plan, &ottla, dir.path(), 1, None, rows)?;
    for connections in [1, 50].into_iter().filter(|n| plan.wants(&format!("net/echo/{n}"))) {
        echo(plan, &ottla, dir.path(), connections, rows)?;
    }
    let mib = ottla.anonymous_kib()? as f64 / 1024.0;
    eprintln!("  (the broker holds {mib:.1} MiB of anonymous memory after these runs)");
    Ok(())
}

/// Fills the topic that is read, unless an earlier row has.
fn fill(broker: &Peer) -> Result<()> {
    let batch = frames::batch(EGRESS_CHUNK_BYTES as usize / BATCHES_PER_FETCH, BATCH_RECORDS, Codec::None)?;
    if broker.create_topic(1, &["ottla.durability=page-cache"]).is_err() {
        return Ok(());
    }
    let script = Script {
        requests: vec![frames::produce(0, 1, &batch)],
        // Batches come out a little smaller than asked for.
        count: (EGRESS_FILE_CHUNKS as usize + 60) * BATCHES_PER_FETCH,
        seconds_max: SECONDS_MAX,
        every_s: None,
        window: 5,
        error_at: Some(frames::PRODUCE_ERROR_AT),
    };
    drive(broker.addr, &[script])?;
    Ok(())
}

fn egress(
    plan: &Plan,
    ottla: &Peer,
    dir: &Path,
    connections: usize,
    hot_reference: Option<f64>,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let name = match hot_reference {
        Some(_) => format!("net/egress/1MiB/{connections}"),
        None => format!("net/egress/1MiB/{connections}/cold"),
    };
    if !plan.wants(&name) {
        return Ok(());
    }
    fill(ottla)?;
    let beside = Beside::start(plan, Ceiling::Egress, dir, &[])?;
    if let Some(other) = beside.broker() {
        fill(other)?;
    }
    let requests: Vec<_> = (0..EGRESS_FILE_CHUNKS as usize)
        .map(|i| frames::fetch((i * BATCHES_PER_FETCH * BATCH_RECORDS) as i64, EGRESS_CHUNK_BYTES as i32))
        .collect();
    // Fetches cost little per byte: move four times as much, so that a run is long enough to time.
    let count = match hot_reference {
        Some(_) => (4 * plan.run_bytes as usize / EGRESS_CHUNK_BYTES as usize / connections).max(4),
        None => requests.len(),
    };
    let run = |peer: &Peer| -> Result<Measurement> {
        if hot_reference.is_none() {
            forget(dir)?;
        }
        let scripts: Vec<_> = (0..connections)
            .map(|connection| {
                let mut requests = requests.clone();
                requests.rotate_left(egress_apart(connection));
                let error_at = Some(frames::FETCH_ERROR_AT);
                Script { requests, count, seconds_max: SECONDS_MAX, every_s: None, window: 1, error_at }
            })
            .collect();
        let cpu = peer.cpu_s()?;
        let done = drive(peer.addr, &scripts)?;
        Ok(Measurement {
            work: done.received_bytes as f64,
            wall_s: done.wall_s,
            cpu_s: peer.cpu_s()? - cpu,
            latency: done.latency(),
        })
    };
    let pairs = Pairs::measure(plan.pairs, || run(ottla), || run(&beside.peer))?;
    let gib = f64::from(1_u32 << 30);
    let ceiling = pairs.ceiling_median(|r| r.cpu_per_work() * gib);
    let figure = format!("{ceiling:.3} CPU s/GiB, {:.2} GiB/s", pairs.ceiling_median(Measurement::rate) / gib);
    let note = beside.note(&figure, || {
        hot_reference.map_or_else(String::new, |reference| crate::report::validity(ceiling, reference))
    });
    let heat = if hot_reference.is_some() { "hot" } else { "cold" };
    let of = beside.of(&format!("bare sendfile of 1 MiB, {heat}, {connections} connections"));
    rows.push(Row::new(
        format!("{name}/throughput"),
        format!("{of}, bytes per second"),
        pairs.ratios(Measurement::rate),
        note,
    ));
    rows.push(Row::new(
        format!("{name}/cpu"),
        format!("{of}, sender CPU per byte"),
        pairs.ratios(Measurement::cpu_per_work),
        "",
    ));
    Ok(())
}

fn echo(plan: &Plan, ottla: &Peer, dir: &Path, connections: usize, rows: &mut Vec<Row>) -> Result<()> {
    let beside = Beside::start(plan, Ceiling::Echo, dir, &[])?;
    let request = frames::api_versions();
    let count = 40_000 / connections.min(4);
    let run = |peer: &Peer| -> Result<Measurement> {
        let scripts: Vec<_> = (0..connections)
            .map(|_| Script {
                requests: vec![request.clone()],
                count: if connections == 1 { count } else { count / 10 },
                seconds_max: SECONDS_MAX,
                every_s: None,
                window: 1,
                error_at: Some(frames::API_VERSIONS_ERROR_AT),
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
    let pairs = Pairs::measure(plan.pairs, || run(ottla), || run(&beside.peer))?;
    let of = beside.of(&format!("an echo of 100 bytes on the same runtime, {connections} connections"));
    let figure = format!("{:.1} CPU µs per request", pairs.ceiling_median(|r| r.cpu_per_work() * 1e6));
    let note = beside.note(&figure, String::new);
    rows.push(Row::new(
        format!("net/echo/{connections}/throughput"),
        format!("{of}, requests per second"),
        pairs.ratios(Measurement::rate),
        note,
    ));
    rows.push(Row::new(
        format!("net/echo/{connections}/cpu"),
        format!("{of}, CPU per request"),
        pairs.ratios(Measurement::cpu_per_work),
        "",
    ));
    Ok(())
}
