//! Fifty times `kill -9` in the middle of producing with acks=all: nothing that was acknowledged is lost, nothing is there
//! twice, records that a plugin routes included, and another version of the plugin activated between crash and retry
//! included. The producers live through all of it: they only ever see a broker that comes back on its port.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_tests::client::Client;
use ottla_tests::guest::Guest;
use ottla_tests::{Broker, Record, wait};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const KILLS: usize = 50;
/// Every how many kills another version of the plugin is activated before the producers can retry.
const ACTIVATE_EVERY: usize = 5;
const PARTITIONS: usize = 4;

#[test]
fn fifty_kills_lose_and_double_nothing() {
    let mut broker = Broker::start();
    let versions = [broker.push_ready_made("by-section"), {
        broker.push_plugin("by-section", &Guest::round_robin().component()).expect("another rule under the same name")
    }];
    assert_ne!(versions[0], versions[1]);
    broker.activate_plugin("by-section", versions[0]);
    broker.create_topic("plain", PARTITIONS as i32, &[]);
    broker.create_topic("routed", PARTITIONS as i32, &[("ottla.partitioner", "by-section")]);
    let mut producers = [
        Producer::start(Client::Confluent, &broker, "plain", "lz4"),
        Producer::start(Client::Confluent, &broker, "routed", "none"),
        Producer::start(Client::Ottla, &broker, "routed", "zstd"),
    ];

    for kill in 0..KILLS {
        let before: Vec<usize> = producers.iter().map(Producer::acknowledged).collect();
        // A different producer decides each time, after a different number of its acknowledgements.
        let (decides, after) = (kill % producers.len(), 1 + kill * 37 % 101);
        wait::until_true(&format!("acknowledgements after start {kill}"), || {
            producers.iter().zip(&before).enumerate().all(|(index, (producer, before))| {
                producer.acknowledged() >= before + if index == decides { after } else { 1 }
            })
        });
        broker.kill9();
        if kill % ACTIVATE_EVERY == ACTIVATE_EVERY - 1 {
            // Frozen producers cannot retry before the other version is active.
            signal_all(&producers, Signal::STOP);
            broker.restart();
            broker.activate_plugin("by-section", versions[(kill / ACTIVATE_EVERY + 1) % 2]);
            signal_all(&producers, Signal::CONT);
        } else {
            broker.restart();
        }
    }

    let sent: Vec<(String, usize)> =
        producers.iter_mut().map(|producer| (producer.name.clone(), producer.finish())).collect();
    for topic in ["plain", "routed"] {
        let records = Client::Kcat.consume(&broker.bootstrap(), topic);
        let sent_here: HashMap<_, _> = sent.iter().filter(|(name, _)| name.starts_with(topic)).cloned().collect();
        assert_once_and_in_order(&records, &sent_here);
    }
    eprintln!("{KILLS} kills, sent and acknowledged: {sent:?}");
}

/// A client that numbers its records and says which are acknowledged, until it is told to stop.
struct Producer {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    acknowledged: Arc<AtomicUsize>,
    /// Everything it printed that is not an acknowledgement.
    remarks: Arc<Mutex<Vec<String>>>,
}

impl Producer {
    fn start(client: Client, broker: &Broker, topic: &str, codec: &str) -> Producer {
        let name = format!("{topic}-{client:?}");
        let options = json!({
            "bootstrap": broker.bootstrap(), "topic": topic, "codec": codec, "name": name, "partitions": PARTITIONS,
        });
        let mut command = client.command("produce_until_told", &options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the client starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (acknowledged, remarks) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (count, say) = (Arc::clone(&acknowledged), Arc::clone(&remarks));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.starts_with("ack ") {
                    count.fetch_add(1, Ordering::Relaxed);
                } else {
                    say.lock().push(line);
                }
            }
        });
        Producer { name, input: child.stdin.take(), child, acknowledged, remarks }
    }

    fn acknowledged(&self) -> usize {
        let remarks = self.remarks.lock();
        assert!(remarks.is_empty(), "{}: {remarks:?}", self.name);
        self.acknowledged.load(Ordering::Relaxed)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the client runs");
    }

    /// Tells it to stop, waits until it has flushed, and returns how many records it sent: all of them acknowledged.
    fn finish(&mut self) -> usize {
        self.input.take();
        let status = wait::until("the producer to flush", || self.child.try_wait().expect("its status"));
        assert!(status.success(), "{}: {status}", self.name);
        let last = wait::until("its last word", || self.remarks.lock().last().cloned());
        let mut words = last.split(' ');
        let (Some("sent"), Some(sent), Some("left"), Some("0")) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            panic!("{}: {last}", self.name);
        };
        let sent = sent.parse().expect("a number");
        wait::until_true("every acknowledgement to be counted", || self.acknowledged.load(Ordering::Relaxed) == sent);
        sent
    }
}

fn signal_all(producers: &[Producer], signal: Signal) {
    for producer in producers {
        producer.signal(signal);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Keys are `name:number`. Each number that was sent is there once; what one producer addressed to one partition is in
/// order wherever it ended up.
fn assert_once_and_in_order(records: &[Record], sent: &HashMap<String, usize>) {
    let mut times: BTreeMap<(&str, usize), Vec<(i32, i64)>> = BTreeMap::new();
    let mut last: HashMap<(&str, usize, i32), usize> = HashMap::new();
    for record in records {
        let key = std::str::from_utf8(record.key.as_deref().unwrap_or_default()).expect("a key as it was sent");
        let (name, number) = key.rsplit_once(':').expect("a key as it was sent");
        let number: usize = number.parse().expect("a number");
        times.entry((name, number)).or_default().push((record.partition, record.offset));
        if let Some(earlier) = last.insert((name, number % PARTITIONS, record.partition), number) {
            assert!(earlier < number, "{name}: {number} follows {earlier} on partition {}", record.partition);
        }
    }
    for ((name, number), places) in &times {
        assert_eq!(places.len(), 1, "{name} {number} is there more than once: {places:?}");
    }
    for (name, &sent) in sent {
        let missing: Vec<_> = (0..sent).filter(|&number| !times.contains_key(&(name.as_str(), number))).collect();
        assert!(missing.is_empty(), "{name}: {} of {sent} acknowledged records are lost: {missing:?}", missing.len());
    }
    assert_eq!(times.len(), sent.values().sum::<usize>(), "nothing is there that was not sent");
}

/// The check itself must see what it looks for.
mod the_check {
    use super::*;

    fn there(number: usize, partition: i32, offset: i64) -> Record {
        Record { partition, offset, ..Record::new(format!("p:{number}"), "v") }
    }

    fn check(records: &[Record]) {
        assert_once_and_in_order(records, &HashMap::from([("p".to_owned(), 6)]));
    }

    #[test]
    fn passes_what_is_right() {
        // 0 and 4 were addressed to one partition and are in order wherever they are; the others have no order.
        check(&[there(1, 0, 0), there(0, 0, 1), there(4, 0, 2), there(2, 1, 0), there(5, 1, 1), there(3, 1, 2)]);
    }

    #[test]
    #[should_panic(expected = "1 of 6 acknowledged records are lost: [3]")]
    fn sees_a_lost_record() {
        check(&[there(0, 0, 0), there(1, 0, 1), there(2, 0, 2), there(4, 0, 3), there(5, 0, 4)]);
    }

    #[test]
    #[should_panic(expected = "p 2 is there more than once")]
    fn sees_a_doubled_record() {
        let all = (0..6).map(|number| there(number, 0, number as i64));
        check(&all.chain([there(2, 1, 0)]).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "p: 0 follows 4 on partition 0")]
    fn sees_a_reordered_record() {
        check(&[there(4, 0, 0), there(0, 0, 1), there(1, 0, 2), there(2, 0, 3), there(3, 0, 4), there(5, 0, 5)]);
    }
}
