//! Our client as members of groups, in both protocols: three of them share a topic while they come and go and the broker is
//! restarted and killed. Every record is handed out at least once, none is skipped, and no commit is forgotten.

use std::time::Duration;

use ottla_client::{
    Assignor, Classify, ConsumeError, Consumer, ConsumerConfig, ErrorCode, Event, GroupConfig, GroupProtocol,
    OffsetReset, ProducerConfig, ProducerRecord, StartFrom, TopicPartition,
};
use ottla_tests::members::Sharing;
use ottla_tests::{Broker, wait};

const PARTITIONS: i32 = 6;
const RECORDS: usize = 120;
const TOPIC: &str = "orders";
const PATIENCE: Duration = Duration::from_secs(30);

fn broker() -> Broker {
    let settings = [
        ("group.initial.rebalance.delay.ms", "100"),
        ("group.consumer.heartbeat.interval.ms", "300"),
        ("offsets.topic.num.partitions", "5"),
    ];
    let broker = settings.into_iter().fold(Broker::builder(), |broker, (name, value)| broker.set(name, value)).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    broker
}

fn config(broker: &Broker, set: impl FnOnce(&mut GroupConfig)) -> ConsumerConfig {
    let mut group = GroupConfig::new("members");
    group.heartbeat_interval_ms = 300;
    group.auto_commit = false;
    set(&mut group);
    let mut config = ConsumerConfig::new(&broker.bootstrap());
    config.client.reconnect_backoff_ms_max = 200;
    config.offset_reset = OffsetReset::Earliest;
    config.group = Some(group);
    config
}

fn by(assignor: Assignor) -> impl FnOnce(&mut GroupConfig) {
    move |group| group.assignors = vec![assignor]
}

#[test]
fn cooperative_members_share_a_topic() {
    members_come_and_go(by(Assignor::CooperativeSticky), true);
}

#[test]
fn eager_members_share_a_topic() {
    members_come_and_go(by(Assignor::Range), false);
}

#[test]
fn members_share_a_topic_with_the_consumer_protocol() {
    members_come_and_go(|group| group.protocol = GroupProtocol::Consumer, true);
}

fn members_come_and_go(set: impl FnOnce(&mut GroupConfig), keeps_partitions: bool) {
    let mut broker = broker();
    let mut sharing = Sharing::new(config(&broker, set), TOPIC, PARTITIONS);
    sharing.produce(RECORDS);
    sharing.join(None);
    wait::until_true("the first member has everything", || sharing.missing().is_empty());
    sharing.join(None);
    sharing.join(Some("third"));
    sharing.wait_until_shared();
    sharing.produce_and_wait(RECORDS);
    if keeps_partitions {
        let first = sharing.members[0].story();
        let emptied = first.owned.iter().skip(1).any(std::collections::BTreeSet::is_empty);
        assert!(!emptied, "a rebalance took everything from a member: {:?}", first.owned);
    }
    // The static member goes and comes back within its session: the others notice nothing.
    let before: Vec<_> = sharing.members[..2].iter().map(|member| member.story().owned.clone()).collect();
    let had = sharing.members[2].owns();
    sharing.leave(2);
    sharing.join(Some("third"));
    wait::until_true("the member is given what it had", || sharing.members[2].owns() == had);
    let after: Vec<_> = sharing.members[..2].iter().map(|member| member.story().owned.clone()).collect();
    assert_eq!(after, before, "the others were disturbed");
    for end in [|broker: &mut Broker| assert!(broker.terminate().success()), Broker::kill9] {
        sharing.produce(RECORDS);
        end(&mut broker);
        broker.restart();
        sharing.assert_commits_kept();
        sharing.produce_and_wait(RECORDS);
    }
    sharing.leave(1);
    sharing.produce_and_wait(RECORDS);
    sharing.join(None);
    sharing.wait_until_shared();
    sharing.produce_and_wait(RECORDS);
    while !sharing.members.is_empty() {
        sharing.leave(0);
    }
    sharing.assert_commits_kept();
    sharing.assert_all_read();
}

/// Runs `test` on a runtime of its own.
fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test)
}

async fn produce(broker: &Broker, values: &[&str]) {
    let producer = ottla_client::Producer::new(ProducerConfig::new(&broker.bootstrap())).expect("a producer");
    for value in values {
        let record = ProducerRecord::new(TOPIC).partition(0).value(value);
        producer.send(&record).await.expect("it is taken over").await.expect("it is stored");
    }
}

async fn values(consumer: &Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let records = consumer.poll(1, PATIENCE).await.expect("a record");
        values.extend(
            records.iter().map(|record| String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned()),
        );
    }
    values
}

fn member(broker: &Broker, set: impl FnOnce(&mut GroupConfig)) -> Consumer {
    let consumer = Consumer::new(config(broker, set)).expect("a consumer");
    consumer.subscribe(&[TOPIC]).expect("a subscription");
    consumer
}

/// The record that was polled last is not done with before the next poll, unless the member leaves in order.
#[test]
fn auto_commit_commits_what_is_done_with_and_the_rest_when_the_member_leaves() {
    let broker = broker();
    run(async {
        produce(&broker, &["a", "b", "c", "d"]).await;
        let auto = |group: &mut GroupConfig| {
            group.auto_commit = true;
            group.auto_commit_interval_ms = 20;
        };
        let consumer = member(&broker, auto);
        let place = [TopicPartition::new(TOPIC, 0)];
        assert_eq!(values(&consumer, 2).await, ["a", "b"]);
        wait_for_commit(&consumer, &place, 1).await;
        // Time for many more commits: "b" is still being worked on.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(consumer.committed(&place, PATIENCE).await.unwrap()[&place[0]], 1);
        consumer.leave(PATIENCE).await.unwrap();
        let consumer = member(&broker, auto);
        assert_eq!(values(&consumer, 1).await, ["c"]);
        consumer.close();
    });
}

async fn wait_for_commit(consumer: &Consumer, place: &[TopicPartition], offset: i64) {
    loop {
        let committed = consumer.committed(place, PATIENCE).await.unwrap();
        if committed.get(&place[0]) == Some(&offset) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_member_that_polls_too_late_is_told_and_joins_again_with_the_next_poll() {
    let broker = broker();
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        run(async {
            let consumer = member(&broker, |group| {
                group.protocol = protocol;
                group.poll_interval_ms_max = 700;
            });
            let Ok(Event::Assigned(partitions)) = consumer.next(1, PATIENCE).await else { panic!("no assignment") };
            assert_eq!(partitions.len(), PARTITIONS as usize);
            tokio::time::sleep(Duration::from_millis(1500)).await;
            // The group is empty now, and would take a commit from outside: this one comes from a member of before.
            let error =
                consumer.commit_offsets(&[(partitions[0].clone(), 5)].into(), PATIENCE).await.expect_err("too late");
            assert_eq!(error.code(), Some(ErrorCode::UnknownMemberId), "{error}");
            let error = consumer.next(1, PATIENCE).await.expect_err("too late");
            assert!(matches!(error, ConsumeError::PolledTooLate { interval_ms: 700, .. }), "{error}");
            assert!(error.is_retriable() && !error.is_fatal());
            let lost = consumer.next(1, PATIENCE).await.expect("what is lost");
            assert!(matches!(&lost, Event::Lost(lost) if *lost == partitions), "{lost:?}");
            let again = consumer.next(1, PATIENCE).await.expect("an assignment");
            assert!(matches!(&again, Event::Assigned(again) if again.len() == partitions.len()), "{again:?}");
            consumer.leave(PATIENCE).await.unwrap();
        });
    }
}

#[test]
fn a_partition_without_a_committed_offset_begins_where_the_rule_says() {
    let broker = broker();
    run(async {
        produce(&broker, &["a"]).await;
        let mut settings = config(&broker, |_| {});
        settings.offset_reset = OffsetReset::Fail;
        let consumer = Consumer::new(settings.clone()).unwrap();
        consumer.subscribe(&[TOPIC]).unwrap();
        let error = consumer.poll(1, PATIENCE).await.expect_err("there is no rule");
        assert!(matches!(error, ConsumeError::NoCommittedOffset { .. }), "{error}");
        consumer.leave(PATIENCE).await.ok();

        settings.group.as_mut().unwrap().start = Some(StartFrom::Latest);
        let consumer = Consumer::new(settings.clone()).unwrap();
        consumer.subscribe(&[TOPIC]).unwrap();
        assert!(matches!(consumer.next(1, PATIENCE).await, Ok(Event::Assigned(_))));
        // The end is looked up before "b" is sent.
        while consumer.position(TOPIC, 0).unwrap().is_none() {
            consumer.poll(1, Duration::from_millis(5)).await.unwrap();
        }
        produce(&broker, &["b"]).await;
        assert_eq!(values(&consumer, 1).await, ["b"]);
        consumer.leave(PATIENCE).await.unwrap();
    });
}

#[test]
fn a_pattern_takes_in_topics_that_come_later() {
    let broker = broker();
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let later = format!("orders-{protocol:?}").to_lowercase();
        run(async {
            let mut settings = config(&broker, |group| group.protocol = protocol);
            settings.client.metadata_age_ms_max = 100;
            let consumer = Consumer::new(settings).unwrap();
            let bad = consumer.subscribe_pattern("orders(").expect_err("it does not close");
            assert!(bad.to_string().contains("orders("), "{bad}");
            consumer.subscribe_pattern("orders(-.*)?").unwrap();
            let mut owned = Vec::new();
            let mut created = false;
            while !owned.iter().any(|it: &TopicPartition| *it.topic == *later) {
                match consumer.next(1, PATIENCE).await.expect("an event") {
                    Event::Assigned(partitions) => owned.extend(partitions),
                    Event::Revoked(gone) | Event::Lost(gone) => owned.retain(|it| !gone.contains(it)),
                    Event::Records(_) => {}
                }
                if !created && owned.len() >= PARTITIONS as usize {
                    broker.create_topic(&later, 1, &[]);
                    created = true;
                }
            }
            consumer.leave(PATIENCE).await.unwrap();
        });
    }
}

#[test]
fn what_a_group_refuses_says_why_and_what_to_do() {
    let broker = broker();
    run(async {
        let first = member(&broker, by(Assignor::Range));
        assert!(matches!(first.next(1, PATIENCE).await, Ok(Event::Assigned(_))));
        let second = member(&broker, by(Assignor::RoundRobin));
        let error = second.next(1, PATIENCE).await.expect_err("they have no assignor in common");
        assert_eq!((error.code(), error.is_fatal()), (Some(ErrorCode::InconsistentGroupProtocol), true));
        assert!(error.to_string().contains("choose other `assignors`"), "{error}");
        let alone = Consumer::new(ConsumerConfig::new(&broker.bootstrap())).unwrap();
        assert!(matches!(alone.subscribe(&[TOPIC]), Err(ConsumeError::NoGroup)));
        let by_hand = first.assign_topic(TOPIC, StartFrom::Earliest).await;
        assert!(matches!(by_hand, Err(ConsumeError::Subscribed { .. })), "{by_hand:?}");
        first.leave(PATIENCE).await.unwrap();
    });
}

/// Commits of one that is not a member any more must not move what its successor reads.
#[test]
fn offsets_can_be_committed_by_hand_and_only_by_a_member_of_the_day() {
    let broker = broker();
    run(async {
        let consumer = member(&broker, |_| {});
        assert!(matches!(consumer.next(1, PATIENCE).await, Ok(Event::Assigned(_))));
        let place = TopicPartition::new(TOPIC, 3);
        consumer.commit_offsets(&[(place.clone(), 7)].into(), PATIENCE).await.unwrap();
        assert_eq!(consumer.committed(std::slice::from_ref(&place), PATIENCE).await.unwrap()[&place], 7);
        let stranger = Consumer::new(config(&broker, |_| {})).unwrap();
        let error =
            stranger.commit_offsets(&[(place.clone(), 0)].into(), PATIENCE).await.expect_err("the group has a member");
        assert_eq!(error.code(), Some(ErrorCode::UnknownMemberId), "{error}");
        assert_eq!(consumer.committed(std::slice::from_ref(&place), PATIENCE).await.unwrap()[&place], 7);
        consumer.leave(PATIENCE).await.unwrap();
    });
}
