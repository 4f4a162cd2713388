//! Several log directories: each fails alone, a missing one is never taken for an empty one.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ottla_tests::admin::Answer;
use ottla_tests::batch::{Sender, batch};
use ottla_tests::client::{Finished, run};
use ottla_tests::connection::Connection;
use ottla_tests::guest::Guest;
use ottla_tests::{Broker, artifact, skip};
use ottla_wire::ErrorCode;
use ottla_wire::message::{
    DescribeLogDirsRequest, FetchPartition, FetchRecords, FetchRequest, FetchTopic, ListOffsetsPartition,
    ListOffsetsRequest, ListOffsetsTopic, MetadataRequest, MetadataRequestTopic,
};

const TOPIC: &str = "spread";
const PARTITIONS: i32 = 4;

fn broker_on(one: &Path, two: &Path) -> ottla_tests::broker::Builder {
    Broker::builder().set("log.dirs", &format!("{},{}", one.display(), two.display()))
}

fn produce(broker: &Broker, partition: i32, value: &str) -> ErrorCode {
    send(broker, partition, &batch(&[(b"k", value.as_bytes())], None)).0
}

/// The error, and what the broker says about it.
fn send(broker: &Broker, partition: i32, records: &[u8]) -> (ErrorCode, String) {
    let Answer { code, message } =
        Connection::to(broker).produce(TOPIC, partition, records).expect("the broker answers");
    (code, message)
}

/// The error, or how many bytes of records there are from the beginning on.
fn fetch(broker: &Broker, partition: i32) -> Result<usize, ErrorCode> {
    let partition = FetchPartition { partition, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![partition], ..FetchTopic::default() };
    let request = FetchRequest { topics: vec![topic], ..FetchRequest::default() };
    Connection::to(broker).call(11, &request, |response| {
        let partition = &response.responses[0].partitions[0];
        match (partition.error_code, &partition.records) {
            (ErrorCode::None, FetchRecords::Bytes(bytes)) => Ok(bytes.len()),
            (ErrorCode::None, _) => Ok(0),
            (error, _) => Err(error),
        }
    })
}

fn end_offset(broker: &Broker, partition: i32) -> Result<i64, ErrorCode> {
    let partition =
        ListOffsetsPartition { partition_index: partition, timestamp: -1, ..ListOffsetsPartition::default() };
    let topic = ListOffsetsTopic { name: TOPIC.into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
    Connection::to(broker).call(7, &request, |response| {
        let partition = &response.topics[0].partitions[0];
        if partition.error_code == ErrorCode::None { Ok(partition.offset) } else { Err(partition.error_code) }
    })
}

/// Error and leader of each partition.
fn leaders(broker: &Broker) -> Vec<(ErrorCode, i32)> {
    let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    Connection::to(broker).call(9, &request, |response| {
        let mut partitions = response.topics[0].partitions.clone();
        partitions.sort_by_key(|partition| partition.partition_index);
        partitions.iter().map(|partition| (partition.error_code, partition.leader_id)).collect()
    })
}

/// Which partitions of the topic are in a directory on the disk.
fn partitions_in(directory: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut found: Vec<i32> = names.filter_map(|name| name.strip_prefix(&format!("{TOPIC}-"))?.parse().ok()).collect();
    found.sort_unstable();
    found
}

fn serve_until_it_ends(data: &Path, directories: &str) -> Finished {
    let mut command = Command::new(artifact::ottla());
    command.arg("serve").arg("--data-dir").arg(data).args(["--listen", "127.0.0.1:0"]);
    command.args(["--set", &format!("log.dirs={directories}")]);
    run(command, &[])
}

/// strace in front of the broker: every sync of a segment in these directories fails, as on a disk that is dying.
fn failing_syncs(broker: &mut Broker, trace: &Path, directories: &[&Path]) {
    failing(broker, trace, directories, "fdatasync", "EIO");
}

/// The same for any system call and error.
fn failing(broker: &mut Broker, trace: &Path, directories: &[&Path], call: &str, error: &str) {
    let (traced, injected) = (format!("trace={call}"), format!("inject={call}:error={error}"));
    let mut words: Vec<String> = ["strace", "-f", "-qq", "-e", &traced, "-e", &injected].map(str::to_owned).to_vec();
    for directory in directories {
        for partition in partitions_in(directory) {
            let segment = directory.join(format!("{TOPIC}-{partition}/00000000000000000000.log"));
            words.extend(["-P".to_owned(), segment.display().to_string()]);
        }
    }
    words.extend(["-o".to_owned(), trace.display().to_string()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // A start after a kill would sync what it finds, and fail there.
    broker.terminate();
    broker.restart_with(|builder| builder.under(&words));
}

#[test]
fn a_directory_that_fails_takes_only_its_own_partitions_offline() {
    if let Some(why) = ottla_tests::syscalls::unavailable() {
        return skip::test("a_directory_that_fails_takes_only_its_own_partitions_offline", &why);
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    let mut broker = broker_on(&one, &two).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    let (here, there) = (partitions_in(&one), partitions_in(&two));
    assert_eq!((here.len(), there.len()), (2, 2), "new partitions go where the fewest are");
    for partition in 0..PARTITIONS {
        assert_eq!(produce(&broker, partition, "before"), ErrorCode::None);
    }

    failing_syncs(&mut broker, &home.path().join("trace"), &[&two]);
    assert_eq!(produce(&broker, there[0], "lost"), ErrorCode::KafkaStorageError);
    broker.wait_for_line(0, &["log directory offline", &two.display().to_string()]);
    for &partition in &there {
        assert_eq!(produce(&broker, partition, "lost"), ErrorCode::KafkaStorageError);
        assert_eq!(fetch(&broker, partition), Err(ErrorCode::KafkaStorageError));
        assert_eq!(end_offset(&broker, partition), Err(ErrorCode::KafkaStorageError));
    }
    for &partition in &here {
        assert_eq!(produce(&broker, partition, "after"), ErrorCode::None);
        assert!(fetch(&broker, partition).expect("records") > 0);
        assert_eq!(end_offset(&broker, partition), Ok(2));
    }
    let wanted = (0..PARTITIONS).map(|partition| {
        if there.contains(&partition) { (ErrorCode::LeaderNotAvailable, -1) } else { (ErrorCode::None, 1) }
    });
    assert_eq!(leaders(&broker), wanted.collect::<Vec<_>>());
    // A topic that is created now goes to the directory that is left.
    broker.create_topic("later", 3, &[]);
    assert!(!two.join("later-0").exists());
}

#[test]
fn a_directory_whose_disk_refuses_a_write_goes_offline_alone_and_the_metrics_say_so() {
    if let Some(why) = ottla_tests::syscalls::unavailable() {
        return skip::test("a_directory_whose_disk_refuses_a_write_goes_offline_alone_and_the_metrics_say_so", &why);
    }
    for error in ["EIO", "EROFS"] {
        let home = tempfile::tempdir().expect("a temporary directory");
        let (one, two) = (home.path().join("one"), home.path().join("two"));
        let mut broker = broker_on(&one, &two).set("metrics.listener", "127.0.0.1:0").start();
        broker.create_topic(TOPIC, PARTITIONS, &[]);
        let (here, there) = (partitions_in(&one), partitions_in(&two));
        for partition in 0..PARTITIONS {
            assert_eq!(produce(&broker, partition, "before"), ErrorCode::None);
        }
        failing(&mut broker, &home.path().join("trace"), &[&two], "pwritev", error);
        assert_eq!(produce(&broker, there[0], "lost"), ErrorCode::KafkaStorageError);
        broker.wait_for_line(0, &["log directory offline", &two.display().to_string()]);
        for &partition in &there {
            assert_eq!(produce(&broker, partition, "lost"), ErrorCode::KafkaStorageError);
            assert_eq!(fetch(&broker, partition), Err(ErrorCode::KafkaStorageError));
        }
        for &partition in &here {
            assert_eq!(produce(&broker, partition, "after"), ErrorCode::None);
            assert_eq!(end_offset(&broker, partition), Ok(2));
        }
        assert!(
            (ottla_tests::one_topic::metric(&broker, "ottla_log_directory_online") - 1.0).abs() < f64::EPSILON,
            "one of two"
        );
        // Another start finds what was acknowledged, and nothing else.
        broker.terminate();
        broker.restart_with(|builder| builder.under(&[]));
        for &partition in &there {
            assert_eq!(end_offset(&broker, partition), Ok(1));
        }
    }
}

#[test]
fn a_segment_that_cannot_be_read_costs_its_partition_at_a_start_and_no_other() {
    if let Some(why) = ottla_tests::syscalls::unavailable() {
        return skip::test("a_segment_that_cannot_be_read_costs_its_partition_at_a_start_and_no_other", &why);
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let log = home.path().join("log");
    let mut broker = Broker::builder().set("log.dirs", &log.display().to_string()).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        assert_eq!(produce(&broker, partition, "before"), ErrorCode::None);
    }
    // Nothing says how far the log is synced: the record may be acknowledged, and is.
    broker.kill9();
    let segment = log.join(format!("{TOPIC}-0/00000000000000000000.log")).display().to_string();
    let trace = home.path().join("trace").display().to_string();
    let words = ["strace", "-f", "-qq", "-e", "trace=pread64", "-e", "inject=pread64:error=EIO", "-P", &segment];
    let words: Vec<&str> = words.into_iter().chain(["-o", &trace]).collect();
    broker.restart_with(|builder| builder.under(&words));
    broker.wait_for_line(0, &[&format!("{TOPIC}-0: OFFLINE"), "00000000000000000000.log"]);
    assert_eq!(produce(&broker, 0, "lost"), ErrorCode::KafkaStorageError);
    assert_eq!(fetch(&broker, 0), Err(ErrorCode::KafkaStorageError));
    assert_eq!(end_offset(&broker, 0), Err(ErrorCode::KafkaStorageError));
    assert_eq!(leaders(&broker)[0], (ErrorCode::LeaderNotAvailable, -1));
    for partition in 1..PARTITIONS {
        assert_eq!(produce(&broker, partition, "after"), ErrorCode::None);
        assert_eq!(end_offset(&broker, partition), Ok(2));
    }
    broker.terminate();
    broker.restart_with(|builder| builder.under(&[]));
    assert_eq!(end_offset(&broker, 0), Ok(1));
    assert!(fetch(&broker, 0).expect("records") > 0);
}

#[test]
fn a_broker_whose_last_directory_fails_ends_with_an_error() {
    if let Some(why) = ottla_tests::syscalls::unavailable() {
        return skip::test("a_broker_whose_last_directory_fails_ends_with_an_error", &why);
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    let mut broker = broker_on(&one, &two).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        assert_eq!(produce(&broker, partition, "before"), ErrorCode::None);
    }
    failing_syncs(&mut broker, &home.path().join("trace"), &[&one, &two]);
    for directory in [&one, &two] {
        assert_eq!(produce(&broker, partitions_in(directory)[0], "lost"), ErrorCode::KafkaStorageError);
    }
    broker.wait_for_line(0, &["every log directory is offline"]);
    assert_ne!(broker.wait_for_end().code(), Some(0));

    // What was acknowledged is there when the disks work again.
    broker.restart_with(|builder| builder.under(&[]));
    for partition in 0..PARTITIONS {
        assert!(end_offset(&broker, partition).expect("an offset") >= 1);
    }
}

#[test]
fn a_disk_that_is_not_mounted_is_offline_and_comes_back_whole() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    let mut broker = broker_on(&one, &two).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        assert_eq!(produce(&broker, partition, "kept"), ErrorCode::None);
    }
    let there = partitions_in(&two);
    assert_eq!(broker.terminate().code(), Some(0));
    let away = home.path().join("away");

    // Not even a directory, and an empty one, as a mount point without its disk is.
    for empty in [false, true] {
        std::fs::rename(&two, &away).expect("a rename");
        if empty {
            std::fs::create_dir(&two).expect("a directory");
        }
        broker.restart();
        broker.wait_for_line(0, &["OFFLINE with all of its partitions", &two.display().to_string()]);
        for partition in 0..PARTITIONS {
            let lost = there.contains(&partition);
            let code = if lost { ErrorCode::KafkaStorageError } else { ErrorCode::None };
            assert_eq!(produce(&broker, partition, "kept"), code);
            assert_eq!(fetch(&broker, partition).is_err(), lost);
        }
        broker.create_topic(&format!("new-{empty}"), 2, &[]);
        assert_eq!(broker.terminate().code(), Some(0));
        assert_eq!(two.exists(), empty);
        if empty {
            assert_eq!(std::fs::read_dir(&two).expect("a directory").count(), 0, "nothing is made on the mount point");
            std::fs::remove_dir(&two).expect("an empty directory");
        }
        std::fs::rename(&away, &two).expect("a rename");
    }

    broker.restart();
    let ends: Vec<_> = (0..PARTITIONS).map(|partition| end_offset(&broker, partition)).collect();
    let wanted: Vec<_> = (0..PARTITIONS).map(|partition| Ok(if there.contains(&partition) { 1 } else { 3 })).collect();
    assert_eq!(ends, wanted);
    assert_eq!(produce(&broker, there[0], "kept"), ErrorCode::None);
}

/// Which topics have what in the route journal is known, or not even that: the journal's own directory may be the one
/// that is missing.
#[test]
fn batches_that_a_plugin_moved_wait_for_the_directory_that_is_missing_and_arrive_once() {
    const VALUES: [&[u8]; 4] = [b"0", b"1", b"2", b"3"];
    for missing in ["one", "two"] {
        let home = tempfile::tempdir().expect("a temporary directory");
        let (one, two) = (home.path().join("one"), home.path().join("two"));
        let mut broker = broker_on(&one, &two).start();
        broker.push_plugin("spread", &Guest::round_robin().component()).expect("the plugin is taken");
        broker.create_topic(TOPIC, PARTITIONS, &[("ottla.partitioner", "spread")]);
        broker.create_topic("plain", PARTITIONS, &[]);
        let sender = broker.new_producer();
        let records: Vec<(&[u8], &[u8])> = VALUES.iter().map(|value| (&b"k"[..], *value)).collect();
        let moved = |number: i32| batch(&records, Some(Sender { sequence: number * 4, ..sender }));
        let there = partitions_in(&home.path().join(missing));
        let here = (0..PARTITIONS).find(|partition| !there.contains(partition)).expect("a partition");
        for number in 0..5 {
            assert_eq!(send(&broker, here, &moved(number)).0, ErrorCode::None);
        }
        broker.kill9();

        let (path, away) = (home.path().join(missing), home.path().join("away"));
        std::fs::rename(&path, &away).expect("a rename");
        // A clean stop in between forgets nothing either.
        for _ in 0..2 {
            broker.restart();
            broker.wait_for_line(0, &["OFFLINE with all of its partitions", &path.display().to_string()]);
            for number in [4, 5] {
                let (code, message) = send(&broker, here, &moved(number));
                assert_eq!(code, ErrorCode::KafkaStorageError, "{message}");
                assert!(message.contains("route journal"), "{message}");
            }
            assert!(fetch(&broker, here).expect("what is here is read") > 0);
            assert_eq!(broker.terminate().code(), Some(0));
        }
        std::fs::rename(&away, &path).expect("a rename");
        broker.restart();
        // The last one again, which is a duplicate, and the next one.
        for number in [4, 5] {
            assert_eq!(send(&broker, here, &moved(number)).0, ErrorCode::None);
        }
        assert_eq!(broker.end_offsets(TOPIC, PARTITIONS), [6; PARTITIONS as usize], "each record once");
    }
}

/// A topic deleted while part of it cannot be reached is gone when its disk comes back.
#[test]
fn a_deletion_reaches_a_directory_that_comes_back() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    let mut broker = broker_on(&one, &two).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    broker.terminate();
    let away = home.path().join("away");
    std::fs::rename(&two, &away).expect("a rename");
    broker.restart();
    let deleted = run(ottla(&broker, &["topic", "delete", TOPIC, "--yes"]), &[]);
    deleted.expect_success();
    assert!(partitions_in(&one).is_empty());
    let again = run(ottla(&broker, &["topic", "create", TOPIC]), &[]);
    assert!(!again.status.success() && again.stderr.contains("being deleted"), "{}", again.stderr);
    broker.terminate();
    std::fs::rename(&away, &two).expect("a rename");
    broker.restart();
    assert!(partitions_in(&two).is_empty());
    broker.create_topic(TOPIC, 1, &[]);
}

fn ottla(broker: &Broker, words: &[&str]) -> Command {
    let mut command = Command::new(artifact::ottla());
    command.args(["--bootstrap", &broker.bootstrap()]).args(words);
    command
}

#[test]
fn a_partition_in_two_directories_is_refused_with_both_places() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    let directories = format!("{},{}", one.display(), two.display());
    let data = home.path().join("data");
    let mut broker = broker_on(&one, &two).data_dir(&data).start();
    broker.create_topic(TOPIC, 1, &[]);
    broker.terminate();
    let (from, to) = (one.join("spread-0"), two.join("spread-0"));
    let (from, to) = if from.exists() { (from, to) } else { (to, from) };
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(&from).arg(&to);
    run(copy, &[]).expect_success();
    let refused = serve_until_it_ends(&data, &directories);
    assert!(!refused.status.success());
    for place in [&from, &to] {
        assert!(refused.stderr.contains(&place.display().to_string()), "{}", refused.stderr);
    }

    let named_twice = serve_until_it_ends(&data, &format!("{},{}", one.display(), one.display()));
    assert!(named_twice.stderr.contains("twice"), "{}", named_twice.stderr);
}

#[test]
fn a_broker_without_any_directory_does_not_start() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = home.path().join("file");
    std::fs::write(&file, "no directory").expect("a file");
    let refused = serve_until_it_ends(&home.path().join("data"), &file.display().to_string());
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("no log directory can be opened"), "{}", refused.stderr);
    assert!(refused.stderr.contains(&file.display().to_string()), "{}", refused.stderr);
}

#[test]
fn describe_log_dirs_says_what_is_where_and_how_much_is_left() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    let mut broker = broker_on(&one, &two).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    assert_eq!(produce(&broker, 0, "sized"), ErrorCode::None);
    let bytes = fetch(&broker, 0).expect("records") as i64;
    for version in 1..=4 {
        Connection::to(&broker).call(version, &DescribeLogDirsRequest::default(), |response| {
            assert_eq!(response.results.len(), 2);
            let mut sizes = BTreeMap::new();
            for (result, path) in response.results.iter().zip([&one, &two]) {
                assert_eq!((result.error_code, &*result.log_dir), (ErrorCode::None, &*path.display().to_string()));
                assert_eq!(result.topics.len(), 1);
                let partitions = result.topics[0].partitions.iter();
                sizes.extend(partitions.map(|partition| (partition.partition_index, partition.partition_size)));
                let disk = version >= 4;
                assert_eq!(result.total_bytes > 0 && result.usable_bytes > 0, disk, "{version}");
            }
            assert_eq!(sizes, BTreeMap::from([(0, bytes), (1, 0), (2, 0), (3, 0)]));
        });
    }
    broker.terminate();
    std::fs::rename(&two, home.path().join("away")).expect("a rename");
    broker.restart();
    Connection::to(&broker).call(4, &DescribeLogDirsRequest::default(), |response| {
        let codes: Vec<_> = response.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [ErrorCode::None, ErrorCode::KafkaStorageError]);
        assert!(response.results[1].topics.is_empty());
    });
}
