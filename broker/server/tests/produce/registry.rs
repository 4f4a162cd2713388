//! Uploads, versions, activation, deletion.

use ottla_plugin_host::Digest;
use ottla_wire::ErrorCode;
use ottla_wire::message::{
    ActivatePluginRequest, ActivatePluginResponse, DeletePluginRequest, DeletePluginResponse, DescribePluginsRequest,
    DescribePluginsResponse, PushPluginRequest, PushPluginResponse, VERSION_ALL,
};

use ottla_test_broker::{Client, TestBroker, digit, said};
use ottla_tests::guest::Guest;

/// Pushes one piece: code, next offset, version.
async fn piece(
    client: &mut Client,
    name: &str,
    digest: &str,
    total_bytes: i64,
    offset: i64,
    chunk: &[u8],
) -> (ErrorCode, i64, i32) {
    let request = PushPluginRequest { name: name.into(), digest: digest.into(), total_bytes, offset, chunk };
    let answer = client.ask(0, &request).await;
    let response: PushPluginResponse<'_> = answer.read();
    (response.error_code, response.next_offset, response.version)
}

async fn delete(home: &TestBroker, name: &str, version: i32) -> (ErrorCode, String) {
    let request = DeletePluginRequest { name: name.into(), version };
    let answer = home.ottla().await.ask(0, &request).await;
    let response: DeletePluginResponse<'_> = answer.read();
    (response.error_code, response.error_message.as_deref().unwrap_or_default().to_owned())
}

/// Name, active, previous, versions, topics.
async fn described(home: &TestBroker) -> Vec<(String, i32, i32, Vec<i32>, Vec<String>)> {
    let answer = home.ottla().await.ask(0, &DescribePluginsRequest::default()).await;
    let response: DescribePluginsResponse<'_> = answer.read();
    let plugins = response.plugins.iter().map(|plugin| {
        let versions = plugin.versions.iter().map(|version| version.version).collect();
        let topics = plugin.topics.iter().map(ToString::to_string).collect();
        (plugin.name.to_string(), plugin.active_version, plugin.previous_version, versions, topics)
    });
    plugins.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_can_be_taken_up_again_where_it_stopped() {
    let home = TestBroker::start().await;
    let component = digit(0);
    let (digest, total) = (Digest::of(&component).to_string(), component.len() as i64);
    let mut client = home.ottla().await;
    assert_eq!(piece(&mut client, "p", &digest, total, 0, &component[..1000]).await, (ErrorCode::None, 1000, 0));
    drop(client);
    let mut client = home.ottla().await;
    // Asks, repeats, and jumps ahead.
    assert_eq!(piece(&mut client, "p", &digest, total, 0, &[]).await, (ErrorCode::None, 1000, 0));
    assert_eq!(piece(&mut client, "p", &digest, total, 500, &component[500..1500]).await, (ErrorCode::None, 1500, 0));
    let ahead = piece(&mut client, "p", &digest, total, 2000, &component[2000..]).await;
    assert_eq!(ahead, (ErrorCode::OffsetOutOfRange, 1500, 0));
    assert_eq!(piece(&mut client, "p", &digest, total, 1500, &component[1500..]).await, (ErrorCode::None, total, 1));
    // The same bytes again are the same version, at once.
    assert_eq!(piece(&mut client, "p", &digest, total, 0, &component[..10]).await, (ErrorCode::None, total, 1));
    assert_eq!(home.push("p", &digit(1)).await, 2);
    assert_eq!(home.push("p", &component).await, 1);
    assert_eq!(described(&home).await, [("p".to_owned(), 1, 0, vec![1, 2], vec![])]);
    let home = home.crash().await;
    assert_eq!(described(&home).await, [("p".to_owned(), 1, 0, vec![1, 2], vec![])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plugin_is_refused_as_early_as_can_be() {
    let home = TestBroker::start().await;
    let component = digit(0);
    let digest = Digest::of(&component).to_string();
    let mut client = home.ottla().await;
    let huge = piece(&mut client, "p", &digest, 100 << 20, 0, &component).await;
    assert_eq!(huge, (ErrorCode::MessageTooLarge, 0, 0));
    let other = Digest::of(b"other").to_string();
    let total = component.len() as i64;
    assert_eq!(piece(&mut client, "p", &other, total, 0, &component).await, (ErrorCode::CorruptMessage, 0, 0));
    assert_eq!(piece(&mut client, "p@1", &digest, total, 0, &component).await.0, ErrorCode::InvalidRequest);
    assert_eq!(piece(&mut client, "a b", &digest, total, 0, &component).await.0, ErrorCode::InvalidRequest);
    assert_eq!(piece(&mut client, "p", "digest", total, 0, &component).await.0, ErrorCode::InvalidRequest);
    assert_eq!(piece(&mut client, "p", &digest, -1, 0, &component).await.0, ErrorCode::InvalidRequest);
    assert_eq!(piece(&mut client, "p", &digest, total, -1, &component).await.0, ErrorCode::InvalidRequest);
    let large_chunk = vec![0; (1 << 20) + 1];
    assert_eq!(piece(&mut client, "p", &digest, 2 << 20, 0, &large_chunk).await.0, ErrorCode::InvalidRequest);
    for nonsense in [b"not a component".as_slice(), &b"\0asm\x01\0\0\0"[..], &component[..component.len() / 2]] {
        let (code, message, _) = home.try_push("p", nonsense).await;
        assert_eq!(code, ErrorCode::InvalidRequest, "{message}");
        assert!(!message.is_empty());
    }
    let (code, message, _) = home.try_push("p", &Guest::default().with("needs", "network").component()).await;
    assert_eq!(code, ErrorCode::InvalidRequest);
    assert!(message.contains("needs"), "{message}");
    assert_eq!(described(&home).await, []);
    assert_eq!(home.push("p", &component).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_can_only_name_what_is_there() {
    let home = TestBroker::start().await;
    home.create_topic("t", 3, &[]).await;
    assert_eq!(home.try_create_topic("u", 3, &[("ottla.partitioner", "digit")]).await, Err(ErrorCode::InvalidConfig));
    let (code, message) = home.set_topic("t", "ottla.partitioner", "digit").await;
    assert_eq!(code, ErrorCode::InvalidConfig);
    assert!(message.contains("digit"), "{message}");
    home.push("digit", &digit(0)).await;
    let (code, message) = home.set_topic("t", "ottla.partitioner", "digit@2").await;
    assert_eq!(code, ErrorCode::InvalidConfig);
    assert!(message.contains("no version 2"), "{message}");
    assert_eq!(home.set_topic("t", "ottla.partitioner", "digit@1").await, (ErrorCode::None, String::new()));
    home.create_topic("u", 3, &[("ottla.partitioner", "digit")]).await;
    home.create_topic("__consumer_offsets", 3, &[("cleanup.policy", "compact")]).await;
    let (code, message) = home.set_topic("__consumer_offsets", "ottla.partitioner", "digit").await;
    assert_eq!(code, ErrorCode::InvalidConfig, "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_version_stays_when_another_becomes_active() {
    let home = TestBroker::start().await;
    home.push("digit", &digit(0)).await;
    home.push("digit", &digit(1)).await;
    home.create_topic("fixed", 3, &[("ottla.partitioner", "digit@1")]).await;
    home.create_topic("follows", 3, &[("ottla.partitioner", "digit")]).await;
    let mut client = home.ottla().await;
    let mut goes_to = async |topic: &str| {
        let placements = client.produce(topic, 2, &said("0")).await.placements;
        placements[0].2
    };
    assert_eq!((goes_to("fixed").await, goes_to("follows").await), (0, 0));
    assert_eq!(home.activate("digit", 2).await, (ErrorCode::None, 2));
    assert_eq!((goes_to("fixed").await, goes_to("follows").await), (0, 1));
    assert_eq!(home.activate("digit", -1).await, (ErrorCode::None, 1));
    assert_eq!((goes_to("fixed").await, goes_to("follows").await), (0, 0));
    assert_eq!(home.activate("digit", 3).await, (ErrorCode::ResourceNotFound, 1));
    assert_eq!(home.activate("other", 1).await, (ErrorCode::ResourceNotFound, 0));
    let topics = vec!["fixed".to_owned(), "follows".to_owned()];
    assert_eq!(described(&home).await, [("digit".to_owned(), 1, 0, vec![1, 2], topics)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_walks_back_through_the_activations_and_never_returns_to_what_it_left() {
    let home = TestBroker::start().await;
    for shift in 0..3 {
        home.push("digit", &digit(shift)).await;
    }
    home.create_topic("t", 3, &[("ottla.partitioner", "digit")]).await;
    let mut client = home.ottla().await;
    let mut goes_to = async || client.produce("t", 2, &said("0")).await.placements[0].2;
    assert_eq!(home.activate("digit", 2).await, (ErrorCode::None, 2));
    assert_eq!(home.activate("digit", 3).await, (ErrorCode::None, 3));
    assert_eq!((home.activate("digit", -1).await, goes_to().await), ((ErrorCode::None, 2), 1));
    let home = home.crash().await;
    let mut client = home.ottla().await;
    let mut goes_to = async || client.produce("t", 2, &said("0")).await.placements[0].2;
    assert_eq!((home.activate("digit", -1).await, goes_to().await), ((ErrorCode::None, 1), 0));
    assert_eq!((home.activate("digit", -1).await, goes_to().await), ((ErrorCode::InvalidRequest, 1), 0));
    assert_eq!(bad_versions(&home).await, [2, 3]);

    let to = ActivatePluginRequest { name: "digit".into(), version: 2, is_rollback: true };
    let answer = home.ottla().await.ask(1, &to).await;
    let answer: ActivatePluginResponse<'_> = answer.read();
    assert_eq!((answer.error_code, answer.active_version, goes_to().await), (ErrorCode::None, 2, 1));
    assert_eq!(bad_versions(&home).await, [1, 3], "the version that was left, not the one gone to");
    assert_eq!(home.activate("digit", 3).await, (ErrorCode::None, 3));
    assert_eq!(bad_versions(&home).await, [1], "what is activated is wanted");
}

async fn bad_versions(home: &TestBroker) -> Vec<i32> {
    let answer = home.ottla().await.ask(1, &DescribePluginsRequest::default()).await;
    let response: DescribePluginsResponse<'_> = answer.read();
    let versions = response.plugins.iter().flat_map(|plugin| &plugin.versions);
    versions.filter(|version| version.marked_bad).map(|version| version.version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_topic_uses_is_deleted() {
    let home = TestBroker::start().await;
    home.routed_topic(3).await;
    home.push("digit", &digit(1)).await;
    let (code, message) = delete(&home, "digit", VERSION_ALL).await;
    assert_eq!(code, ErrorCode::PolicyViolation);
    assert!(message.contains("used by t"), "{message}");
    assert_eq!(delete(&home, "digit", 1).await.0, ErrorCode::PolicyViolation);
    assert_eq!(delete(&home, "digit", 2).await, (ErrorCode::None, String::new()));
    assert_eq!(delete(&home, "digit", 2).await.0, ErrorCode::ResourceNotFound);
    // A number is not given twice.
    assert_eq!(home.push("digit", &digit(1)).await, 3);
    assert_eq!(home.set_topic("t", "ottla.partitioner", "").await.0, ErrorCode::None);
    assert_eq!(delete(&home, "digit", 1).await.0, ErrorCode::PolicyViolation, "it is active, and not the last");
    assert_eq!(delete(&home, "digit", VERSION_ALL).await.0, ErrorCode::None);
    assert_eq!(described(&home).await, []);
    assert_eq!(home.push("digit", &digit(1)).await, 4);
}
