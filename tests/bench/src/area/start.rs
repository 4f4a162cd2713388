//! An idle broker, and how long one takes to listen: with nothing, with ten thousand partitions, with a GiB of log that was
//! closed cleanly or killed.
//!
//! Every start after a kill finds the same files: all but the segments are put back to what the kill left.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ottla_wire::record::Codec;

use super::{Plan, forget, partitions_per_connection};
use crate::frames;
use crate::load::{SECONDS_MAX, Script, drive};
use crate::pairs::{Latency, Measurement, Pairs, Ratios};
use crate::peer::Peer;
use crate::raw::read_and_check;
use crate::report::Row;

/// Memory that an idle broker may hold.
const IDLE_MIB: f64 = 30.0;
/// Time that a start may take where there is nothing to recover.
const EMPTY_S: f64 = 0.2;
/// Time that a start may take with ten thousand partitions, or a GiB to recover.
const FULL_S: f64 = 1.0;
/// Files above this size are segments, which a start leaves as they are.
const SMALL_BYTES: u64 = 1 << 20;

pub(super) fn rows(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    for (name, measure) in [
        ("start/empty", empty as fn(&Plan, &mut Vec<Row>) -> Result<()>),
        ("start/partitions", partitions),
        ("start/recover", recover),
    ] {
        // What is asked for may be one of them, or a row within.
        if plan.wants(name) || plan.only.starts_with(name) {
            measure(plan, rows)?;
        }
    }
    Ok(())
}

/// Ratios of figures to what they are to hold.
fn held(rows: &mut Vec<Row>, name: &str, of: &str, hold: f64, figures: &[f64], unit: &str) {
    let absolute = Ratios::of(figures.to_vec());
    let ratios = Ratios::of(figures.iter().map(|figure| figure / hold).collect());
    let note = format!("{:.3} {unit}; hold {hold} {unit}", absolute.median);
    rows.push(Row::new(name, of, ratios, note));
}

/// One start: the time, and the CPU that the broker used until it listened.
fn start(dir: &Path) -> Result<(Peer, Measurement)> {
    let (peer, wall_s) = Peer::ottla_timed(dir)?;
    let cpu_s = peer.cpu_s()?;
    Ok((peer, Measurement { work: 1.0, wall_s, cpu_s, latency: Latency::default() }))
}

fn empty(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut seconds, mut anonymous, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..plan.pairs {
        let (peer, run) = start(&dir.path().join(at.to_string()))?;
        seconds.push(run.wall_s);
        anonymous.push(peer.anonymous_kib()? as f64 / 1024.0);
        resident.push(peer.resident_kib()? as f64 / 1024.0);
        peer.stop()?;
    }
    held(rows, "start/empty/seconds", "the time to hold, from exec to listening", EMPTY_S, &seconds, "s");
    held(rows, "start/empty/anonymous", "the memory to hold, RssAnon", IDLE_MIB, &anonymous, "MiB");
    let of = "the memory to hold, VmRSS: the program's own pages too";
    held(rows, "start/empty/resident", of, IDLE_MIB, &resident, "MiB");
    Ok(())
}

fn partitions(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let number = if plan.quick { 1000 } else { 10_000 };
    let dir = tempfile::tempdir()?;
    let batch = frames::batch(1024, 1, Codec::None)?;
    let touch = |peer: &Peer| {
        let requests = (0..number).map(|at| frames::produce(at, -1, &batch)).collect();
        drive(peer.addr, &[script(requests, number as usize)])
    };
    let (peer, _) = start(dir.path())?;
    peer.create_topic(number.cast_unsigned(), &[])?;
    touch(&peer)?;
    peer.stop()?;
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..plan.pairs {
        let (peer, run) = start(dir.path())?;
        clean.push(run.wall_s);
        touch(&peer)?;
        peer.kill_nine()?;
        let (peer, run) = start(dir.path())?;
        killed.push(run.wall_s);
        peer.stop()?;
    }
    let of = "the time to hold, each partition written to";
    held(rows, &format!("start/partitions/{number}/clean"), of, FULL_S, &clean, "s");
    held(rows, &format!("start/partitions/{number}/killed"), of, FULL_S, &killed, "s");
    Ok(())
}

/// A GiB in one segment, the worst there is to recover, and in eight partitions.
fn recover(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    for (partitions, durability) in [(1, "fsync"), (8, "fsync"), (1, "page-cache"), (8, "page-cache")] {
        let name = format!("start/recover/1GiB/{durability}/{partitions}");
        if plan.wants(&name) {
            one_gib(plan, &name, partitions, durability, rows)?;
        }
    }
    Ok(())
}

fn one_gib(plan: &Plan, name: &str, partitions: usize, durability: &str, rows: &mut Vec<Row>) -> Result<()> {
    let bytes = if plan.quick { 64 << 20 } else { (1 << 30) - (1 << 20) };
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("ottla");
    let (peer, _) = start(&data)?;
    peer.create_topic(partitions as u32, &[&format!("ottla.durability={durability}"), "retention.ms=-1"])?;
    let batch = frames::batch(128 << 10, 128, Codec::None)?;
    let acks = if durability == "fsync" { -1 } else { 1 };
    let requests = (0..partitions.min(partitions_per_connection(batch.len())))
        .map(|at| frames::produce(at as i32, acks, &batch))
        .collect();
    drive(peer.addr, &[script(requests, bytes / batch.len())])?;
    peer.kill_nine()?;

    let segments = files(&data)?.into_iter().filter(|path| is_segment(path)).collect::<Vec<_>>();
    let left = Small::of(&data)?;
    for cold in [false, true] {
        let subject = || {
            left.put_back(&data)?;
            if cold {
                forget(&data)?;
            }
            let (peer, run) = start(&data)?;
            peer.kill_nine()?;
            Ok(run)
        };
        let ceiling = || {
            if cold {
                forget(&data)?;
            }
            read_and_check(&segments)
        };
        let pairs = Pairs::measure(plan.pairs.min(3), subject, ceiling)?;
        let heat = if cold { "cold" } else { "hot" };
        let seconds = pairs.runs.iter().map(|(run, _)| run.wall_s).collect::<Vec<_>>();
        held(rows, &format!("{name}/killed/{heat}"), "the time to hold, after kill -9", FULL_S, &seconds, "s");
        let note = format!("bare loop: {:.3} s", pairs.ceiling_median(|run| run.wall_s));
        let of = format!("bare read + CRC of all segments, {heat}, wall time");
        let ratios = pairs.ratios(|run| run.wall_s);
        rows.push(Row::new(format!("{name}/killed/{heat}/bare"), of, ratios, note));
    }
    // What follows starts from a clean stop, which recovers first.
    left.put_back(&data)?;
    start(&data)?.0.stop()?;
    let mut clean = Vec::new();
    for _ in 0..plan.pairs {
        let (peer, run) = start(&data)?;
        clean.push(run.wall_s);
        peer.stop()?;
    }
    held(rows, &format!("{name}/clean"), "the time to hold, after a clean stop", FULL_S, &clean, "s");
    Ok(())
}

fn script(requests: Vec<Vec<u8>>, count: usize) -> Script {
    let error_at = Some(frames::PRODUCE_ERROR_AT);
    Script { requests, count, seconds_max: SECONDS_MAX, every_s: None, window: 64, error_at }
}

/// Every file below a directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "log") && fs::metadata(path).is_ok_and(|it| it.len() > SMALL_BYTES)
}

/// Everything that is not a segment of size: checkpoints, indexes, state, metadata.
struct Small(Vec<(PathBuf, Vec<u8>)>);

impl Small {
    fn of(dir: &Path) -> Result<Self> {
        let small = files(dir)?.into_iter().filter(|path| !is_segment(path));
        small.map(|path| Ok((path.clone(), fs::read(path)?))).collect::<Result<_>>().map(Self)
    }

    fn put_back(&self, dir: &Path) -> Result<()> {
        for path in files(dir)?.into_iter().filter(|path| !is_segment(path)) {
            if !self.0.iter().any(|(known, _)| *known == path) {
                fs::remove_file(path)?;
            }
        }
        for (path, bytes) in &self.0 {
            fs::write(path, bytes).with_context(|| format!("putting back {}", path.display()))?;
        }
        Ok(())
    }
}
