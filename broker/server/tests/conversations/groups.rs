//! Consumer groups: members come together, commit, come back after a restart and a crash.

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    COORDINATOR_GROUP, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupRequestProtocol, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, LeavingMember,
    ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchResponse,
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};

use ottla_test_broker::{Client, TestBroker};

/// Members need not wait for others.
pub(crate) const NO_DELAY: &str = "group.initial.rebalance.delay.ms=0";

/// Waits until the shard of the group is loaded, creating `__consumer_offsets` on the way.
pub(crate) async fn coordinated(broker: &TestBroker, group: &str) -> Client {
    let mut client = broker.client().await;
    let request = FindCoordinatorRequest {
        key_type: COORDINATOR_GROUP,
        coordinator_keys: vec![group.into()],
        ..Default::default()
    };
    let answer = client.ask(4, &request).await;
    let found: FindCoordinatorResponse<'_> = answer.read();
    assert_eq!(found.coordinators[0].error_code, ErrorCode::None, "{found:?}");
    loop {
        let answer = client.ask(8, &fetching(group)).await;
        match answer.read::<OffsetFetchResponse<'_>>().groups[0].error_code {
            ErrorCode::CoordinatorLoadInProgress => tokio::task::yield_now().await,
            ErrorCode::None => return client,
            other => panic!("{other:?}"),
        }
    }
}

fn fetching(group: &str) -> OffsetFetchRequest<'_> {
    let groups = vec![OffsetFetchRequestGroup { group_id: group.into(), ..Default::default() }];
    OffsetFetchRequest { groups, ..Default::default() }
}

pub(crate) fn joining<'a>(group: &'a str, member_id: &'a str) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: b"meta" }],
        ..Default::default()
    }
}

pub(crate) fn committing<'a>(
    group: &'a str,
    member: (&'a str, i32),
    topic: &'a str,
    offset: i64,
) -> OffsetCommitRequest<'a> {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_metadata: Some("note".into()),
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: group.into(),
        member_id: member.0.into(),
        generation_id_or_member_epoch: member.1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) async fn commit(
    client: &mut Client,
    group: &str,
    member: (&str, i32),
    topic: &str,
    offset: i64,
) -> ErrorCode {
    let answer = client.ask(8, &committing(group, member, topic, offset)).await;
    answer.read::<OffsetCommitResponse<'_>>().topics[0].partitions[0].error_code
}

/// The committed offset of partition 0 of the only topic, if there is one.
pub(crate) async fn committed(client: &mut Client, group: &str) -> Option<i64> {
    let answer = client.ask(8, &fetching(group)).await;
    let fetched: OffsetFetchResponse<'_> = answer.read();
    assert_eq!(fetched.groups[0].error_code, ErrorCode::None);
    fetched.groups[0].topics.first().map(|topic| topic.partitions[0].committed_offset)
}

/// The member id and the generation of a group with one member, synced.
pub(crate) async fn join_alone(client: &mut Client, group: &str) -> (String, i32) {
    let answer = client.ask(9, &joining(group, "")).await;
    let given: JoinGroupResponse<'_> = answer.read();
    assert_eq!(given.error_code, ErrorCode::MemberIdRequired);
    let member_id = given.member_id.to_string();
    let answer = client.ask(9, &joining(group, &member_id)).await;
    let joined: JoinGroupResponse<'_> = answer.read();
    assert_eq!((joined.error_code, &*joined.leader), (ErrorCode::None, &*member_id));
    let generation_id = joined.generation_id;
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id,
        member_id: member_id.as_str().into(),
        assignments: vec![SyncGroupRequestAssignment { member_id: member_id.as_str().into(), assignment: b"all" }],
        ..Default::default()
    };
    let answer = client.ask(5, &request).await;
    let synced: SyncGroupResponse<'_> = answer.read();
    assert_eq!((synced.error_code, synced.assignment), (ErrorCode::None, &b"all"[..]));
    (member_id, generation_id)
}

pub(crate) async fn heartbeat(client: &mut Client, group: &str, member: (&str, i32)) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: group.into(),
        generation_id: member.1,
        member_id: member.0.into(),
        ..Default::default()
    };
    client.ask(4, &request).await.read::<HeartbeatResponse>().error_code
}

#[tokio::test]
async fn a_member_joins_commits_and_leaves() {
    let broker = TestBroker::start_with(&[NO_DELAY]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = coordinated(&broker, "g").await;
    let (member_id, generation) = join_alone(&mut client, "g").await;
    let member = (member_id.as_str(), generation);
    assert_eq!(heartbeat(&mut client, "g", member).await, ErrorCode::None);
    assert_eq!(heartbeat(&mut client, "g", (&member_id, generation + 1)).await, ErrorCode::IllegalGeneration);
    assert_eq!(commit(&mut client, "g", member, "t", 5).await, ErrorCode::None);
    assert_eq!(commit(&mut client, "g", ("stranger", generation), "t", 6).await, ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut client, "g", member, "nothing", 6).await, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(committed(&mut client, "g").await, Some(5));

    let listed = client.ask(5, &ListGroupsRequest::default()).await;
    let listed: ListGroupsResponse<'_> = listed.read();
    let groups: Vec<_> = listed.groups.iter().map(|group| (&*group.group_id, &*group.group_state)).collect();
    assert_eq!(groups, [("g", "Stable")]);
    let request = DescribeGroupsRequest { groups: vec!["g".into(), "nobody".into()], ..Default::default() };
    let described = client.ask(5, &request).await;
    let described: DescribeGroupsResponse<'_> = described.read();
    let member_of = |group: usize| described.groups[group].members.first().map(|it| it.member_id.to_string());
    assert_eq!(member_of(0).as_ref(), Some(&member_id));
    assert_eq!(described.groups[0].members[0].client_host, "/127.0.0.1");
    assert_eq!(described.groups[1].group_state, "Dead");

    let request = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    let deleted = client.ask(2, &request).await;
    assert_eq!(deleted.read::<DeleteGroupsResponse<'_>>().results[0].error_code, ErrorCode::NonEmptyGroup);
    let leaving = LeavingMember { member_id: member_id.as_str().into(), ..Default::default() };
    let leave = LeaveGroupRequest { group_id: "g".into(), members: vec![leaving], ..Default::default() };
    let left = client.ask(5, &leave).await;
    assert_eq!(left.read::<LeaveGroupResponse<'_>>().members[0].error_code, ErrorCode::None);
    assert_eq!(heartbeat(&mut client, "g", member).await, ErrorCode::UnknownMemberId);
    let deleted = client.ask(2, &request).await;
    assert_eq!(deleted.read::<DeleteGroupsResponse<'_>>().results[0].error_code, ErrorCode::None);
    assert_eq!(committed(&mut client, "g").await, None);
    broker.stop().await;
}

/// What was answered is there after a clean stop and after a crash: offsets and members.
#[tokio::test]
async fn groups_and_offsets_survive_a_restart_and_a_crash() {
    let mut broker = TestBroker::start_with(&[NO_DELAY]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = coordinated(&broker, "g").await;
    let (member_id, generation) = join_alone(&mut client, "g").await;
    for round in 0..4 {
        let member = (member_id.as_str(), generation);
        assert_eq!(commit(&mut client, "g", member, "t", round).await, ErrorCode::None);
        drop(client);
        broker = if round % 2 == 0 { broker.restart().await } else { broker.crash().await };
        client = coordinated(&broker, "g").await;
        assert_eq!(committed(&mut client, "g").await, Some(round));
        assert_eq!(heartbeat(&mut client, "g", member).await, ErrorCode::None);
    }
    drop(client);
    broker.stop().await;
}

/// JoinGroup of a second member waits for the first one, and holds up nothing else on the way.
#[tokio::test]
async fn a_second_member_waits_for_the_first_to_rejoin() {
    let broker = TestBroker::start_with(&[NO_DELAY]).await;
    let mut first = coordinated(&broker, "g").await;
    let (member_id, generation) = join_alone(&mut first, "g").await;
    let mut second = broker.client().await;
    let given = second.ask(9, &joining("g", "")).await;
    let second_id = given.read::<JoinGroupResponse<'_>>().member_id.to_string();
    second.send(9, &joining("g", &second_id)).await;
    while heartbeat(&mut first, "g", (&member_id, generation)).await == ErrorCode::None {}
    assert_eq!(heartbeat(&mut first, "g", (&member_id, generation)).await, ErrorCode::RebalanceInProgress);
    let rejoined = first.ask(9, &joining("g", &member_id)).await;
    let rejoined: JoinGroupResponse<'_> = rejoined.read();
    let joined = second.receive(9).await;
    let joined: JoinGroupResponse<'_> = joined.read();
    assert_eq!((rejoined.error_code, joined.error_code), (ErrorCode::None, ErrorCode::None));
    assert_eq!((rejoined.generation_id, joined.generation_id), (generation + 1, generation + 1));
    assert_eq!(rejoined.members.len() + joined.members.len(), 2, "the leader alone gets the members");
    broker.stop().await;
}

/// A JoinGroup that waits for minutes does not keep the broker from stopping: it is answered.
#[tokio::test]
async fn a_stop_answers_what_waits() {
    let broker = TestBroker::start_with(&["group.initial.rebalance.delay.ms=600000"]).await;
    let mut client = coordinated(&broker, "g").await;
    let given = client.ask(9, &joining("g", "")).await;
    let member_id = given.read::<JoinGroupResponse<'_>>().member_id.to_string();
    client.send(9, &joining("g", &member_id)).await;
    broker.broker.shutdown.begin();
    let answer = client.try_receive(9).await;
    let code = answer.map(|answer| answer.read::<JoinGroupResponse<'_>>().error_code);
    assert!(matches!(code, Some(ErrorCode::NotCoordinator) | None), "{code:?}");
    broker.stop().await;
}

/// As in Kafka: a new topic of the same name begins without them.
#[tokio::test]
async fn offsets_of_a_deleted_topic_go_with_it() {
    let broker = TestBroker::start_with(&[NO_DELAY]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = coordinated(&broker, "g").await;
    assert_eq!(commit(&mut client, "g", ("", -1), "t", 7).await, ErrorCode::None);
    assert_eq!(committed(&mut client, "g").await, Some(7));
    let topic = broker.broker.topics.get("t").unwrap();
    let topics = std::sync::Arc::clone(&broker.broker.topics);
    tokio::task::spawn_blocking(move || topics.delete(&topic).unwrap()).await.unwrap();
    while committed(&mut client, "g").await.is_some() {}
    broker.stop().await;
}

/// Every version of OffsetFetch says the same in its own shape.
#[tokio::test]
async fn every_version_of_offset_fetch_finds_what_was_committed() {
    let broker = TestBroker::start_with(&[NO_DELAY]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = coordinated(&broker, "g").await;
    assert_eq!(commit(&mut client, "g", ("", -1), "t", 7).await, ErrorCode::None);
    for version in 1..=7 {
        let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0, 3] };
        let request = OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
        let answer = client.ask(version, &request).await;
        let fetched: OffsetFetchResponse<'_> = answer.read();
        let offsets: Vec<_> = fetched.topics[0].partitions.iter().map(|it| it.committed_offset).collect();
        assert_eq!(offsets, [7, -1], "version {version}");
        assert_eq!(fetched.topics[0].partitions[0].metadata.as_deref(), Some("note"));
    }
    for version in [8, 9, 10] {
        let answer = client.ask(version, &fetching("g")).await;
        let fetched: OffsetFetchResponse<'_> = answer.read();
        assert_eq!(fetched.groups[0].topics[0].partitions[0].committed_offset, 7, "version {version}");
    }
    broker.stop().await;
}
