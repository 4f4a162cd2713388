//! Stock clients as members of groups: three of them share a topic while they come and go and the broker is restarted and
//! killed. Every record is handed out at least once, and no offset that was committed is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;

use ottla_tests::client::{Client, Sending, run};
use ottla_tests::{Broker, Record, skip, wait};
use parking_lot::Mutex;
use serde_json::json;

const PARTITIONS: i32 = 6;
const RECORDS_PER_ROUND: usize = 120;
const TOPIC: &str = "orders";
/// Longer than a member takes to come back, on a machine that is busy as well.
const SESSION_TIMEOUT_MS: u32 = 30_000;

#[test]
fn kcat_shares_a_topic() {
    members_come_and_go(&kcat());
}

#[test]
fn confluent_kafka_shares_a_topic() {
    members_come_and_go(&Kind { cooperative: true, instances: true, ..classic(Client::Confluent) });
}

#[test]
fn confluent_kafka_shares_a_topic_with_the_consumer_protocol() {
    members_come_and_go(&Kind { instances: true, ..consumer(Client::Confluent) });
}

#[test]
fn kafka_python_shares_a_topic() {
    members_come_and_go(&Kind { cooperative: true, instances: true, ..classic(Client::KafkaPython) });
}

#[test]
fn aiokafka_shares_a_topic() {
    members_come_and_go(&Kind { instances: true, ..classic(Client::Aiokafka) });
}

#[test]
fn kafkajs_shares_a_topic() {
    members_come_and_go(&classic(Client::KafkaJs));
}

#[test]
fn java_shares_a_topic() {
    members_come_and_go(&Kind { cooperative: true, instances: true, ..classic(Client::Java) });
}

#[test]
fn java_shares_a_topic_with_the_consumer_protocol() {
    members_come_and_go(&Kind { instances: true, ..consumer(Client::Java) });
}

#[test]
fn java_3_shares_a_topic() {
    members_come_and_go(&Kind { instances: true, ..classic(Client::Java3) });
}

/// Without static members: in 3.9 the protocol is a preview, and one of several static members that return gets other
/// partitions than it had.
#[test]
fn java_3_shares_a_topic_with_the_consumer_protocol() {
    members_come_and_go(&consumer(Client::Java3));
}

#[test]
fn franz_go_shares_a_topic() {
    members_come_and_go(&Kind { cooperative: true, instances: true, ..classic(Client::FranzGo) });
}

#[test]
fn sarama_shares_a_topic() {
    members_come_and_go(&Kind { instances: true, ..classic(Client::Sarama) });
}

#[test]
fn kafka_go_shares_a_topic() {
    members_come_and_go(&classic(Client::KafkaGo));
}

/// Everything above, longer, and the assignors that share out everything anew with each rebalance.
#[test]
fn at_night_members_come_and_go_for_longer() {
    if !at_night() {
        return skip::test("at_night_members_come_and_go_for_longer", "OTTLA_TEST_SIZE is not `night`");
    }
    for client in [Client::Confluent, Client::KafkaPython, Client::Java, Client::FranzGo] {
        members_come_and_go(&Kind { instances: true, ..classic(client) });
    }
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

/// How a client takes part in a group.
#[derive(Debug, Clone, Copy)]
struct Kind {
    client: Client,
    /// `classic` or `consumer`.
    protocol: &'static str,
    /// A rebalance takes from a member only the partitions that move.
    cooperative: bool,
    /// The client has `group.instance.id`.
    instances: bool,
    /// It ends when no broker can be reached, so that none is restarted under it.
    ends_with_broker: bool,
}

fn kcat() -> Kind {
    Kind { ends_with_broker: true, ..classic(Client::Kcat) }
}

fn classic(client: Client) -> Kind {
    Kind { client, protocol: "classic", cooperative: false, instances: false, ends_with_broker: false }
}

fn consumer(client: Client) -> Kind {
    Kind { protocol: "consumer", cooperative: true, ..classic(client) }
}

fn at_night() -> bool {
    std::env::var("OTTLA_TEST_SIZE").is_ok_and(|size| size == "night")
}

fn members_come_and_go(kind: &Kind) {
    if let Some(why) = kind.client.missing() {
        return skip::test(&format!("{kind:?}"), why);
    }
    let mut group = Group::new(*kind);
    group.produce();
    group.join(None);
    wait::until_true("the first member has everything", || group.members[0].values().len() == group.sent.len());
    group.join(None);
    group.join(kind.instances.then_some("third"));
    // Records come until all members have some: each has its share of the partitions.
    wait::until_true("every member has a share", || {
        group.produce();
        group.members.iter().all(|member| !member.values().is_empty())
    });
    if kind.cooperative {
        let first = group.members[0].ownerships();
        assert!(!first.contains(&Vec::new()), "a cooperative rebalance took everything from a member: {first:?}");
    }
    if kind.instances {
        group.third_member_returns();
    }
    for _ in 0..if at_night() { 10 } else { 1 } {
        if !kind.ends_with_broker {
            group.broker_restarts(|broker| assert!(broker.terminate().success()));
            group.broker_restarts(Broker::kill9);
        }
        group.leave(1);
        group.produce_and_wait();
        group.join(None);
    }
    group.produce_and_wait();
    wait::until_true("everything is committed", || {
        committed(&group.broker).values().sum::<i64>() == group.sent.len() as i64
    });
    while !group.members.is_empty() {
        group.leave(0);
    }
    assert_not_behind(&committed(&group.broker), &group.highest());
}

/// Members of one group, the broker they share, and what was sent to their topic.
struct Group {
    kind: Kind,
    broker: Broker,
    members: Vec<Member>,
    left: Vec<Member>,
    sent: Vec<String>,
    rounds: usize,
}

impl Group {
    fn new(kind: Kind) -> Group {
        let broker = broker();
        broker.create_topic(TOPIC, PARTITIONS, &[]);
        Group { kind, broker, members: Vec::new(), left: Vec::new(), sent: Vec::new(), rounds: 0 }
    }

    fn join(&mut self, instance: Option<&str>) {
        self.members.push(Member::start(&self.kind, &self.broker.bootstrap(), instance));
    }

    /// Has a member leave, and waits until it has.
    fn leave(&mut self, index: usize) {
        let mut member = self.members.remove(index);
        member.leave();
        self.left.push(member);
    }

    fn produce(&mut self) {
        self.sent.append(&mut produce(&self.broker, self.rounds));
        self.rounds += 1;
    }

    /// Sends a round, and waits until every record so far was handed to a member.
    fn produce_and_wait(&mut self) {
        self.produce();
        wait::until_true("every record is handed out", || {
            let seen: BTreeSet<String> = self.ever().flat_map(Member::values).collect();
            self.sent.iter().all(|value| seen.contains(value))
        });
    }

    /// The last member, the third, goes and comes back within its session: it gets what it had, the others notice nothing.
    fn third_member_returns(&mut self) {
        let all: Vec<i32> = (0..PARTITIONS).collect();
        wait::until_true("each partition has one owner", || {
            let mut owned: Vec<i32> = self.members.iter().flat_map(Member::owns).collect();
            owned.sort_unstable();
            owned == all
        });
        let had = self.members[2].owns();
        let others = |group: &Group| [group.members[0].ownerships(), group.members[1].ownerships()];
        let before = others(self);
        self.leave(2);
        self.join(Some("third"));
        wait::until_true("the member is given what it had", || self.members[2].owns() == had);
        assert_eq!(others(self), before, "the other members were disturbed");
        self.produce_and_wait();
    }

    /// No commit goes back with a broker that ends so and starts again, and no record is skipped.
    fn broker_restarts(&mut self, end: fn(&mut Broker)) {
        let (told, before) = (self.highest(), committed(&self.broker));
        end(&mut self.broker);
        self.broker.restart();
        let after = committed(&self.broker);
        assert_not_behind(&after, &told);
        assert_not_behind(&after, &before);
        self.produce_and_wait();
    }

    /// The highest offset of each partition that a member was told is committed.
    fn highest(&self) -> BTreeMap<i32, i64> {
        let mut highest = BTreeMap::new();
        for (partition, offset) in self.ever().flat_map(Member::committed) {
            let known = highest.entry(partition).or_insert(offset);
            *known = offset.max(*known);
        }
        highest
    }

    /// All members, those that have left too.
    fn ever(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.left)
    }
}

fn broker() -> Broker {
    let settings = [
        ("group.initial.rebalance.delay.ms", "100"),
        ("group.consumer.heartbeat.interval.ms", "300"),
        ("group.consumer.session.timeout.ms", &SESSION_TIMEOUT_MS.to_string()),
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
    fn start(kind: &Kind, bootstrap: &str, instance: Option<&str>) -> Member {
        let options = json!({
            "bootstrap": bootstrap, "topic": TOPIC, "group": "members", "protocol": kind.protocol,
            "cooperative": kind.cooperative, "instance": instance, "session_timeout_ms": SESSION_TIMEOUT_MS,
        });
        let mut command = kind.client.command("join", &options);
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

    /// What it owned, from the first partition on, change by change.
    fn ownerships(&self) -> Vec<Vec<i32>> {
        let lines = self.lines();
        let owned = lines.iter().filter_map(|line| line.strip_prefix("owns"));
        let numbers = |text: &str| text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let mut changes: Vec<Vec<i32>> = owned.map(numbers).skip_while(Vec::is_empty).collect();
        changes.dedup();
        changes
    }

    /// What it owns.
    fn owns(&self) -> Vec<i32> {
        self.ownerships().pop().unwrap_or_default()
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
