//! `ottla consume`: prints records, to the end of the topic as it is now or for ever.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use ottla_client::{
    Assignment, Classify, ClientConfig, ConsumeError, Consumer, ConsumerConfig, RecordRef, Records, StartFrom,
    TimestampType,
};
use serde_json::{Value, json};

use super::failure::Failure;
use super::instant::parse_utc;
use super::output::{Output, remark};
use super::template::Template;

/// Arguments of `ottla consume`.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct ConsumeArgs {
    /// The topic
    topic: String,
    /// Only this partition; can be repeated
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Where to start: earliest, latest, an offset, -N for the last N of each partition, or @ and a point in time
    #[arg(long, default_value = "earliest", value_parser = parse_from, allow_hyphen_values = true)]
    from: From,
    /// Stop after this many records
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Go on with new records instead of stopping at the end
    #[arg(long, short)]
    follow: bool,
    /// How a record is printed
    #[arg(long, value_name = "TEMPLATE", default_value = "{value}\\n", value_parser = Template::parse)]
    format: Template,
}

const HELP: &str = "\
Examples:
  ottla consume packages                                     everything there is, then stop
  ottla consume packages --partition 3 --from earliest       one partition
  ottla consume packages --from -5                           the last five of each partition
  ottla consume packages --from latest --follow              what comes in from now on
  ottla consume packages --from @2026-01-31T12:00Z           everything since then (UTC, or milliseconds)
  ottla consume packages --format '{partition} {offset} {key}\\t{value}\\n'
  ottla consume packages --json | jq -r .key

Without --follow it stops where each partition ended when it began.
Fields of --format: key value topic partition offset timestamp headers header:NAME.
In JSON, keys and values that are not UTF-8 come as key_base64 and value_base64.";

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Start(StartFrom),
    /// This many before the end.
    BeforeEnd(i64),
}

fn parse_from(text: &str) -> Result<From, String> {
    let start = match text {
        "earliest" | "beginning" => StartFrom::Earliest,
        "latest" | "end" => StartFrom::Latest,
        _ => match (text.strip_prefix('@'), text.parse::<i64>()) {
            (Some(instant), _) => StartFrom::Timestamp(parse_utc(instant).ok_or_else(|| {
                format!("{instant:?} is no point in time: write 2026-01-31T12:30Z or milliseconds since 1970")
            })?),
            (None, Ok(offset)) if offset >= 0 => StartFrom::Offset(offset),
            (None, Ok(before)) => return Ok(From::BeforeEnd(before.saturating_neg())),
            (None, Err(_)) => return Err("use earliest, latest, an offset, -N, or @ and a point in time".to_owned()),
        },
    };
    Ok(From::Start(start))
}

/// Runs `ottla consume`.
pub(crate) async fn run(args: &ConsumeArgs, config: ClientConfig, output: &mut Output) -> Result<(), Failure> {
    let mut settings = ConsumerConfig::default();
    settings.client = config;
    settings.unreachable_ms_max = 5_000;
    let consumer = Consumer::new(settings)?;
    let ends: HashMap<i32, i64> = consumer.end_offsets(&args.topic).await?.into_iter().collect();
    let assignments = assignments(args, &consumer, &ends).await?;
    let partitions: Vec<i32> = assignments.iter().map(|assignment| assignment.partition).collect();
    // What begins at or behind the end would never be found to have reached it.
    let (beyond, read): (Vec<_>, Vec<_>) = assignments.into_iter().partition(|assignment| {
        !args.follow && at_or_behind_end(assignment.start, ends.get(&assignment.partition).copied().unwrap_or(0))
    });
    tracing::debug!(skipped = beyond.len(), "nothing to read there");
    consumer.assign(&read).await?;
    let mut printer = Printer { args, output, printed: 0, scratch: Vec::new() };
    while !printer.is_done() {
        if !args.follow && reached(&consumer, &args.topic, &read, &ends)? {
            break;
        }
        let wanted = args.count.map_or(500, |count| count.saturating_sub(printer.printed).min(500) as usize);
        match consumer.poll(wanted, Duration::from_millis(100)).await {
            Ok(records) => printer.print(&records)?,
            Err(error) if args.follow && error.is_retriable() => remark(&format!("{error}; still trying")),
            Err(error) => {
                printer.output.flush()?;
                return Err(error.into());
            }
        }
    }
    tracing::debug!(?partitions, printed = printer.printed, "done");
    Ok(())
}

fn at_or_behind_end(start: StartFrom, end: i64) -> bool {
    match start {
        StartFrom::Latest => true,
        StartFrom::Offset(offset) => offset >= end,
        StartFrom::Earliest | StartFrom::Timestamp(_) => end == 0,
    }
}

/// The partitions to read. Starts that depend on the end are made offsets.
async fn assignments(
    args: &ConsumeArgs,
    consumer: &Consumer,
    ends: &HashMap<i32, i64>,
) -> Result<Vec<Assignment>, Failure> {
    let mut partitions = args.partition.clone();
    if partitions.is_empty() {
        partitions.extend(ends.keys());
    }
    partitions.sort_unstable();
    partitions.dedup();
    if let Some(partition) = partitions.iter().copied().find(|partition| !ends.contains_key(partition)) {
        let (topic, count) = (args.topic.as_str().into(), ends.len() as i32);
        return Err(ConsumeError::NoSuchPartition { topic, partition, count }.into());
    }
    let starts: HashMap<i32, i64> = match args.from {
        From::BeforeEnd(_) => consumer.beginning_offsets(&args.topic).await?.into_iter().collect(),
        // The offset for a point in time is asked for now, so that a partition without younger records is known to be done.
        From::Start(start @ StartFrom::Timestamp(_)) => {
            consumer.offsets(&args.topic, start).await?.into_iter().collect()
        }
        From::Start(_) => HashMap::new(),
    };
    let offset = |map: &HashMap<i32, i64>, partition| map.get(&partition).copied().unwrap_or(0);
    let start_of = |partition| match args.from {
        From::BeforeEnd(count) => {
            let start = offset(ends, partition).saturating_sub(count);
            StartFrom::Offset(start.max(offset(&starts, partition)))
        }
        From::Start(StartFrom::Timestamp(_)) => StartFrom::Offset(offset(&starts, partition)),
        From::Start(start) => start,
    };
    let topic = args.topic.as_str().into();
    let assignment =
        |partition| Assignment { topic: std::sync::Arc::clone(&topic), partition, start: start_of(partition) };
    Ok(partitions.into_iter().map(assignment).collect())
}

/// Whether every partition was read to where it ended at the beginning.
fn reached(consumer: &Consumer, topic: &str, read: &[Assignment], ends: &HashMap<i32, i64>) -> Result<bool, Failure> {
    for Assignment { partition, .. } in read {
        let end = ends.get(partition).copied().unwrap_or(0);
        if consumer.position(topic, *partition)?.is_none_or(|position| position < end) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Printer<'a> {
    args: &'a ConsumeArgs,
    output: &'a mut Output,
    printed: u64,
    scratch: Vec<u8>,
}

impl Printer<'_> {
    fn is_done(&self) -> bool {
        self.args.count.is_some_and(|count| self.printed >= count)
    }

    fn print(&mut self, records: &Records) -> Result<(), Failure> {
        for record in records.iter() {
            if self.output.is_json() {
                self.output.json_line(&record_json(record))?;
            } else {
                self.scratch.clear();
                self.args.format.write(record, &mut self.scratch);
                self.output.bytes(&self.scratch)?;
            }
            self.printed += 1;
        }
        // A person may be watching.
        self.output.flush()
    }
}

fn record_json(record: RecordRef<'_>) -> Value {
    let mut value = json!({
        "topic": &**record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "timestamp": record.timestamp_ms(),
    });
    if record.timestamp_type() == TimestampType::LogAppendTime {
        value["timestamp_type"] = "log-append".into();
    }
    put_bytes(&mut value, "key", record.key());
    put_bytes(&mut value, "value", record.value());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = record.headers().map(|(key, value)| json!([text(key), value.map(text)])).collect::<Vec<_>>();
    if !headers.is_empty() {
        value["headers"] = headers.into();
    }
    value
}

/// Text as text, everything else in base 64 under a name that says so.
fn put_bytes(object: &mut Value, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object[name] = Value::Null,
        Some(Ok(text)) => object[name] = text.into(),
        Some(Err(_)) => object[format!("{name}_base64")] = base64(bytes.unwrap_or_default()).into(),
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = ALPHABET.get((bits >> shift & 63) as usize).copied().unwrap_or(b'=');
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_as_people_write_them() {
        for (text, expected) in [
            ("earliest", From::Start(StartFrom::Earliest)),
            ("latest", From::Start(StartFrom::Latest)),
            ("0", From::Start(StartFrom::Offset(0))),
            ("42", From::Start(StartFrom::Offset(42))),
            ("-10", From::BeforeEnd(10)),
            ("@1700000000123", From::Start(StartFrom::Timestamp(1_700_000_000_123))),
            ("@1970-01-02", From::Start(StartFrom::Timestamp(86_400_000))),
        ] {
            assert_eq!(parse_from(text).unwrap(), expected, "{text}");
        }
        for text in ["", "soon", "@", "@soon", "1.5"] {
            assert!(parse_from(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_come_in_base64() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\xfd\xfc", "//79/A==")]
        {
            assert_eq!(base64(bytes), text);
        }
        let mut value = json!({});
        put_bytes(&mut value, "key", Some(b"\xff"));
        put_bytes(&mut value, "value", Some("é".as_bytes()));
        assert_eq!(value, json!({ "key_base64": "/w==", "value": "é" }));
    }
}
