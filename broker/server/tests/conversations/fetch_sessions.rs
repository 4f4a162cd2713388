//! Fetch sessions (KIP-227): a client names its partitions once and is then told what is new.

use ottla_wire::ErrorCode;
use ottla_wire::message::{DeleteTopicsRequest, DeleteTopicsResponse, FetchRequest, FetchResponse, ForgottenTopic};
use ottla_wire::record::Codec;

use ottla_test_broker::{Client, TestBroker, batch, fetch};

/// What came of one request: the error and the session of all of it, and per partition its number and the bytes of its records.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    error_code: ErrorCode,
    session_id: i32,
    partitions: Vec<(i32, ErrorCode, usize)>,
}

async fn ask(client: &mut Client, version: i16, request: &FetchRequest<'_>) -> Told {
    let answer = client.ask(version, request).await;
    let response: FetchResponse<'_> = answer.read();
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let partitions = partitions.map(|it| (it.partition_index, it.error_code, it.records.bytes().len()));
    Told { error_code: response.error_code, session_id: response.session_id, partitions: partitions.collect() }
}

fn incremental(session_id: i32, session_epoch: i32) -> FetchRequest<'static> {
    FetchRequest { session_id, session_epoch, topics: Vec::new(), ..fetch("", &[]) }
}

#[tokio::test]
async fn a_session_is_told_what_is_new_and_nothing_else() {
    for version in [7, 12, 13, 18] {
        let broker = TestBroker::start().await;
        let topic_id = broker.create_topic("t", 3, &[]).await;
        broker.append("t", 1, batch(Codec::None, 1, &[b"a"])).await;
        let one = batch(Codec::None, 1, &[b"a"]).len();
        let mut client = broker.client().await;
        let named = |offsets: &[(i32, i64)], session_id, session_epoch| {
            let mut request = FetchRequest { session_id, session_epoch, ..fetch("t", offsets) };
            request.topics[0].topic_id = topic_id;
            request
        };

        let told = ask(&mut client, version, &named(&[(0, 0), (1, 0), (2, 0)], 0, 0)).await;
        let id = told.session_id;
        assert!(id > 0, "version {version}: {told:?}");
        let none = ErrorCode::None;
        assert_eq!(told.partitions, [(0, none, 0), (1, none, one), (2, none, 0)], "all of it, at first");

        let told = ask(&mut client, version, &named(&[(1, 1)], id, 1)).await;
        assert_eq!((told.session_id, told.partitions), (id, vec![]), "version {version}: nothing is new");

        broker.append("t", 2, batch(Codec::None, 1, &[b"b"])).await;
        let told = ask(&mut client, version, &incremental(id, 2)).await;
        assert_eq!(told.partitions, [(2, none, one)], "version {version}");

        // Its position has not moved, so it is read again; what is forgotten is not.
        let forgotten = ForgottenTopic { topic: "t".into(), topic_id, partitions: vec![2] };
        let request = FetchRequest { forgotten_topics_data: vec![forgotten], ..incremental(id, 3) };
        assert_eq!(ask(&mut client, version, &request).await.partitions, []);

        // Ended by the client: it is not known any more.
        let told = ask(&mut client, version, &named(&[(0, 0)], id, -1)).await;
        assert_eq!((told.error_code, told.session_id), (none, 0));
        assert_eq!(ask(&mut client, version, &incremental(id, 4)).await.error_code, ErrorCode::FetchSessionIdNotFound);
        broker.stop().await;
    }
}

#[tokio::test]
async fn an_unknown_session_and_an_epoch_that_is_not_the_next_are_refused() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = broker.client().await;
    let begin = FetchRequest { session_epoch: 0, ..fetch("t", &[(0, 0)]) };
    let id = ask(&mut client, 12, &begin).await.session_id;
    let told = ask(&mut client, 12, &incremental(id, 7)).await;
    assert_eq!((told.error_code, told.session_id), (ErrorCode::InvalidFetchSessionEpoch, 0));
    let told = ask(&mut client, 13, &incremental(id, 1)).await;
    assert_eq!(told.error_code, ErrorCode::FetchSessionTopicIdError, "names and ids are not mixed");
    let told = ask(&mut client, 12, &incremental(id ^ 1, 1)).await;
    assert_eq!(told.error_code, ErrorCode::FetchSessionIdNotFound);
    let name = "x".repeat(250);
    let request = FetchRequest { session_id: id, session_epoch: 1, ..fetch(&name, &[(0, 0)]) };
    assert_eq!(ask(&mut client, 12, &request).await.error_code, ErrorCode::InvalidTopicException);
    let request = FetchRequest { session_epoch: 0, ..fetch(&name, &[(0, 0)]) };
    assert_eq!(ask(&mut client, 12, &request).await.session_id, 0, "no session keeps a name that no topic can have");
}

#[tokio::test]
async fn a_session_waits_for_news_as_a_fetch_without_one_does() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let mut client = broker.client().await;
    let begin = FetchRequest { session_epoch: 0, ..fetch("t", &[(0, 0), (1, 0)]) };
    let id = ask(&mut client, 12, &begin).await.session_id;
    client.send(12, &FetchRequest { max_wait_ms: 60_000, ..incremental(id, 1) }).await;
    broker.wait_for_polls(1).await;
    broker.append("t", 1, batch(Codec::None, 1, &[b"a"])).await;
    let answer = client.receive(12).await;
    let response: FetchResponse<'_> = answer.read();
    let told: Vec<_> = response.responses[0].partitions.iter().map(|it| it.partition_index).collect();
    assert_eq!((response.responses.len(), told), (1, vec![1]));
}

#[tokio::test]
async fn a_full_cache_answers_without_a_session() {
    let broker = TestBroker::start_with(&["max.incremental.fetch.session.cache.slots=1"]).await;
    broker.create_topic("t", 1, &[]).await;
    let begin = FetchRequest { session_epoch: 0, ..fetch("t", &[(0, 0)]) };
    let mut first = broker.client().await;
    let id = ask(&mut first, 12, &begin).await.session_id;
    assert!(id > 0);
    let mut second = broker.client().await;
    let told = ask(&mut second, 12, &begin).await;
    assert_eq!((told.error_code, told.session_id, told.partitions.len()), (ErrorCode::None, 0, 1));
    assert_eq!(ask(&mut first, 12, &incremental(id, 1)).await.session_id, id);
    let counts = broker.broker.fetch_sessions.counts();
    assert_eq!((counts.sessions, counts.partitions, counts.evictions), (1, 1, 0));
}

#[tokio::test]
async fn a_deleted_topic_is_told_in_a_session_every_time() {
    let broker = TestBroker::start().await;
    let topic_id = broker.create_topic("t", 1, &[]).await;
    let mut client = broker.client().await;
    let mut begin = FetchRequest { session_epoch: 0, ..fetch("t", &[(0, 0)]) };
    begin.topics[0].topic_id = topic_id;
    let id = ask(&mut client, 18, &begin).await.session_id;
    let delete = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    let answer = broker.client().await.ask(5, &delete).await;
    assert_eq!(answer.read::<DeleteTopicsResponse<'_>>().responses[0].error_code, ErrorCode::None);
    for epoch in 1..=2 {
        let told = ask(&mut client, 18, &FetchRequest { max_wait_ms: 60_000, ..incremental(id, epoch) }).await;
        assert_eq!(told.partitions, [(0, ErrorCode::UnknownTopicId, 0)], "epoch {epoch}");
    }
}

/// Before topic ids a name is all that a session knows: it must not go on in another topic at the position it had in the first.
#[tokio::test]
async fn a_topic_made_anew_is_another_one_to_a_session() {
    for version in [7, 12, 13, 18] {
        let broker = TestBroker::start().await;
        let topic_id = broker.create_topic("t", 1, &[]).await;
        let one = batch(Codec::None, 1, &[b"a"]).len();
        for _ in 0..3 {
            broker.append("t", 0, batch(Codec::None, 1, &[b"a"])).await;
        }
        let mut client = broker.client().await;
        let mut begin = FetchRequest { session_epoch: 0, ..fetch("t", &[(0, 3)]) };
        begin.topics[0].topic_id = topic_id;
        let id = ask(&mut client, version, &begin).await.session_id;
        let delete = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
        let answer = broker.client().await.ask(5, &delete).await;
        assert_eq!(answer.read::<DeleteTopicsResponse<'_>>().responses[0].error_code, ErrorCode::None);
        let new_id = broker.create_topic("t", 1, &[]).await;
        broker.append("t", 0, batch(Codec::None, 1, &[b"b"])).await;

        let told = ask(&mut client, version, &incremental(id, 1)).await;
        let expected = if version < 13 { ErrorCode::OffsetOutOfRange } else { ErrorCode::UnknownTopicId };
        assert_eq!(told.partitions, [(0, expected, 0)], "version {version}");
        // The client looks up where the topic begins, and names it anew.
        let mut named = FetchRequest { topics: fetch("t", &[(0, 0)]).topics, ..incremental(id, 2) };
        named.topics[0].topic_id = new_id;
        if version >= 13 {
            named.forgotten_topics_data = vec![ForgottenTopic { topic: "t".into(), topic_id, partitions: vec![0] }];
        }
        let told = ask(&mut client, version, &named).await;
        assert_eq!(told.partitions, [(0, ErrorCode::None, one)], "version {version}");
    }
}
