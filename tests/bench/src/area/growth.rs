//! How the cost of the same request grows with what it does not concern: partitions, segments, connections, consumers.
//!
//! Every figure is the ratio to the smallest number of the same kind, taken in turns: 1.00 is flat.

use std::net::TcpStream;
use std::time::Instant;

use anyhow::Result;
use ottla_wire::record::Codec;

use super::Plan;
use crate::frames;
use crate::load::{SECONDS_MAX, Script, connect, drive};
use crate::pairs::Ratios;
use crate::peer::Peer;
use crate::report::Row;

/// Ratio up to which a figure counts as flat.
const FLAT_MAX: f64 = 1.25;

/// Rounds over all numbers of a kind.
const ROUNDS: usize = 3;

pub(super) fn rows(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    more_file_handles();
    for (kind, measure) in [
        ("partitions", partitions as fn(&Plan, &mut Vec<Row>) -> Result<()>),
        ("segments", segments),
        ("connections", connections),
        ("consumers", consumers),
    ] {
        if plan.wants(&format!("growth/{kind}")) {
            measure(plan, rows)?;
        }
    }
    Ok(())
}

/// The load generator of many connections needs a descriptor for each; so does the broker, which inherits the limit.
fn more_file_handles() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Without it the largest number fails and says so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// One broker per number, and what was measured of it.
struct Grown {
    number: usize,
    peer: Peer,
    /// Kept open while it is measured.
    _idle: Vec<TcpStream>,
    cost: Vec<f64>,
}

/// Why a figure is not flat, as the table in docs/bench.md says at more length.
fn reason(kind: &str, figure: &str) -> &'static str {
    match (kind, figure) {
        ("partitions", "cpu") => "grows: another file, index and lock per request, none of them in the caches any more",
        ("partitions", "memory") => "grows: state per partition, see the absolute figure",
        ("partitions", "start") => "grows: directory, metadata and checkpoint of each partition are read",
        ("segments", "cpu") => "grows: more segments than were just used, opened and mapped anew with their index",
        ("segments", "start") => "grows: one name per segment in the directory",
        ("connections", "cpu") => "grows: the sockets of the others share the caches and the poller",
        ("consumers", "cpu") => "grows: the same pages are sent by more threads at once, on two processors",
        _ => "grows, for no reason known here",
    }
}

/// Rows of one figure: each number's cost as a ratio to the smallest number's, round by round.
fn report(rows: &mut Vec<Row>, kind: &str, figure: &str, unit: &str, costs: &[(usize, Vec<f64>)]) {
    let Some((first, base)) = costs.first() else { return };
    for (number, cost) in costs {
        let ratios = Ratios::of(cost.iter().zip(base).map(|(cost, base)| cost / base).collect());
        let reason = if ratios.median > FLAT_MAX { format!("; {}", reason(kind, figure)) } else { String::new() };
        let note = format!("{:.2} {unit}{reason}", Ratios::of(cost.clone()).median);
        rows.push(Row::new(format!("growth/{kind}/{number}/{figure}"), format!("{figure} at {first}"), ratios, note));
    }
}

/// Time from the start of a broker until it listens.
fn start(dir: &std::path::Path, settings: &[&str]) -> Result<(Peer, f64)> {
    let begin = Instant::now();
    let peer = Peer::ottla(dir, settings)?;
    Ok((peer, begin.elapsed().as_secs_f64()))
}

fn cpu_us_per_request(peer: &Peer, scripts: &[Script]) -> Result<f64> {
    let cpu = peer.cpu_s()?;
    let done = drive(peer.addr, scripts)?;
    Ok((peer.cpu_s()? - cpu) * 1e6 / done.requests as f64)
}

fn produce_script(partitions: usize, count: usize, batch: &[u8]) -> Script {
    Script {
        requests: (0..partitions).map(|at| frames::produce(at as i32, 1, batch)).collect(),
        count,
        seconds_max: SECONDS_MAX,
        every_s: None,
        window: 5,
        error_at: Some(frames::PRODUCE_ERROR_AT),
    }
}

/// The same number of requests, spread over ever more partitions.
fn partitions(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let numbers: &[usize] = if plan.quick { &[1, 100] } else { &[1, 10, 100, 1000, 10_000] };
    let dir = tempfile::tempdir()?;
    let batch = frames::batch(1024, 1, Codec::None)?;
    let mut grown = Vec::new();
    for &number in numbers {
        let (peer, _) = start(&dir.path().join(number.to_string()), &[])?;
        peer.create_topic(number as u32, &["ottla.durability=page-cache"])?;
        // Once round, so that what is measured is not the first append to a partition.
        drive(peer.addr, &[produce_script(number, number, &batch)])?;
        grown.push(Grown { number, peer, _idle: Vec::new(), cost: Vec::new() });
    }
    for _ in 0..ROUNDS {
        for it in &mut grown {
            it.cost.push(cpu_us_per_request(&it.peer, &[produce_script(it.number, 20_000, &batch)])?);
        }
    }
    let mut memory = Vec::new();
    let mut starts = Vec::new();
    let mut costs = Vec::new();
    for it in grown {
        memory.push((it.number, vec![it.peer.anonymous_kib()? as f64 / 1024.0]));
        it.peer.stop()?;
        let took = (0..ROUNDS).map(|_| {
            let (peer, seconds) = start(&dir.path().join(it.number.to_string()), &[])?;
            peer.stop()?;
            Ok(seconds * 1e3)
        });
        starts.push((it.number, took.collect::<Result<Vec<_>>>()?));
        costs.push((it.number, it.cost));
    }
    report(rows, "partitions", "cpu", "CPU µs per produce request of 1 KiB, round all partitions", &costs);
    report(rows, "partitions", "memory", "MiB of anonymous memory", &memory);
    report(rows, "partitions", "start", "ms from start to listening, after a clean stop", &starts);
    Ok(())
}

/// Fetches all over the same data, cut into ever more segments: more data would cost more for missing the processor's cache.
fn segments(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    const BATCH_BYTES: usize = 128 << 10;
    let numbers: &[usize] = if plan.quick { &[1, 10] } else { &[1, 10, 100, 1000] };
    // Eight batches for each of the smallest segments, which have no room for a ninth.
    let batches = if plan.quick { 80 } else { 8000 };
    let dir = tempfile::tempdir()?;
    let batch = frames::batch(BATCH_BYTES, 1, Codec::None)?;
    let mut grown = Vec::new();
    for &number in numbers {
        let (peer, _) = start(&dir.path().join(number.to_string()), &[])?;
        let segment = format!("segment.bytes={}", batches / number * BATCH_BYTES);
        peer.create_topic(1, &["ottla.durability=page-cache", &segment, "retention.bytes=-1"])?;
        drive(peer.addr, &[produce_script(1, batches, &batch)])?;
        grown.push(Grown { number, peer, _idle: Vec::new(), cost: Vec::new() });
    }
    for _ in 0..ROUNDS {
        for it in &mut grown {
            // A prime stride visits them in no order that helps a cache.
            let requests = (0..1000).map(|at| frames::fetch((at * 7919 % batches) as i64, 1)).collect();
            let script = Script {
                requests,
                count: 2000,
                seconds_max: SECONDS_MAX,
                every_s: None,
                window: 1,
                error_at: Some(frames::FETCH_ERROR_AT),
            };
            it.cost.push(cpu_us_per_request(&it.peer, &[script])?);
        }
    }
    let mut starts = Vec::new();
    let mut costs = Vec::new();
    for it in grown {
        it.peer.stop()?;
        let (peer, seconds) = start(&dir.path().join(it.number.to_string()), &[])?;
        peer.stop()?;
        starts.push((it.number, vec![seconds * 1e3]));
        costs.push((it.number, it.cost));
    }
    report(rows, "segments", "cpu", "CPU µs per fetch of one 128 KiB batch at no particular offset", &costs);
    report(rows, "segments", "start", "ms from start to listening, after a clean stop", &starts);
    Ok(())
}

/// One producer beside ever more connections that say nothing.
fn connections(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let numbers: &[usize] = if plan.quick { &[1, 100] } else { &[1, 50, 500, 5000] };
    let dir = tempfile::tempdir()?;
    let batch = frames::batch(1024, 1, Codec::None)?;
    let mut grown = Vec::new();
    let mut memory = Vec::new();
    for &number in numbers {
        let (peer, _) = start(&dir.path().join(number.to_string()), &[])?;
        peer.create_topic(1, &["ottla.durability=page-cache"])?;
        // All connections ask something, and then nothing more.
        let before = peer.anonymous_kib()? as f64;
        let mut idle = (1..number).map(|_| connect(peer.addr)).collect::<Result<Vec<_>>>()?;
        for socket in &mut idle {
            use std::io::{Read as _, Write as _};
            socket.write_all(&frames::api_versions())?;
            let mut length = [0; 4];
            socket.read_exact(&mut length)?;
            let mut rest = vec![0; u32::from_be_bytes(length) as usize];
            socket.read_exact(&mut rest)?;
        }
        if number > 1 {
            let each = (peer.anonymous_kib()? as f64 - before) / number as f64;
            memory.push((number, vec![each.max(0.01)]));
        }
        grown.push(Grown { number, peer, _idle: idle, cost: Vec::new() });
    }
    for _ in 0..ROUNDS {
        for it in &mut grown {
            it.cost.push(cpu_us_per_request(&it.peer, &[produce_script(1, 20_000, &batch)])?);
        }
    }
    let costs: Vec<_> = grown.into_iter().map(|it| (it.number, it.cost)).collect();
    report(rows, "connections", "cpu", "CPU µs per produce request of 1 KiB on one of them", &costs);
    report(rows, "connections", "memory", "KiB of anonymous memory per idle connection", &memory);
    Ok(())
}

/// Ever more consumers of the same data.
fn consumers(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    const BATCHES: usize = 1024;
    let numbers: &[usize] = if plan.quick { &[1, 5] } else { &[1, 5, 50] };
    let dir = tempfile::tempdir()?;
    let (peer, _) = start(dir.path(), &[])?;
    peer.create_topic(1, &["ottla.durability=page-cache"])?;
    let batch = frames::batch((1 << 20) / 8, 1, Codec::None)?;
    drive(peer.addr, &[produce_script(1, BATCHES, &batch)])?;
    let requests: Vec<_> = (0..BATCHES / 8).map(|at| frames::fetch(at as i64 * 8, 1 << 20)).collect();
    let mut costs: Vec<_> = numbers.iter().map(|&number| (number, Vec::new())).collect();
    for _ in 0..ROUNDS {
        for (number, cost) in &mut costs {
            let script = |_| Script {
                requests: requests.clone(),
                count: (512 / *number).max(8),
                seconds_max: SECONDS_MAX,
                every_s: None,
                window: 1,
                error_at: Some(frames::FETCH_ERROR_AT),
            };
            let scripts: Vec<_> = (0..*number).map(script).collect();
            let cpu = peer.cpu_s()?;
            let done = drive(peer.addr, &scripts)?;
            let gib = done.received_bytes as f64 / f64::from(1_u32 << 30);
            cost.push((peer.cpu_s()? - cpu) / gib);
        }
    }
    report(rows, "consumers", "cpu", "CPU s per GiB delivered, 1 MiB fetches of hot data", &costs);
    Ok(())
}
