//! Produce by durability, size of the batches, partitions and connections: throughput, CPU, latency and system calls, each
//! beside the bare loop of that durability under the same load.

use anyhow::Result;
use ottla_wire::record::Codec;

use super::super::Plan;
use super::WINDOW;
use crate::frames;
use crate::load::{Script, drive};
use crate::pairs::{Measurement, Pairs};
use crate::peer::Peer;
use crate::raw::Ceiling;
use crate::report::Row;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    PageCache,
    Fsync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    durability: Durability,
    batch_bytes: usize,
    partitions: usize,
    connections: usize,
}

impl Cell {
    fn name(self) -> String {
        let Self { durability, batch_bytes, partitions, connections } = self;
        let durable = durability.setting();
        format!("log/produce/{durable}/{}KiB/{partitions}p/{connections}c", batch_bytes >> 10)
    }
}

impl Durability {
    /// The value of `ottla.durability`.
    fn setting(self) -> &'static str {
        match self {
            Self::PageCache => "page-cache",
            Self::Fsync => "fsync",
        }
    }
}

const BATCH_BYTES: [usize; 4] = [1 << 10, 16 << 10, 128 << 10, 1 << 20];
const PARTITIONS: [usize; 3] = [1, 10, 1000];
const CONNECTIONS: [usize; 2] = [1, 50];
/// What the cells have in common that a short matrix varies one thing of.
const MIDDLE: (usize, usize, usize) = (16 << 10, 1, 1);

/// Every combination, or those that differ from the middle in one thing, and the corners that matter.
fn cells(full: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    for durability in [Durability::PageCache, Durability::Fsync] {
        for batch_bytes in BATCH_BYTES {
            for partitions in PARTITIONS {
                for connections in CONNECTIONS {
                    let differs = [batch_bytes != MIDDLE.0, partitions != MIDDLE.1, connections != MIDDLE.2];
                    let corner = batch_bytes == MIDDLE.0 && partitions == 1000;
                    if full || corner || differs.into_iter().filter(|differs| *differs).count() <= 1 {
                        cells.push(Cell { durability, batch_bytes, partitions, connections });
                    }
                }
            }
        }
    }
    cells
}

pub(super) fn rows(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    for cell in cells(plan.full) {
        if plan.wants(&cell.name()) {
            measure(plan, dir.path(), cell, rows)?;
        }
    }
    Ok(())
}

fn measure(plan: &Plan, dir: &std::path::Path, cell: Cell, rows: &mut Vec<Row>) -> Result<()> {
    let Cell { durability, batch_bytes, partitions, connections } = cell;
    let (acks, ceiling, of) = match durability {
        Durability::PageCache => (1, Ceiling::Ingest, "bare recv + CRC + pwrite"),
        Durability::Fsync => (-1, Ceiling::GroupCommit, "bare append + group fdatasync of one file"),
    };
    let dir = tempfile::tempdir_in(dir)?;
    let ottla = Peer::ottla(&dir.path().join("ottla"), &["message.max.bytes=2097152"])?;
    ottla.create_topic(partitions as u32, &[&format!("ottla.durability={}", durability.setting())])?;
    let raw = Peer::raw(ceiling, dir.path())?;
    let batch = frames::batch(batch_bytes, (batch_bytes / 1024).max(1), Codec::None)?;
    // Each connection begins somewhere else, and goes round all partitions.
    let script = |connection: usize, seconds_max: f64| {
        let first = connection * partitions / connections;
        let requests: Vec<_> = (0..partitions.min(super::super::partitions_per_connection(batch.len())))
            .map(|at| frames::produce(((first + at) % partitions) as i32, acks, &batch))
            .collect();
        let count = (plan.run_bytes as usize / batch.len() / connections).clamp(20, 200_000);
        Script { requests, count, seconds_max, every_s: None, window: WINDOW, error_at: Some(frames::PRODUCE_ERROR_AT) }
    };
    let scripts: Vec<_> = (0..connections).map(|at| script(at, plan.cell_seconds)).collect();
    let run = |peer: &Peer| -> Result<Measurement> {
        let cpu = peer.cpu_s()?;
        let done = drive(peer.addr, &scripts)?;
        Ok(Measurement {
            work: (done.requests * batch.len()) as f64,
            wall_s: done.wall_s,
            cpu_s: peer.cpu_s()? - cpu,
            latency: done.latency(),
        })
    };
    let pairs = Pairs::measure(plan.pairs.min(plan.cell_pairs), || run(&ottla), || run(&raw))?;
    let calls = |peer: &Peer| -> Result<String> {
        let counted = peer.count_system_calls(|| Ok(drive(peer.addr, &scripts)?.requests))?;
        Ok(counted.map_or("not counted".to_owned(), |each| format!("{each:.1}")))
    };
    let gib = f64::from(1_u32 << 30);
    let (ours, bare) = pairs.latencies();
    let name = cell.name();
    let note = format!(
        "Ottla: {:.3} GiB/s, {:.3} CPU s/GiB, {ours}, system calls per request {}; bare: {:.3} GiB/s, {:.3} CPU s/GiB, \
         {bare}, system calls {}",
        pairs.subject_median(Measurement::rate) / gib,
        pairs.subject_median(Measurement::cpu_per_work) * gib,
        calls(&ottla)?,
        pairs.ceiling_median(Measurement::rate) / gib,
        pairs.ceiling_median(Measurement::cpu_per_work) * gib,
        calls(&raw)?,
    );
    rows.push(Row::new(
        format!("{name}/throughput"),
        format!("{of}, bytes per second"),
        pairs.ratios(Measurement::rate),
        note,
    ));
    rows.push(Row::new(
        format!("{name}/cpu"),
        format!("{of}, CPU per byte"),
        pairs.ratios(Measurement::cpu_per_work),
        "",
    ));
    rows.push(Row::new(
        format!("{name}/p99"),
        format!("{of}, 99th percentile of an answer"),
        pairs.ratios(|run| run.latency.p99_us),
        "",
    ));
    Ok(())
}
