//! Stock clients as members of groups: three of them share a topic while they come and go and the broker is restarted and
//! killed. Every record is handed out at least once, and no offset that was committed is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;

use ottla_tests::client::{Client, Sending, run};
use ottla_tests::{Broker, Record, wait};
use parking_lot::Mutex;
use serde_json::json;

const PARTITIONS: i32 = 6;
const RECORDS_PER_ROUND: usize = 120;
const TOPIC: &str = "orders";

#[test]
fn confluent_kafka_shares_a_topic() {
    members_come_and_go(Client::Confluent, "classic");
}

#[test]
fn confluent_kafka_shares_a_topic_with_the_consumer_protocol() {
    members_come_and_go(Client::Confluent, "consumer");
}

#[test]
fn kafka_python_shares_a_topic() {
    members_come_and_go(Client::KafkaPython, "classic");
}

#[test]
fn aiokafka_shares_a_topic() {
    members_come_and_go(Client::Aiokafka, "classic");
}

#[test]
fn kafkajs_shares_a_topic() {
    members_come_and_go(Client::KafkaJs, "classic");
}

/// librdkafka asks the group where to begin when it is assigned a partition without an offset. Debian's librdkafka crashed
/// when the broker had no groups to ask.
#[test]
fn librdkafka_begins_where_the_group_says_when_it_is_assigned_no_offset() {
    let broker = broker();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    produce(&broker, 0);
    let options =
        json!({ "bootstrap": broker.bootstrap(), "topic": TOPIC, "group": "assigned", "partitions": PARTITIONS });
    let read = run(Client::Confluent.command("assign_without_offset", &options), &[]).success().text();
    assert_eq!(read.lines().filter(|line| line.starts_with("got ")).count(), RECORDS_PER_ROUND);
}

fn members_come_and_go(client: Client, protocol: &str) {
    let mut broker = broker();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    let mut sent = produce(&broker, 0);
    let start = || Member::start(client, &broker.bootstrap(), protocol);
    let first = start();
    wait::until_true("the first member has everything", || first.values().len() == sent.len());
    let mut members = vec![first, start(), start()];
    // Records come until all members have some: each has its share of the partitions.
    let mut round = 1;
    wait::until_true("every member has a share", || {
        sent.append(&mut produce(&broker, round));
        round += 1;
        members.iter().all(|member| !member.values().is_empty())
    });
    for killed in [false, true] {
        let before = highest(&members);
        if killed {
            broker.kill9();
        } else {
            broker.terminate();
        }
        broker.restart();
        assert_not_behind(&committed(&broker), &before);
        sent.append(&mut produce(&broker, round));
        round += 1;
        all_are_handed_out(&members, &sent);
    }
    members[1].leave();
    sent.append(&mut produce(&broker, round));
    all_are_handed_out(&members, &sent);
    wait::until_true("everything is committed", || highest(&members).values().sum::<i64>() == sent.len() as i64);
    members.iter_mut().for_each(Member::leave);
    assert_eq!(committed(&broker), highest(&members));
}

fn broker() -> Broker {
    let settings = [
        ("group.initial.rebalance.delay.ms", "100"),
        ("group.consumer.heartbeat.interval.ms", "300"),
        ("group.consumer.session.timeout.ms", "10000"),
        ("offsets.topic.num.partitions", "5"),
    ];
    settings.into_iter().fold(Broker::builder(), |broker, (name, value)| broker.set(name, value)).start()
}

/// Sends a round of records and says which.
fn produce(broker: &Broker, round: usize) -> Vec<String> {
    let values: Vec<String> = (0..RECORDS_PER_ROUND).map(|number| format!("{round}-{number}")).collect();
    let records: Vec<Record> = values
        .iter()
        .zip((0..PARTITIONS).cycle())
        .map(|(value, to)| Record::to(to, value.clone(), value.clone()))
        .collect();
    Client::Kcat.produce(&broker.bootstrap(), TOPIC, &Sending::default(), &records);
    values
}

fn all_are_handed_out(members: &[Member], sent: &[String]) {
    wait::until_true("every record is handed out", || {
        let seen: BTreeSet<String> = members.iter().flat_map(Member::values).collect();
        sent.iter().all(|value| seen.contains(value))
    });
}

/// The highest offset of each partition that a member was told is committed.
fn highest(members: &[Member]) -> BTreeMap<i32, i64> {
    let mut highest = BTreeMap::new();
    for (partition, offset) in members.iter().flat_map(Member::committed) {
        let known = highest.entry(partition).or_insert(offset);
        *known = offset.max(*known);
    }
    highest
}

/// What the broker says is committed, asked for from outside the group.
fn committed(broker: &Broker) -> BTreeMap<i32, i64> {
    let options =
        json!({ "bootstrap": broker.bootstrap(), "topic": TOPIC, "group": "members", "partitions": PARTITIONS });
    let text = run(Client::Confluent.command("committed", &options), &[]).success().text();
    text.lines().filter_map(offset_in).collect()
}

fn assert_not_behind(now: &BTreeMap<i32, i64>, before: &BTreeMap<i32, i64>) {
    for (partition, offset) in before {
        assert!(now.get(partition) >= Some(offset), "partition {partition}: {offset} was committed, {now:?} is");
    }
}

/// The partition and the offset of a line `committed PARTITION OFFSET`.
fn offset_in(line: &str) -> Option<(i32, i64)> {
    let (partition, offset) = line.strip_prefix("committed ")?.split_once(' ')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// A client in a group, which says what it got and what it committed, until it is told to leave.
struct Member {
    child: Child,
    input: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Member {
    fn start(client: Client, bootstrap: &str, protocol: &str) -> Member {
        let options = json!({ "bootstrap": bootstrap, "topic": TOPIC, "group": "members", "protocol": protocol });
        let mut command = client.command("join", &options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the client starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let said = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                said.lock().push(line);
            }
        });
        Member { input: child.stdin.take(), child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// The values of the records that it was handed.
    fn values(&self) -> BTreeSet<String> {
        let lines = self.lines();
        let values = lines.iter().filter(|line| line.starts_with("got ")).filter_map(|line| line.rsplit(' ').next());
        values.map(str::to_owned).collect()
    }

    /// What it was told is committed.
    fn committed(&self) -> Vec<(i32, i64)> {
        self.lines().iter().filter_map(|line| offset_in(line)).collect()
    }

    /// Has it leave the group, and waits until it has.
    fn leave(&mut self) {
        self.input.take();
        let status = wait::until("the member to leave", || self.child.try_wait().expect("its status"));
        assert!(status.success(), "{status}");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
