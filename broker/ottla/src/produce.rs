//! `ottla produce`: records from stdin or a file to a topic.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ottla_client::{
    Ack, AckBatch, Acks, ClientConfig, Codec, DeliverySink, Header, ProduceError, Producer, ProducerConfig,
    ProducerRecord, RecordError, SendError,
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;
use tokio::runtime::Runtime;

use super::failure::{Failure, Kind};
use super::input::{InputError, InputFormat, InputRecord, KeyRule, RecordReader};
use super::output::{Output, remark};
use super::progress::{Progress, human_bytes, impatient};
use super::telemetry;
use super::topic::parse_pair;

/// Arguments of `ottla produce`.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct ProduceArgs {
    /// The topic
    topic: String,
    /// Read from this file instead of stdin
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How the input is divided into records
    #[arg(long, value_enum, default_value_t)]
    format: InputFormat,
    /// What stands between key and value in a line
    #[arg(long, short = 'K', value_name = "TEXT", conflicts_with_all = ["key_field", "key"])]
    key_separator: Option<String>,
    /// With --format stanzas: the field whose text is the key
    #[arg(long, value_name = "FIELD", conflicts_with = "key")]
    key_field: Option<String>,
    /// The same key for every record
    #[arg(long, short, value_name = "TEXT")]
    key: Option<String>,
    /// Address this partition (a partitioner plugin of the topic still has the last word)
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// A header for every record; can be repeated
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = parse_pair)]
    header: Vec<(String, String)>,
    /// How batches are compressed
    #[arg(long, short = 'z', value_enum, default_value_t)]
    compression: Compression,
    /// What the broker waits for before it acknowledges
    #[arg(long, value_enum, default_value_t)]
    acks: AcksArg,
    /// Create the topic if it does not exist
    #[arg(long)]
    create: bool,
}

/// Largest record that is sent. What a topic takes is its `max.message.bytes`, and its broker says so.
const RECORD_BYTES_MAX: usize = 32 << 20;

const HELP: &str = "\
Examples:
  echo hello | ottla produce greetings
  echo 'bash|Section: shells' | ottla produce packages --key-separator '|'
  ottla produce packages --file Packages --format stanzas --key-field Package --compression zstd
  ottla consume packages --json | ottla produce copy --format json
  ottla produce greetings                    type lines, end with Ctrl-D

With --json, every record is answered with a line that says where it went.";

/// The codecs, for the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Snappy => Self::Snappy,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// The acknowledgements, for the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum AcksArg {
    /// Durable
    #[default]
    All,
    /// Appended, not yet durable
    #[value(name = "1")]
    Leader,
    /// Nothing: errors go unnoticed
    #[value(name = "0")]
    None,
}

impl From<AcksArg> for Acks {
    fn from(acks: AcksArg) -> Self {
        match acks {
            AcksArg::All => Self::All,
            AcksArg::Leader => Self::Leader,
            AcksArg::None => Self::None,
        }
    }
}

/// What became of the records so far.
#[derive(Default)]
struct Tally {
    seen: Mutex<Seen>,
    /// Whether each record is to be answered.
    answer_each: bool,
}

#[derive(Default)]
struct Seen {
    /// Records stored, by partition.
    stored: BTreeMap<i32, u64>,
    failed: u64,
    /// The first error and its record; of a refused batch, that of the record that was to blame.
    first_error: Option<(u64, ProduceError)>,
    /// Answers not yet printed.
    answers: Vec<Ack>,
}

impl Tally {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }
}

impl DeliverySink for Tally {
    fn delivered(&self, batches: Vec<AckBatch>) {
        let mut seen = self.seen();
        for ack in batches.iter().flat_map(AckBatch::iter) {
            match &ack.result {
                Ok((partition, _)) => *seen.stored.entry(*partition).or_default() += 1,
                Err(error) => {
                    seen.failed += 1;
                    let is_to_blame = |error: &ProduceError| matches!(error, ProduceError::InvalidRecord { .. });
                    let known = seen.first_error.as_ref().is_some_and(|(_, first)| is_to_blame(first));
                    if seen.first_error.is_none() || (!known && is_to_blame(error)) {
                        seen.first_error = Some((ack.token, error.clone()));
                    }
                }
            }
            if self.answer_each {
                seen.answers.push(ack);
            }
        }
    }
}

/// Runs `ottla produce`.
pub(crate) fn run(
    args: &ProduceArgs,
    config: ClientConfig,
    broker: &str,
    runtime: &Runtime,
    output: &mut Output,
) -> Result<(), Failure> {
    let input = open_input(args)?;
    let tally = Arc::new(Tally { answer_each: output.is_json(), ..Tally::default() });
    let acks = Acks::from(args.acks);
    let mut settings = ProducerConfig::default();
    settings.client = config;
    settings.acks = acks;
    settings.idempotent = acks == Acks::All;
    settings.compression = args.compression.into();
    settings.auto_create_topics = args.create;
    settings.request_bytes_max = RECORD_BYTES_MAX;
    settings.sink = Some(Arc::clone(&tally) as Arc<dyn DeliverySink>);
    let producer = Producer::new(settings)?;
    runtime.block_on(impatient(broker, check_topic(args, &producer)))?;
    // From here on it waits for a broker that goes away, and says so.
    telemetry::init_tool(0);

    let keys = KeyRule { separator: args.key_separator.clone(), field: args.key_field.clone() };
    let mut reader = RecordReader::new(input, args.format, keys);
    let mut sending = Sending { args, producer: &producer, tally: &tally, output, sent: 0, bytes: 0 };
    let mut progress = Progress::start();
    let read = sending.send_all(&mut reader, &mut progress);
    while !producer.flush_blocking(Duration::from_millis(200)) {
        progress.show(|| sending.words());
    }
    sending.print_answers()?;
    progress.clear();
    sending.sum_up(&progress)?;
    read
}

fn open_input(args: &ProduceArgs) -> Result<Box<dyn BufRead>, Failure> {
    if let Some(path) = &args.file {
        let unreadable = |error| Failure::new(Kind::Usage, format!("cannot read {}: {error}", path.display()));
        return Ok(Box::new(BufReader::with_capacity(256 * 1024, File::open(path).map_err(unreadable)?)));
    }
    if io::stdin().is_terminal() {
        remark("type records, one per line; Ctrl-D ends");
    }
    Ok(Box::new(BufReader::with_capacity(256 * 1024, io::stdin())))
}

/// A mistyped topic is noticed before anything is read, not half a minute later.
async fn check_topic(args: &ProduceArgs, producer: &Producer) -> Result<(), Failure> {
    let count = producer.partition_count(&args.topic).await?;
    match (count, args.partition) {
        (None, _) if args.create => Ok(()),
        (None, _) => Err(Failure::new(Kind::NotFound, format!("topic {} does not exist", args.topic))
            .hint(format!("create it with `ottla topic create {}`, or add --create", args.topic))),
        (Some(count), Some(partition)) if partition as usize >= count => {
            let words = format!("topic {} has partitions 0 to {}, not {partition}", args.topic, count - 1);
            Err(Failure::new(Kind::NotFound, words))
        }
        _ => Ok(()),
    }
}

struct Sending<'a> {
    args: &'a ProduceArgs,
    producer: &'a Producer,
    tally: &'a Tally,
    output: &'a mut Output,
    sent: u64,
    bytes: u64,
}

impl Sending<'_> {
    fn send_all(
        &mut self,
        reader: &mut RecordReader<Box<dyn BufRead>>,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        while let Some(record) = reader.next().map_err(input_failure)? {
            self.send(&record, progress)?;
            progress.show(|| self.words());
            if self.tally.seen().failed > 0 {
                // What follows would fail alike, or arrive without what came before it.
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, input: &InputRecord, progress: &mut Progress) -> Result<(), Failure> {
        let args = self.args;
        let fixed = args.header.iter().map(|(name, value)| Header { key: name, value: Some(value.as_bytes()) });
        let own = input.headers.iter().map(|(name, value)| Header { key: name, value: value.as_deref() });
        let headers: Vec<Header<'_>> = fixed.chain(own).collect();
        let record = ProducerRecord {
            topic: &args.topic,
            partition: args.partition.or(input.partition),
            key: args.key.as_deref().map(str::as_bytes).or(input.key.as_deref()),
            value: input.value.as_deref(),
            headers: &headers,
            timestamp_ms: input.timestamp_ms,
        };
        loop {
            match self.producer.try_send_ticket(&record, self.sent) {
                Ok(()) => break,
                Err(SendError::BufferFull { .. }) => {
                    let space = self.producer.wait_for_space(Duration::from_millis(200));
                    self.producer.runtime().block_on(space);
                    progress.show(|| self.words());
                    self.print_answers()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.sent += 1;
        self.bytes += (input.key.as_ref().map_or(0, Vec::len) + input.value.as_ref().map_or(0, Vec::len)) as u64;
        if self.sent.is_multiple_of(1024) {
            self.print_answers()?;
        }
        Ok(())
    }

    fn words(&self) -> String {
        let stored: u64 = self.tally.seen().stored.values().sum();
        format!("{stored} of {} records stored, {}", self.sent, human_bytes(self.bytes))
    }

    fn print_answers(&mut self) -> Result<(), Failure> {
        let answers = std::mem::take(&mut self.tally.seen().answers);
        for Ack { token: record, result, timestamp_ms: timestamp } in answers {
            let value = match result {
                Ok((partition, offset)) => {
                    json!({ "record": record, "partition": partition, "offset": offset, "timestamp": timestamp })
                }
                Err(error) => {
                    let named = |named: &RecordError| json!({ "index": named.index, "message": &*named.message });
                    let named: Vec<_> = error.record_errors().iter().map(named).collect();
                    json!({ "record": record, "error": error.to_string(), "record_errors": named })
                }
            };
            self.output.json_line(&value)?;
        }
        Ok(())
    }

    fn sum_up(&mut self, progress: &Progress) -> Result<(), Failure> {
        let seen = self.tally.seen();
        let stored: u64 = seen.stored.values().sum();
        let places: Vec<_> = seen.stored.iter().map(|(partition, count)| format!("{partition}: {count}")).collect();
        let seconds = progress.elapsed().as_secs_f64();
        if !self.output.is_json() {
            let plural = if stored == 1 { "record" } else { "records" };
            let words = format!("{stored} {plural} stored in {} in {seconds:.1} s", self.args.topic);
            remark(&if places.is_empty() { words } else { format!("{words} (partition {})", places.join(", ")) });
        }
        match &seen.first_error {
            Some((record, error)) => {
                let failure = Failure::from(error.clone());
                let count = seen.failed;
                let words = format!("{count} records were not stored; this is record {record}, counted from 0");
                Err(if count > 1 { failure.hint(words) } else { failure })
            }
            None => Ok(()),
        }
    }
}

fn input_failure(error: InputError) -> Failure {
    match error {
        InputError::Io(error) => Failure::new(Kind::Failed, error),
        InputError::Malformed { .. } => Failure::new(Kind::Failed, error)
            .hint("the records before it were sent; `ottla produce --help` has examples"),
    }
}
