//! Records that a plugin moves, while something else goes wrong as well: a disk is full, a directory is missing or fails,
//! and at the same time old records are to go, or the broker is to stop. Each record of a batch is there once in the end.

use std::path::{Path, PathBuf};

use ottla_tests::batch::{Sender, batch};
use ottla_tests::broker::Builder;
use ottla_tests::connection::Connection;
use ottla_tests::guest::Guest;
use ottla_tests::mount::Mount;
use ottla_tests::produce::produce_request;
use ottla_tests::{Broker, skip, wait};
use ottla_wire::ErrorCode;
use ottla_wire::message::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsTopic, ProduceRequest,
};
use tempfile::TempDir;

const PARTITIONS: i32 = 4;
const EARLIEST: i64 = -2;
const HIGH_WATERMARK: i64 = -1;
/// More than a partition has reserved.
const PART_BYTES: usize = 1_500_000;

fn broker_on(directories: &[&Path]) -> Builder {
    let directories: Vec<_> = directories.iter().map(|directory| directory.display().to_string()).collect();
    Broker::builder().set("log.dirs", &directories.join(","))
}

fn spread_topic(broker: &Broker, name: &str) {
    broker.push_plugin("spread", &Guest::round_robin().component()).expect("the plugin is taken");
    broker.create_topic(name, PARTITIONS, &[("ottla.partitioner", "spread")]);
}

/// A batch of `records` records of so many bytes each; it goes to as many partitions.
fn moved(sender: Sender, sequence: i32, records: usize, bytes: usize) -> Vec<u8> {
    let value = vec![b'v'; bytes];
    batch(&vec![(&b"k"[..], &value[..]); records], Some(Sender { sequence, ..sender }))
}

/// A request that is given up after so many milliseconds, and what it is told.
fn send(broker: &Broker, topic: &str, partition: i32, timeout_ms: i32, records: &[u8]) -> (ErrorCode, String) {
    let request = ProduceRequest { timeout_ms, ..produce_request(topic, partition, records) };
    Connection::to(broker).call(9, &request, |response| {
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.error_message.clone().unwrap_or_default().into_owned())
    })
}

fn expect_taken(broker: &Broker, topic: &str, partition: i32, records: &[u8]) {
    let (code, message) = send(broker, topic, partition, 30_000, records);
    assert_eq!(code, ErrorCode::None, "{message}");
}

fn delete_records(broker: &Broker, topic: &str, partition: i32, offset: i64) -> (ErrorCode, i64) {
    let partition = DeleteRecordsPartition { partition_index: partition, offset };
    let topic = DeleteRecordsTopic { name: topic.into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 30_000 };
    Connection::to(broker).call(2, &request, |response| {
        let partition = &response.topics[0].partitions[0];
        (partition.error_code, partition.low_watermark)
    })
}

fn first_offset(broker: &Broker, topic: &str, partition: i32) -> i64 {
    let partition =
        ListOffsetsPartition { partition_index: partition, timestamp: EARLIEST, ..ListOffsetsPartition::default() };
    let topic = ListOffsetsTopic { name: topic.into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
    Connection::to(broker).call(7, &request, |response| {
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::None);
        response.topics[0].partitions[0].offset
    })
}

/// What makes records of a topic go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    Request,
    Retention,
}

/// How a broker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Terminated,
    Killed,
}

fn end(broker: &mut Broker, ending: Ending) {
    match ending {
        // On a disk that is full or failed the clean end may not be written down.
        Ending::Terminated => drop(broker.terminate()),
        Ending::Killed => broker.kill9(),
    }
}

/// The producers of a topic that is held are not known. Written down all the same they were forgotten, the topic was not
/// read again, and what the route journal had was carried out a second time.
#[test]
fn nothing_goes_from_a_topic_whose_journal_is_not_carried_out_and_nothing_is_carried_out_twice() {
    for removal in [Removal::Request, Removal::Retention] {
        let home = TempDir::new().expect("a temporary directory");
        let (one, two) = (home.path().join("one"), home.path().join("two"));
        let mut broker = broker_on(&[&one, &two]).set("log.retention.check.interval.ms", "20").start();
        spread_topic(&broker, "held");
        // Looked at after the other one, by its name.
        broker.create_topic("later", 1, &[("retention.ms", "1")]);
        broker.set_topic("held", "retention.ms", "-1");
        let sender = broker.new_producer();
        let here = (0..PARTITIONS).find(|at| one.join(format!("held-{at}")).exists()).expect("a partition");
        for number in 0..5 {
            expect_taken(&broker, "held", here, &moved(sender, number * PARTITIONS, PARTITIONS as usize, 10));
        }
        broker.kill9();
        let away = home.path().join("away");
        std::fs::rename(&two, &away).expect("a rename");
        broker.restart();
        match removal {
            Removal::Request => {
                assert_eq!(delete_records(&broker, "held", here, 3), (ErrorCode::KafkaStorageError, -1));
            }
            Removal::Retention => {
                broker.set_topic("held", "retention.ms", "1");
                expect_taken(&broker, "later", 0, &batch(&[(b"k", b"v")], None));
                wait::until_true("a look at what is too old", || first_offset(&broker, "later", 0) == 1);
                broker.set_topic("held", "retention.ms", "-1");
            }
        }
        assert_eq!(first_offset(&broker, "held", here), 0);
        broker.kill9();
        std::fs::rename(&away, &two).expect("a rename");
        broker.restart();
        for number in [4, 5] {
            expect_taken(&broker, "held", here, &moved(sender, number * PARTITIONS, PARTITIONS as usize, 10));
        }
        assert_eq!(broker.end_offsets("held", PARTITIONS), [6; PARTITIONS as usize], "{removal:?}: each record once");
    }
}

/// Takes all the room that is left.
fn fill(disk: &Path) {
    let mut ballast = std::fs::File::create(disk.join("ballast")).expect("a file");
    for bytes in [1 << 20, 4096, 1] {
        while std::io::Write::write_all(&mut ballast, &vec![0; bytes]).is_ok() {}
    }
}

fn make_room(disk: &Path) {
    std::fs::remove_file(disk.join("ballast")).expect("the ballast goes");
}

/// Two log directories, of which the second is small and full, and topics whose first partition lies in the first one.
struct Full {
    _home: TempDir,
    two: Mount,
    broker: Broker,
    /// Through a plugin.
    topic: String,
    /// Without one.
    plain: String,
    /// The same, and what is in it is too old.
    aged: String,
}

impl Full {
    fn new(test: &str) -> Option<Self> {
        let two = Mount::tmpfs(64 << 20).inspect_err(|why| skip::test(test, why)).ok()?;
        let home = TempDir::new().expect("a temporary directory");
        let one = home.path().join("one");
        let broker = broker_on(&[&one, &two.path().join("log")])
            .set("log.retention.check.interval.ms", "20")
            .set("log.retention.ms", "-1")
            .set("message.max.bytes", "8388608")
            .start();
        // Where partitions lie is decided while they are made, several at a time.
        let create = |name: &str, create: &dyn Fn(&str)| {
            let name = (0..1000).map(|number| format!("{name}-{number}")).find(|name| {
                create(name);
                let is_here = |at: i32| one.join(format!("{name}-{at}")).exists();
                is_here(0) && !(is_here(1) && is_here(2) && is_here(3))
            });
            name.expect("a topic")
        };
        let topic = create("spread", &|name| spread_topic(&broker, name));
        let plain = create("plain", &|name| broker.create_topic(name, 2, &[]));
        let aged = create("aged", &|name| broker.create_topic(name, 2, &[("retention.ms", "1")]));
        Some(Self { _home: home, two, broker, topic, plain, aged })
    }

    /// Sends batches until one has to wait for space behind its first part; its number.
    fn fill(&self, sender: Sender) -> i32 {
        expect_taken(&self.broker, &self.topic, 0, &Self::batch(sender, 0));
        fill(self.two.path());
        let waits = (1..100).find(|number| {
            let batch = Self::batch(sender, *number);
            // A slow machine is not a full disk: sent again the batch is answered from where it went.
            wait::until("a batch to be taken or to wait for space", || {
                let (code, message) = send(&self.broker, &self.topic, 0, 1000, &batch);
                assert!(matches!(code, ErrorCode::None | ErrorCode::RequestTimedOut), "{message}");
                let lines = self.broker.log_lines();
                let is_full = || lines.iter().any(|line| line.contains("waiting for it to pass"));
                if code == ErrorCode::None { Some(false) } else { is_full().then_some(true) }
            })
        });
        waits.expect("a batch that waits")
    }

    fn batch(sender: Sender, number: i32) -> Vec<u8> {
        moved(sender, number * PARTITIONS, PARTITIONS as usize, PART_BYTES)
    }
}

#[test]
fn a_batch_that_waits_for_space_holds_up_neither_deletions_nor_the_end_and_arrives_once() {
    let name = "a_batch_that_waits_for_space_holds_up_neither_deletions_nor_the_end_and_arrives_once";
    for ending in [Ending::Terminated, Ending::Killed] {
        let Some(mut full) = Full::new(name) else { return };
        let topic = full.topic.clone();
        let (first, second) = (full.broker.new_producer(), full.broker.new_producer());
        expect_taken(&full.broker, &full.plain, 0, &batch(&[(b"k", b"v")], None));
        let waits = full.fill(first);
        // Behind it: of the same producer, of another one, to the same partition and to another one.
        let behind = [(first, 0, waits + 1), (second, 0, 0), (second, 1, 0)];
        for (sender, partition, number) in behind {
            let code = send(&full.broker, &topic, partition, 300, &Full::batch(sender, number)).0;
            assert_eq!(code, ErrorCode::RequestTimedOut);
        }
        // Records of a topic that has nothing to do with it, and of the one whose batch waits: up to its first part.
        assert_eq!(delete_records(&full.broker, &full.plain, 0, HIGH_WATERMARK), (ErrorCode::None, 1));
        expect_taken(&full.broker, &full.aged, 0, &batch(&[(b"k", b"v")], None));
        wait::until_true("old records to go", || first_offset(&full.broker, &full.aged, 0) == 1);
        let entered = i64::from(waits);
        assert_eq!(full.broker.end_offsets(&topic, 1), [entered + 1], "the first part is there");
        assert_eq!(delete_records(&full.broker, &topic, 0, entered + 1).0, ErrorCode::KafkaStorageError);
        assert_eq!(delete_records(&full.broker, &topic, 0, HIGH_WATERMARK), (ErrorCode::None, entered));

        end(&mut full.broker, ending);
        make_room(full.two.path());
        full.broker.restart();
        for (sender, partition, number) in [(first, 0, waits)].into_iter().chain(behind) {
            expect_taken(&full.broker, &topic, partition, &Full::batch(sender, number));
        }
        let once = entered + 4;
        assert_eq!(full.broker.end_offsets(&topic, PARTITIONS), [once; PARTITIONS as usize], "{ending:?}: once each");
    }
}

/// A topic is held where the disk of a part is full at the start. In the moment between there being room and the journal being
/// carried out, records that are deleted take no producer along and bring no batch back.
#[test]
fn records_deleted_while_a_topic_is_held_on_a_full_disk_bring_none_back() {
    let Some(mut full) = Full::new("records_deleted_while_a_topic_is_held_on_a_full_disk_bring_none_back") else {
        return;
    };
    let topic = full.topic.clone();
    let sender = full.broker.new_producer();
    let waits = full.fill(sender);
    full.broker.kill9();
    full.broker.restart();
    full.broker.wait_for_line(0, &["topics take no batches until theirs can be carried out"]);
    make_room(full.two.path());
    let (code, _) = delete_records(&full.broker, &topic, 0, 1);
    // Unless it was carried out in these milliseconds.
    assert!(matches!(code, ErrorCode::KafkaStorageError | ErrorCode::None), "{code:?}");
    wait::until_true("the topic to take batches again", || {
        send(&full.broker, &topic, 0, 30_000, &Full::batch(sender, waits + 1)).0 == ErrorCode::None
    });
    full.broker.kill9();
    full.broker.restart();
    for number in waits - 1..waits + 2 {
        expect_taken(&full.broker, &topic, 0, &Full::batch(sender, number));
    }
    let once = i64::from(waits) + 2;
    assert_eq!(full.broker.end_offsets(&topic, PARTITIONS), [once; PARTITIONS as usize], "each record once");
}

/// Where the route journal begins its next entry.
fn journal_file(directory: &Path) -> PathBuf {
    let files = std::fs::read_dir(directory.join("route")).expect("the route journal");
    files.map(|file| file.expect("a file").path()).max().expect("a file of the journal")
}

/// A broker whose route journal is in `one` and all of whose topic `healthy` is in `two`, not running.
fn healthy_beside_the_journal(one: &Path, two: &Path) -> (Broker, Sender) {
    let mut broker = broker_on(&[two]).start();
    spread_topic(&broker, "healthy");
    broker.create_topic("plain", 1, &[]);
    let sender = broker.new_producer();
    broker.terminate();
    let both = format!("{},{}", one.display(), two.display());
    broker.restart_with(|builder| builder.set("log.dirs", &both));
    broker.terminate();
    (broker, sender)
}

/// Starts it with system calls on the route journal that fail with EIO, as `when` says: as strace counts, per thread.
fn fail_journal(broker: &mut Broker, one: &Path, call: &str, when: &str) {
    let (traced, injected) = (format!("trace={call}"), format!("inject={call}:error=EIO{when}"));
    let (journal, trace) = (journal_file(one).display().to_string(), one.join("trace").display().to_string());
    let words = ["strace", "-f", "-qq", "-e", &traced, "-e", &injected, "-P", &journal, "-o", &trace];
    broker.restart_with(|builder| builder.under(&words));
}

#[test]
fn a_journal_that_fails_at_the_start_costs_topics_with_a_plugin_and_no_others() {
    if let Some(why) = ottla_tests::syscalls::unavailable() {
        return skip::test("a_journal_that_fails_at_the_start_costs_topics_with_a_plugin_and_no_others", &why);
    }
    let home = TempDir::new().expect("a temporary directory");
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    let (mut broker, sender) = healthy_beside_the_journal(&one, &two);
    fail_journal(&mut broker, &one, "fdatasync", "");
    expect_taken(&broker, "plain", 0, &batch(&[(b"k", b"v")], None));
    let batch = moved(sender, 0, PARTITIONS as usize, 10);
    assert_eq!(send(&broker, "healthy", 0, 30_000, &batch).0, ErrorCode::KafkaStorageError);
    broker.terminate();
    broker.restart_with(|builder| builder.under(&[]));
    expect_taken(&broker, "healthy", 0, &batch);
    assert_eq!(broker.end_offsets("healthy", PARTITIONS), [1; PARTITIONS as usize]);
}

#[test]
fn what_follows_a_batch_that_the_journal_refused_is_refused_and_nothing_acknowledged_is_forgotten() {
    let name = "what_follows_a_batch_that_the_journal_refused_is_refused_and_nothing_acknowledged_is_forgotten";
    if let Some(why) = ottla_tests::syscalls::unavailable() {
        return skip::test(name, &why);
    }
    // A write that fails leaves no entry, a sync leaves one. The first calls of each thread succeed, so that the start does.
    for (call, ending) in [
        ("pwritev", Ending::Terminated),
        ("pwritev", Ending::Killed),
        ("fdatasync", Ending::Terminated),
        ("fdatasync", Ending::Killed),
    ] {
        let home = TempDir::new().expect("a temporary directory");
        let (one, two) = (home.path().join("one"), home.path().join("two"));
        let (mut broker, sender) = healthy_beside_the_journal(&one, &two);
        fail_journal(&mut broker, &one, call, ":when=9+");
        // Batches to three partitions until one fails, which comes again and again, with one behind it that stays.
        let of = |number: i32| moved(sender, number * 3, 3, 10);
        let failing = (0..20).find(|number| {
            let (code, message) = send(&broker, "healthy", 0, 30_000, &of(*number));
            assert!(matches!(code, ErrorCode::None | ErrorCode::KafkaStorageError), "{call} {ending:?}: {message}");
            code != ErrorCode::None
        });
        let failing = failing.expect("a batch that fails");
        let (moves, stays) = (of(failing), moved(sender, (failing + 1) * 3, 1, 10));
        for _ in 0..3 {
            let (code, message) = send(&broker, "healthy", 0, 30_000, &moves);
            assert_eq!(code, ErrorCode::KafkaStorageError, "{call} {ending:?}: {message}");
            let (code, message) = send(&broker, "healthy", 0, 30_000, &stays);
            assert!(
                matches!(code, ErrorCode::OutOfOrderSequenceNumber | ErrorCode::KafkaStorageError),
                "{call} {ending:?}: {code:?} {message}"
            );
        }
        end(&mut broker, ending);
        broker.restart_with(|builder| builder.under(&[]));
        for _ in 0..2 {
            expect_taken(&broker, "healthy", 0, &moves);
            expect_taken(&broker, "healthy", 0, &stays);
        }
        let all = i64::from(failing) + 1;
        let ends = [all + 1, all, all, 0];
        assert_eq!(broker.end_offsets("healthy", PARTITIONS), ends, "{call} {ending:?}: each record once");
    }
}
