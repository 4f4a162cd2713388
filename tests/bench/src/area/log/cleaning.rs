//! What producers notice of a compaction: the same moderate load with the cleaner at work on another topic, and without.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ottla_wire::record::Codec;

use super::super::Plan;
use super::PRODUCERS;
use crate::frames;
use crate::load::{SECONDS_MAX, Script, drive};
use crate::pairs::{Measurement, Pairs};
use crate::peer::Peer;
use crate::report::Row;

/// Topics with names as long as that of the topic under test.
const PAGES: &str = "pages";
const KEYED: &str = "keyed";
/// What is compacted: every key twice.
const BATCH_BYTES: usize = 128 << 10;
const BATCH_RECORDS: usize = 128;
/// Time between two requests of one producer that waits for the disk, and of the one that does not.
const FSYNC_EVERY_S: f64 = 0.05;
const PAGES_EVERY_S: f64 = 0.002;
/// The cleaner is done when its counts stand still for so long.
const QUIET: Duration = Duration::from_secs(2);

/// What one run showed of both kinds of producers.
#[derive(Clone, Copy)]
struct Both {
    fsync: Measurement,
    pages: Measurement,
    cleaned_bytes: u64,
}

pub(super) fn rows(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let keys_mib = if plan.quick { 32 } else { 192 };
    let seconds = if plan.quick { 1.0 } else { 4.0 };
    let ottla = Peer::ottla(dir.path(), &["log.cleaner.backoff.ms=50"])?;
    ottla.create_topic(1, &[])?;
    ottla.create_named(PAGES, 1, &["ottla.durability=page-cache"])?;
    let eager = ["cleanup.policy=compact", "segment.bytes=16777216", "min.cleanable.dirty.ratio=0.01"];
    ottla.create_named(KEYED, 1, &[&eager[..], &["ottla.durability=page-cache"]].concat())?;
    let keyed = (0..keys_mib * 8)
        .map(|at| frames::batch_from(at * BATCH_RECORDS, BATCH_BYTES, BATCH_RECORDS, Codec::None))
        .map(|batch| Ok(frames::produce_to(KEYED, 0, 1, &batch?)))
        .collect::<Result<Vec<_>>>()?;
    let load = Load {
        fsync: frames::produce(0, -1, &frames::batch(1024, 1, Codec::None)?),
        pages: frames::produce_to(PAGES, 0, 1, &frames::batch(16 << 10, 16, Codec::None)?),
        seconds,
    };
    let mut runs = Vec::new();
    let mut with = || {
        let script = Script {
            count: keyed.len() * 2,
            requests: keyed.clone(),
            seconds_max: SECONDS_MAX,
            every_s: None,
            window: super::WINDOW,
            error_at: Some(frames::PRODUCE_ERROR_AT),
        };
        drive(ottla.addr, &[script])?;
        let both = load.run(&ottla)?;
        ensure!(both.cleaned_bytes > 0, "the cleaner did nothing meanwhile");
        runs.push(both);
        wait_until_clean(&ottla)?;
        sync_all(dir.path())?;
        Ok(both.fsync)
    };
    let mut quiet = Vec::new();
    let mut without = || {
        let both = load.run(&ottla)?;
        quiet.push(both);
        Ok(both.fsync)
    };
    let pairs = Pairs::measure(plan.pairs, &mut with, &mut without)?;
    // The first of each is the discarded warm-up.
    let pages =
        Pairs { runs: runs.iter().zip(&quiet).skip(1).map(|(with, without)| (with.pages, without.pages)).collect() };
    let cleaned =
        runs.iter().skip(1).map(|both| both.cleaned_bytes as f64 / seconds).sum::<f64>() / pairs.runs.len() as f64;
    for (kind, pairs, load) in
        [("fsync", &pairs, "64 producers of 1 KiB, acks=all"), ("page-cache", &pages, "one producer of 16 KiB, acks=1")]
    {
        let of = format!("the same broker while nothing is compacted, {load}, fixed rate");
        let (with, without) = pairs.latencies();
        let note = format!("cleaner: {:.0} MiB/s; with: {with}; without: {without}", cleaned / f64::from(1 << 20));
        let p99 = pairs.ratios(|run| run.latency.p99_us);
        rows.push(Row::new(format!("log/cleaning/{kind}/p99"), format!("{of}, 99th percentile of an ack"), p99, note));
        let note = format!("{:.0} acks/s without", pairs.ceiling_median(Measurement::rate));
        let rate = pairs.ratios(Measurement::rate);
        rows.push(Row::new(format!("log/cleaning/{kind}/throughput"), format!("{of}, acks per second"), rate, note));
    }
    Ok(())
}

/// The requests of both kinds of producers.
struct Load {
    fsync: Vec<u8>,
    pages: Vec<u8>,
    seconds: f64,
}

impl Load {
    fn run(&self, ottla: &Peer) -> Result<Both> {
        let script = |request: &Vec<u8>, every_s: f64| Script {
            requests: vec![request.clone()],
            count: (self.seconds / every_s) as usize,
            seconds_max: SECONDS_MAX,
            every_s: Some(every_s),
            window: 1,
            error_at: Some(frames::PRODUCE_ERROR_AT),
        };
        let before = cleaner_bytes(ottla)?;
        let (fsync, pages) = std::thread::scope(|scope| {
            let pages = scope.spawn(|| drive(ottla.addr, &[script(&self.pages, PAGES_EVERY_S)]));
            let scripts: Vec<_> = (0..PRODUCERS).map(|_| script(&self.fsync, FSYNC_EVERY_S)).collect();
            (drive(ottla.addr, &scripts), pages.join())
        });
        let pages = pages.unwrap_or_else(|_| anyhow::bail!("a load generator panicked"))?;
        let of = |done: crate::load::Done| Measurement {
            work: done.requests as f64,
            wall_s: done.wall_s,
            cpu_s: f64::NAN,
            latency: done.latency(),
        };
        let cleaned_bytes = cleaner_bytes(ottla)?.saturating_sub(before);
        Ok(Both { fsync: of(fsync?), pages: of(pages), cleaned_bytes })
    }
}

/// Bytes that the cleaner has read and written so far.
fn cleaner_bytes(ottla: &Peer) -> Result<u64> {
    ottla.thread_bytes("ottla-cleaner")
}

fn wait_until_clean(ottla: &Peer) -> Result<()> {
    let mut bytes = cleaner_bytes(ottla)?;
    let (begun, mut since) = (Instant::now(), Instant::now());
    while since.elapsed() < QUIET {
        ensure!(begun.elapsed().as_secs_f64() < SECONDS_MAX, "the cleaner comes to no end");
        std::thread::sleep(Duration::from_millis(50));
        let now = cleaner_bytes(ottla)?;
        if now > bytes + (1 << 20) {
            (bytes, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Nothing of one run is left for the disk to write during the next.
fn sync_all(dir: &Path) -> Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(dir)?)?)
}
