//! What members of groups get wrong, by mistake or on purpose: Kafka's error code for each, and nothing changes.

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DeleteTopicState, DeleteTopicsRequest,
    DescribeGroupsRequest, DescribeGroupsResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, LeavingMember, ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest,
    OffsetCommitResponse, SyncGroupRequest, SyncGroupResponse,
};

use ottla_test_broker::{Client, TestBroker};

use super::groups::{NO_DELAY, commit, committed, committing, coordinated, heartbeat, join_alone, joining};

/// State, members with their assignments, and the committed offset: all that a bad request must leave as it was.
type Seen = (String, Vec<(String, Vec<u8>)>, Option<i64>);

async fn seen(client: &mut Client, group: &str) -> Seen {
    let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
    let answer = client.ask(5, &request).await;
    let described: DescribeGroupsResponse<'_> = answer.read();
    let described = &described.groups[0];
    let members = described.members.iter();
    let members = members.map(|it| (it.member_id.to_string(), it.member_assignment.to_vec())).collect();
    (described.group_state.to_string(), members, committed(client, group).await)
}

async fn beat(client: &mut Client, group: &str, member: &str, generation: i32, instance: Option<&str>) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: group.into(),
        generation_id: generation,
        member_id: member.into(),
        group_instance_id: instance.map(Into::into),
    };
    client.ask(4, &request).await.read::<HeartbeatResponse>().error_code
}

async fn sync(client: &mut Client, group: &str, member: &str, generation: i32, instance: Option<&str>) -> ErrorCode {
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id: generation,
        member_id: member.into(),
        group_instance_id: instance.map(Into::into),
        ..Default::default()
    };
    client.ask(5, &request).await.read::<SyncGroupResponse<'_>>().error_code
}

async fn commit_as(
    client: &mut Client,
    group: &str,
    (member, generation): (&str, i32),
    instance: Option<&str>,
) -> ErrorCode {
    let request = OffsetCommitRequest {
        group_instance_id: instance.map(Into::into),
        ..committing(group, (member, generation), "t", 99)
    };
    client.ask(8, &request).await.read::<OffsetCommitResponse<'_>>().topics[0].partitions[0].error_code
}

#[tokio::test]
async fn a_wrong_generation_or_member_is_refused_and_changes_nothing() {
    let broker = TestBroker::start_with(&[NO_DELAY]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = coordinated(&broker, "g").await;
    let (member, generation) = join_alone(&mut client, "g").await;
    assert_eq!(commit(&mut client, "g", (&member, generation), "t", 7).await, ErrorCode::None);
    let before = seen(&mut client, "g").await;
    assert_eq!(before.2, Some(7));
    let (stranger, _) = join_alone(&mut coordinated(&broker, "other").await, "other").await;
    for (who, at, expected) in [
        (member.as_str(), generation - 1, ErrorCode::IllegalGeneration),
        (&member, generation + 1, ErrorCode::IllegalGeneration),
        (&member, i32::MAX, ErrorCode::IllegalGeneration),
        (&stranger, generation, ErrorCode::UnknownMemberId),
        ("", generation, ErrorCode::UnknownMemberId),
        ("unknown", generation, ErrorCode::UnknownMemberId),
    ] {
        assert_eq!(beat(&mut client, "g", who, at, None).await, expected, "heartbeat of {who} in {at}");
        assert_eq!(sync(&mut client, "g", who, at, None).await, expected, "sync of {who} in {at}");
        assert_eq!(commit_as(&mut client, "g", (who, at), None).await, expected, "commit of {who} in {at}");
    }
    // A commit from outside is one of a group without members alone.
    assert_eq!(commit_as(&mut client, "g", ("", -1), None).await, ErrorCode::UnknownMemberId);
    let answer = client.ask(9, &joining("g", &stranger)).await;
    assert_eq!(answer.read::<JoinGroupResponse<'_>>().error_code, ErrorCode::UnknownMemberId);
    let leaving = LeavingMember { member_id: stranger.as_str().into(), ..Default::default() };
    let request = LeaveGroupRequest { group_id: "g".into(), members: vec![leaving], ..Default::default() };
    let answer = client.ask(4, &request).await;
    let left: LeaveGroupResponse<'_> = answer.read();
    assert_eq!(left.members[0].error_code, ErrorCode::UnknownMemberId);
    assert_eq!(seen(&mut client, "g").await, before);
    assert_eq!(heartbeat(&mut client, "g", (&member, generation)).await, ErrorCode::None);
}

#[tokio::test]
async fn a_static_member_that_was_replaced_is_fenced_from_everything() {
    let broker = TestBroker::start_with(&[NO_DELAY]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = coordinated(&broker, "g").await;
    let mut join = async |member: &str| {
        let request =
            ottla_wire::message::JoinGroupRequest { group_instance_id: Some("i".into()), ..joining("g", member) };
        let answer = client.ask(9, &request).await;
        let joined: JoinGroupResponse<'_> = answer.read();
        (joined.error_code, joined.member_id.to_string(), joined.generation_id)
    };
    let (code, first, generation) = join("").await;
    assert_eq!(code, ErrorCode::None, "a static member needs no second request");
    let (code, second, _) = join("").await;
    assert_eq!(code, ErrorCode::None);
    assert_ne!(first, second);
    let (code, ..) = join(&first).await;
    assert_eq!(code, ErrorCode::FencedInstanceId);
    let before = seen(&mut client, "g").await;
    let generation = generation.max(1);
    for at in [generation, generation + 1] {
        assert_eq!(beat(&mut client, "g", &first, at, Some("i")).await, ErrorCode::FencedInstanceId);
        assert_eq!(sync(&mut client, "g", &first, at, Some("i")).await, ErrorCode::FencedInstanceId);
        assert_eq!(commit_as(&mut client, "g", (&first, at), Some("i")).await, ErrorCode::FencedInstanceId);
    }
    assert_eq!(beat(&mut client, "g", &second, generation, Some("no such instance")).await, ErrorCode::UnknownMemberId);
    let leaving =
        LeavingMember { member_id: first.as_str().into(), group_instance_id: Some("i".into()), ..Default::default() };
    let request = LeaveGroupRequest { group_id: "g".into(), members: vec![leaving], ..Default::default() };
    let answer = client.ask(4, &request).await;
    assert_eq!(answer.read::<LeaveGroupResponse<'_>>().members[0].error_code, ErrorCode::FencedInstanceId);
    assert_eq!(seen(&mut client, "g").await, before);
}

#[tokio::test]
async fn a_commit_to_a_topic_that_is_gone_is_refused_and_not_kept() {
    let broker = TestBroker::start_with(&[NO_DELAY]).await;
    let id = broker.create_topic("t", 1, &[]).await;
    let mut client = coordinated(&broker, "g").await;
    assert_eq!(commit(&mut client, "g", ("", -1), "t", 7).await, ErrorCode::None);
    let gone = DeleteTopicState { name: Some("t".into()), ..Default::default() };
    client.ask(6, &DeleteTopicsRequest { topics: vec![gone], timeout_ms: 10_000, ..Default::default() }).await;
    assert_eq!(commit(&mut client, "g", ("", -1), "t", 8).await, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(commit(&mut client, "g", ("", -1), "never", 8).await, ErrorCode::UnknownTopicOrPartition);
    let mut by_id = committing("g", ("", -1), "", 8);
    by_id.topics[0].topic_id = id;
    let answer = client.ask(10, &by_id).await;
    let code = answer.read::<OffsetCommitResponse<'_>>().topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UnknownTopicId);
    while committed(&mut client, "g").await.is_some() {}
    // A topic of the same name is another topic: nothing was committed to it.
    broker.create_topic("t", 1, &[]).await;
    let answer = client.ask(10, &by_id).await;
    let code = answer.read::<OffsetCommitResponse<'_>>().topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UnknownTopicId);
    assert_eq!(committed(&mut client, "g").await, None);
}

#[tokio::test]
async fn expressions_that_explode_are_refused_and_those_that_go_back_elsewhere_cost_nothing() {
    let broker = TestBroker::start().await;
    broker.create_topic(&"a".repeat(200), 1, &[]).await;
    let mut client = coordinated(&broker, "g").await;
    let mut ask = async |expression: &str| {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: "4fb9c3e6-1f0c-4d6c-9a58-0a4f3a1d2b3c".into(),
            rebalance_timeout_ms: 10_000,
            subscribed_topic_regex: Some(expression.into()),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let answer = client.ask(1, &request).await;
        answer.read::<ConsumerGroupHeartbeatResponse<'_>>().error_code
    };
    let nested = format!("{}a{}", "(".repeat(10_000), ")".repeat(10_000));
    let long = format!("{}{}", "(a|b)*".repeat(20_000), "c");
    for expression in ["(((a{1,1000}){1,1000}){1,1000})", "(", "[z-a]", "a{99999999999}", &nested, &long, "(?P<"] {
        let told = ask(expression).await;
        assert_eq!(told, ErrorCode::InvalidRegularExpression, "{}", &expression[..expression.len().min(40)]);
    }
    let list = client.ask(5, &ListGroupsRequest::default()).await;
    assert_eq!(list.read::<ListGroupsResponse<'_>>().groups.len(), 0, "no member came of it");
    let mut client = coordinated(&broker, "g").await;
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "4fb9c3e6-1f0c-4d6c-9a58-0a4f3a1d2b3c".into(),
        rebalance_timeout_ms: 10_000,
        // Exponential where an engine goes back.
        subscribed_topic_regex: Some("(a+)+b".into()),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let answer = client.ask(1, &request).await;
    assert_eq!(answer.read::<ConsumerGroupHeartbeatResponse<'_>>().error_code, ErrorCode::None);
}

#[tokio::test]
async fn members_beyond_the_bound_are_refused_before_they_cost_anything() {
    let broker = TestBroker::start_with(&["group.initial.rebalance.delay.ms=60000", "group.max.size=1000"]).await;
    let mut client = coordinated(&broker, "g").await;
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let answer = client.ask(9, &joining("g", "")).await;
        match answer.read::<JoinGroupResponse<'_>>().error_code {
            ErrorCode::MemberIdRequired => taken += 1,
            ErrorCode::GroupMaxSizeReached => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((taken, refused), (1000, 9000), "those that were given an id count as well");
    let mut other = coordinated(&broker, "calm").await;
    assert_eq!(commit(&mut other, "calm", ("", -1), "t", 1).await, ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test]
async fn metadata_that_is_too_large_is_refused_and_so_is_what_only_claims_to_be_large() {
    let broker = TestBroker::start_with(&[NO_DELAY]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = coordinated(&broker, "g").await;
    assert_eq!(commit(&mut client, "g", ("", -1), "t", 7).await, ErrorCode::None);
    let mut request = committing("g", ("", -1), "t", 8);
    request.topics[0].partitions[0].committed_metadata = Some("x".repeat(4097).into());
    let answer = client.ask(8, &request).await;
    let code = answer.read::<OffsetCommitResponse<'_>>().topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::OffsetMetadataTooLarge);
    assert_eq!(committed(&mut client, "g").await, Some(7));

    // JoinGroup v2 up to the metadata of its first protocol, which says that it has 2 GiB.
    let mut frame = Vec::new();
    frame.extend_from_slice(&[0, 11, 0, 2, 0, 0, 0, 1, 0, 1, b'c']);
    frame.extend_from_slice(&[0, 1, b'h']);
    frame.extend_from_slice(&10_000_i32.to_be_bytes());
    frame.extend_from_slice(&10_000_i32.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 8]);
    frame.extend_from_slice(b"consumer");
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 5]);
    frame.extend_from_slice(b"range");
    frame.extend_from_slice(&i32::MAX.to_be_bytes());
    frame.extend_from_slice(b"little");
    let mut liar = broker.client().await;
    liar.send_bytes(&(frame.len() as i32).to_be_bytes()).await;
    liar.send_bytes(&frame).await;
    assert!(liar.is_closed().await, "what does not decode ends its connection");
    assert_eq!(committed(&mut client, "g").await, Some(7));
}

/// A subscription of several megabytes is no mistake of the protocol, but it does not fit into a record of the group.
#[tokio::test]
async fn a_group_that_does_not_fit_into_a_record_is_refused_and_its_shard_lives_on() {
    let broker = TestBroker::start_with(&[NO_DELAY]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = coordinated(&broker, "g").await;
    assert_eq!(commit(&mut client, "g", ("", -1), "t", 7).await, ErrorCode::None);
    let large = vec![1; 64 << 20];
    let mut request = joining("g", "");
    request.protocols[0].metadata = &large;
    let answer = client.ask(3, &request).await;
    let code = answer.read::<JoinGroupResponse<'_>>().error_code;
    assert!(code == ErrorCode::None || code == ErrorCode::UnknownServerError, "{code:?}");
    let mut client = coordinated(&broker, "g").await;
    assert_eq!(committed(&mut client, "g").await, Some(7), "the offsets are there");
}
