//! `ottla log dump`: batches as they stand in the files, and the records in them.

use std::fmt::Write;
use std::ops::ControlFlow;

use clap::Args;
use ottla_log::BatchHeader;
use ottla_log::inspect::{Found, PartitionFiles, SegmentReader};
use ottla_wire::record::{Batch, Record, TimestampType};
use serde_json::{Value, json};

use super::{Failure, Kind, Output, Target};
use crate::instant::show_utc;

/// Records that unpack to more than this are not shown.
const UNPACKED_MAX_BYTES: usize = 1 << 30;

pub(super) const HELP: &str = "\
Prints one line per batch: its offsets, where it stands, how large it is, how it is packed, who wrote it. What is wrong
between batches is printed where it is. With --records every record follows, with key, value and headers; bytes that are
no text are shown as \\x...

Only reads: it may run while a broker uses the files.

Examples:
  ottla log dump packages:3                          the batches of one partition
  ottla log dump packages:3 --records --from 1200    its records from offset 1200 on
  ottla log dump ./data/log/packages-3/00000000000000000000.log
  ottla log dump packages --json | jq 'select(.producer_id == 7)'";

/// Arguments of `ottla log dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    target: Target,
    /// Print the records as well
    #[arg(long)]
    records: bool,
    /// Begin with the batch that holds this offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
}

pub(super) fn run(args: &DumpArgs, output: &mut Output) -> Result<(), Failure> {
    let chosen = args.target.choose()?;
    for files in chosen.partitions {
        if !output.is_json() {
            let (start, durable) = (files.log_start_offset().get(), files.durable_offset().get());
            output.line(&format!("{}: log start {start}, synced up to {durable} at least", files.name))?;
        }
        for base in &files.segments {
            let named = chosen.segment.is_none_or(|segment| segment == base.get());
            if named && files.next_segment(*base).is_none_or(|next| next.get() > args.from) {
                let reader = SegmentReader::open(&files, *base).map_err(|error| {
                    Failure::new(Kind::Failed, format!("segment {} of {}: {error}", base.get(), files.name))
                })?;
                if let Some(reader) = reader {
                    dump_segment(args, &files, &reader, output)?;
                }
            }
        }
    }
    Ok(())
}

fn dump_segment(
    args: &DumpArgs,
    files: &PartitionFiles,
    reader: &SegmentReader,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut failure = None;
    if !output.is_json() {
        output.line(&format!("segment {}", reader.path.display()))?;
    }
    let walked = reader.walk(|found| {
        let shown = match found {
            Found::Batch { header, .. } if header.next_offset().get() <= args.from => Ok(()),
            Found::Batch { position, header } => dump_batch(args, files, reader, position, &header, output),
            other => dump_fault(files, reader, &other, output),
        };
        match shown {
            Ok(()) => ControlFlow::Continue(()),
            Err(wrong) => {
                failure = Some(wrong);
                ControlFlow::Break(())
            }
        }
    });
    match (failure, walked) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(Failure::new(Kind::Failed, format!("{}: {error}", reader.path.display()))),
        (None, Ok(_)) => Ok(()),
    }
}

fn dump_batch(
    args: &DumpArgs,
    files: &PartitionFiles,
    reader: &SegmentReader,
    position: u64,
    header: &BatchHeader,
    output: &mut Output,
) -> Result<(), Failure> {
    let (first, last) = (header.base_offset.get(), header.next_offset().get() - 1);
    let codec = header.codec().map_or("unknown codec", |codec| codec.name());
    let stamped = header.timestamp_type() == TimestampType::LogAppendTime;
    if output.is_json() {
        output.json_line(&json!({
            "topic": files.name.topic, "partition": files.name.index, "segment": reader.base.get(),
            "offset": first, "last_offset": last, "position": position, "bytes": header.total_bytes(),
            "records": header.record_count, "codec": codec, "leader_epoch": header.partition_leader_epoch.get(),
            "base_timestamp": header.base_timestamp, "max_timestamp": header.max_timestamp,
            "timestamp_type": if stamped { "LogAppendTime" } else { "CreateTime" },
            "producer_id": header.producer_id.get(), "producer_epoch": header.producer_epoch.get(),
            "base_sequence": header.base_sequence.get(), "transactional": header.is_transactional(), "crc": header.crc,
        }))?;
    } else {
        let mut line = format!(
            "  {first}..={last}  at {position}, {} bytes, {} records, {codec}, epoch {}",
            header.total_bytes(),
            header.record_count,
            header.partition_leader_epoch.get()
        );
        if header.max_timestamp >= 0 {
            let _ = write!(line, ", {}", show_utc(header.max_timestamp));
        }
        if header.producer_id.get() >= 0 {
            let (id, epoch) = (header.producer_id.get(), header.producer_epoch.get());
            let _ = write!(line, ", producer {id}/{epoch} from {}", header.base_sequence.get());
        }
        output.line(&line)?;
    }
    if !args.records {
        return Ok(());
    }
    let bytes = reader.read(position, header)?;
    let unreadable =
        |wrong: &dyn std::fmt::Display| Failure::new(Kind::Failed, format!("the batch at offset {first}: {wrong}"));
    let batch = Batch::parse(&bytes).map_err(|error| unreadable(&error))?;
    let records = batch.records(UNPACKED_MAX_BYTES).map_err(|error| unreadable(&error))?;
    for record in &records {
        let record = record.map_err(|error| unreadable(&error))?;
        if header.offset_of(&record).get() >= args.from {
            dump_record(files, header, &record, output)?;
        }
    }
    Ok(())
}

fn dump_record(
    files: &PartitionFiles,
    header: &BatchHeader,
    record: &Record<'_>,
    output: &mut Output,
) -> Result<(), Failure> {
    let (offset, timestamp) = (header.offset_of(record).get(), header.timestamp_of(record));
    if output.is_json() {
        let text = |bytes: Option<&[u8]>| bytes.map(show_bytes);
        let headers: Vec<Value> = record
            .headers
            .iter()
            .map(|header| json!({ "key": show_bytes(header.key), "value": text(header.value) }))
            .collect();
        return output.json_line(&json!({
            "topic": files.name.topic, "partition": files.name.index, "record": offset, "timestamp": timestamp,
            "key": text(record.key), "value": text(record.value), "headers": headers,
        }));
    }
    let show =
        |bytes: Option<&[u8]>| bytes.map_or_else(|| "null".to_owned(), |bytes| format!("\"{}\"", show_bytes(bytes)));
    let mut line = format!("    {offset}  {}  {} = {}", show_utc(timestamp), show(record.key), show(record.value));
    for header in record.headers {
        let _ = write!(line, "  [{}: {}]", show_bytes(header.key), show(header.value));
    }
    output.line(&line)
}

fn dump_fault(
    files: &PartitionFiles,
    reader: &SegmentReader,
    found: &Found,
    output: &mut Output,
) -> Result<(), Failure> {
    let (kind, from, to, words) = match found {
        Found::Batch { .. } => return Ok(()),
        Found::Damaged { offsets, positions } => {
            let words = format!("DAMAGED: bytes {} to {} are no batch", positions.start, positions.end);
            ("damaged", offsets.start, offsets.end, words)
        }
        Found::Short { offsets } => ("missing", offsets.start, offsets.end, "MISSING: the file ends here".to_owned()),
        Found::Unfinished { offset, position, bytes, batches } => {
            let words = format!("not finished: {bytes} bytes from {position} on, {batches} sound batches among them");
            ("unfinished", offset.get(), offset.get(), words)
        }
    };
    if output.is_json() {
        return output.json_line(&json!({
            "topic": files.name.topic, "partition": files.name.index, "segment": reader.base.get(),
            "fault": kind, "from": from, "to": to, "words": words,
        }));
    }
    if from == to {
        output.line(&format!("  {from}..  {words}"))
    } else {
        output.line(&format!("  {from}..{to}  {words}"))
    }
}

/// Text as it is, everything else escaped.
fn show_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '"' => text.extend(['\\', c]),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::show_bytes;

    #[test]
    fn text_stays_text_and_bytes_are_escaped() {
        assert_eq!(show_bytes("größe".as_bytes()), "größe");
        assert_eq!(show_bytes(b"a\"b\\c\n\xff\x00"), "a\\\"b\\\\c\\n\\xff\\u{0}");
    }
}
