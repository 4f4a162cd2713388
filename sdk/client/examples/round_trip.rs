//! Sends records, reads them back, and checks that every one of them arrived once, in order per key.
//!
//! ```text
//! cargo run --release -p ottla-client --example round_trip -- 127.0.0.1:9092 [RECORDS] [CODEC] [BYTES]
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ottla_client::{
    AckBatch, Admin, ClientConfig, Codec, Consumer, ConsumerConfig, DeliverySink, Header, NewTopic, Producer,
    ProducerConfig, ProducerRecord, SendError, StartFrom,
};

#[derive(Default)]
struct Tally {
    stored: AtomicU64,
    failed: AtomicU64,
}

impl DeliverySink for Tally {
    fn delivered(&self, batches: Vec<AckBatch>) {
        for batch in batches {
            let counter = if batch.error().is_none() { &self.stored } else { &self.failed };
            counter.fetch_add(batch.len() as u64, Ordering::Relaxed);
            if let Some(error) = batch.error() {
                eprintln!("{error}");
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let records: u64 = args.next().map_or(Ok(100_000), |text| text.parse())?;
    let codec = args.next().map_or(Some(Codec::None), |name| Codec::from_name(&name)).ok_or("no such codec")?;
    let value_bytes: usize = args.next().map_or(Ok(100), |text| text.parse())?;

    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let topic = format!("round-trip-{run}");
    let admin = Admin::new(ClientConfig::new(&bootstrap))?;
    admin.create_topic(&NewTopic::new(&*topic).partitions(6)).await?;

    let tally = Arc::new(Tally::default());
    let mut config = ProducerConfig::new(&bootstrap);
    config.compression = codec;
    config.sink = Some(Arc::clone(&tally) as Arc<dyn DeliverySink>);
    let producer = Producer::new(config)?;
    let started = Instant::now();
    let padding = "x".repeat(value_bytes);
    for n in 0..records {
        let (key, value) = (format!("key-{}", n % 1000), format!("{n} {padding}"));
        let headers = [Header { key: "n", value: Some(b"1") }];
        let record = ProducerRecord::new(&topic).key(&key).value(&value).headers(&headers);
        while let Err(error) = producer.try_send_ticket(&record, n) {
            match error {
                SendError::BufferFull { .. } => drop(producer.wait_for_space(Duration::from_secs(1)).await),
                other => return Err(other.into()),
            }
        }
    }
    let handed_over = started.elapsed();
    producer.flush().await;
    let acknowledged = started.elapsed();
    let (stored, failed) = (tally.stored.load(Ordering::Relaxed), tally.failed.load(Ordering::Relaxed));
    println!("sent {records} in {handed_over:?}, acknowledged {stored}, failed {failed} after {acknowledged:?}");
    producer.close(Duration::from_secs(5)).await;

    let consumer = Consumer::new(ConsumerConfig::new(&bootstrap))?;
    consumer.assign_topic(&topic, StartFrom::Earliest).await?;
    let started = Instant::now();
    let (mut seen, mut last_of_key) = (0, HashMap::new());
    while seen < records {
        let batch = consumer.poll(500, Duration::from_secs(10)).await?;
        if batch.is_empty() {
            return Err(format!("only {seen} of {records} records came back").into());
        }
        for record in batch.iter() {
            seen += 1;
            let text = std::str::from_utf8(record.value().unwrap_or_default())?;
            let n: i64 = text.split(' ').next().unwrap_or_default().parse()?;
            let before = last_of_key.insert(record.key().unwrap_or_default().to_vec(), n);
            if before.is_some_and(|before| before + 1000 != n) || record.headers().count() != 1 {
                return Err(format!("record {n} follows {before:?}").into());
            }
        }
    }
    println!("read {seen} in {:?}: every record once, in order per key", started.elapsed());
    admin.delete_topic(&topic).await?;
    Ok(())
}
