//! `ottla log verify`: every batch, index and state file checked.

use ottla_log::inspect::{PartitionFiles, PartitionReport, Problem, SegmentReader, verify};
use serde_json::json;

use super::{Chosen, Failure, Kind, Output, Target, beside};
use crate::progress::{Progress, human_bytes};

pub(super) const HELP: &str = "\
Reads every byte of the partitions and checks it against everything that vouches for it: the CRC of each batch, offsets
that follow each other, the leader epoch each batch was written in, each index against its segment, checkpoint and
partition.meta, the snapshots of producers. Of a whole data directory also the route journal, both copies of the metadata (as
`ottla meta verify` does) and the plugin store, whose components have to match their digests. Log directories elsewhere
(log.dirs) are found from the data directory.

Only reads: it may run while a broker uses the files. An append under way is not damage, and neither is an end that a
crash cut off; `ottla log repair` or the next start of the broker removes that.

What a problem means:
  damaged, missing   these records are lost here, no others: reads of them answer an error (CORRUPT_MESSAGE) and
                     consumers can go on behind them. A copy of the files from elsewhere is the only way back
  a bad batch that sound ones follow   above what is known to be synced; the next start cuts all of it off
  metadata            one copy is made again from the other one by the next start; see `ottla meta --help`
  plugin store        push the same file again (`ottla plugin push`); topics go on with its compiled form until then
  an index, partition.meta, checkpoint made again by the broker; no record is lost

Examples:
  ottla log verify                            everything below ./ottla-data
  ottla log verify --data-dir /srv/ottla packages:3
  ottla log verify ./backup/log --json | jq 'select(.problems != [])'

Exit code 1 means that something is wrong.";

pub(super) fn run(target: &Target, output: &mut Output) -> Result<(), Failure> {
    let Chosen { log_directories, data_dir, partitions, .. } = target.choose()?;
    let total_bytes: u64 = partitions.iter().map(bytes_of).sum();
    let (mut done_bytes, mut progress) = (0, Progress::start());
    let (mut bad, mut problems, mut records, mut unfinished) = (0, 0, 0, 0);
    for files in &partitions {
        let report = verify(files, |bytes| {
            done_bytes += bytes;
            progress.show(|| bar(done_bytes, total_bytes, &files.name.to_string()));
        });
        progress.clear();
        bad += usize::from(!report.is_sound());
        problems += report.problems.len();
        records += report.records;
        unfinished += usize::from(report.unfinished.is_some());
        say(files, &report, output)?;
    }
    let seconds = progress.elapsed().as_secs_f64();
    if !output.is_json() {
        let speed = human_bytes((done_bytes as f64 / seconds.max(0.001)) as u64);
        let count = partitions.len();
        let checked =
            format!("{count} partitions, {records} records, {} in {seconds:.1} s ({speed}/s)", human_bytes(done_bytes));
        let ends =
            if unfinished > 0 { format!("; {unfinished} have an end that is not finished") } else { String::new() };
        let verdict = if bad == 0 { "all whole".to_owned() } else { format!("{problems} problems in {bad} of them") };
        output.line(&format!("{checked}: {verdict}{ends}"))?;
    }
    let beside = match &data_dir {
        Some(data_dir) => beside::verify(data_dir, &log_directories, output)?,
        None => 0,
    };
    if bad == 0 && beside == 0 {
        return Ok(());
    }
    output.flush()?;
    let others = if beside > 0 { format!(", {beside} beside them") } else { String::new() };
    let failure =
        Failure::new(Kind::Failed, format!("{problems} problems in {bad} of {} partitions{others}", partitions.len()));
    Err(failure.hint("`ottla log verify --help` says what each of them means"))
}

fn say(files: &PartitionFiles, report: &PartitionReport, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        let describe = |problem: &Problem| {
            let (from, to) = offsets(problem);
            json!({ "kind": kind(problem), "from": from, "to": to, "words": problem.to_string() })
        };
        let problems: Vec<_> = report.problems.iter().map(describe).collect();
        let unfinished = report
            .unfinished
            .map(|end| json!({ "segment": end.segment.get(), "offset": end.offset.get(), "bytes": end.bytes }));
        return output.json_line(&json!({
            "topic": files.name.topic, "partition": files.name.index, "segments": report.segments,
            "batches": report.batches, "records": report.records, "bytes": report.bytes,
            "start": files.log_start_offset().get(), "end": report.end.get(), "durable": files.durable_offset().get(),
            "unfinished": unfinished, "problems": problems,
        }));
    }
    for problem in &report.problems {
        output.line(&format!("{}: {problem}", files.name))?;
    }
    if let Some(end) = report.unfinished {
        let (offset, bytes) = (end.offset.get(), end.bytes);
        output.line(&format!("{}: ends at offset {offset}, behind it {bytes} bytes are not finished", files.name))?;
    }
    Ok(())
}

fn bytes_of(files: &PartitionFiles) -> u64 {
    let segments = files.segments.iter().filter_map(|base| SegmentReader::open(files, *base).ok().flatten());
    segments.map(|segment| segment.file_bytes).sum()
}

fn bar(done: u64, total: u64, name: &str) -> String {
    const WIDTH: u64 = 30;
    let filled = done.saturating_mul(WIDTH).checked_div(total).unwrap_or(WIDTH).min(WIDTH) as usize;
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
    let empty = WIDTH as usize - filled;
    format!("[{}{}] {percent:3} % of {}  {name}", "#".repeat(filled), " ".repeat(empty), human_bytes(total))
}

fn kind(problem: &Problem) -> &'static str {
    match problem {
        Problem::Damaged { .. } => "damaged",
        Problem::Missing { .. } => "missing",
        Problem::Twice { .. } => "twice",
        Problem::Interrupted { .. } => "interrupted",
        Problem::Index { .. } => "index",
        Problem::Meta { .. } => "meta",
        Problem::Checkpoint => "checkpoint",
        Problem::State { .. } => "state",
        Problem::Unreadable { .. } => "unreadable",
    }
}

fn offsets(problem: &Problem) -> (Option<i64>, Option<i64>) {
    match problem {
        Problem::Damaged { offsets, .. } | Problem::Missing { offsets } | Problem::Twice { offsets } => {
            (Some(offsets.start), Some(offsets.end))
        }
        Problem::Interrupted { offset, .. } => (Some(offset.get()), None),
        _ => (None, None),
    }
}
