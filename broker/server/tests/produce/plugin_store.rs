//! Plugins that are bound, pushed and deleted at the same time, and a plugin store that lost bytes.

use std::path::PathBuf;
use std::sync::Arc;

use ottla_plugin_host::Digest;
use ottla_wire::ErrorCode;
use ottla_wire::message::{DeletePluginRequest, DeletePluginResponse, VERSION_ALL};

use ottla_test_broker::{TestBroker, digit, said};

const ROUNDS: usize = 60;

async fn delete(home: &TestBroker, name: &str) -> ErrorCode {
    let request = DeletePluginRequest { name: name.into(), version: VERSION_ALL };
    let answer = home.ottla().await.ask(0, &request).await;
    let response: DeletePluginResponse<'_> = answer.read();
    response.error_code
}

fn component_path(home: &TestBroker, digest: Digest) -> PathBuf {
    home.broker.config.data_dir.join(format!("plugins/wasm/{digest}.wasm"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_deleted_or_bound_and_never_both() {
    let home = Arc::new(TestBroker::start().await);
    // Another name keeps the bytes, so that only names come and go.
    home.push("kept", &digit(0)).await;
    home.create_topic("altered", 1, &[]).await;
    let mut both = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("p{round}");
        home.push(&name, &digit(0)).await;
        let binding = tokio::spawn({
            let (home, name) = (Arc::clone(&home), name.clone());
            async move {
                if round % 2 == 0 {
                    let bound = home.try_create_topic(&format!("t{round}"), 1, &[("ottla.partitioner", &name)]).await;
                    bound.err().unwrap_or_default()
                } else {
                    home.set_topic("altered", "ottla.partitioner", &name).await.0
                }
            }
        });
        let deleted = delete(&home, &name).await;
        let bound = binding.await.unwrap();
        assert!(matches!(bound, ErrorCode::None | ErrorCode::InvalidConfig), "{bound:?}");
        assert!(matches!(deleted, ErrorCode::None | ErrorCode::PolicyViolation), "{deleted:?}");
        if (bound, deleted) == (ErrorCode::None, ErrorCode::None) {
            both.push(round);
        }
        home.set_topic("altered", "ottla.partitioner", "").await;
    }
    assert!(both.is_empty(), "bound and deleted in {} of {ROUNDS} rounds", both.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_pushed_under_another_name_survive_the_deletion_of_the_first() {
    let home = Arc::new(TestBroker::start().await);
    let component = digit(0);
    let digest = Digest::of(&component);
    let mut gone = Vec::new();
    for round in 0..ROUNDS {
        home.push("first", &component).await;
        let pushing = tokio::spawn({
            let (home, component) = (Arc::clone(&home), component.clone());
            async move { home.try_push("other", &component).await }
        });
        // Somewhere in the middle of the push, each time elsewhere.
        for _ in 0..round % 10 {
            tokio::task::yield_now().await;
        }
        delete(&home, "first").await;
        let (code, message, _) = pushing.await.unwrap();
        assert_eq!(code, ErrorCode::None, "{message}");
        if !component_path(&home, digest).exists() {
            gone.push(round);
        }
        delete(&home, "other").await;
    }
    assert!(gone.is_empty(), "the component is gone after {} of {ROUNDS} pushes that succeeded", gone.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn pushing_the_same_file_again_repairs_a_component_that_is_damaged_or_gone() {
    let mut home = TestBroker::start().await;
    home.routed_topic(3).await;
    let component = digit(0);
    let path = component_path(&home, Digest::of(&component));
    let compiled = home.broker.config.data_dir.join("plugins/compiled");
    for damage in [Some(&b"rubbish"[..]), None] {
        // What is compiled goes, too: it would serve the topic without the component.
        for entry in std::fs::read_dir(&compiled).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        match damage {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        home = home.crash().await;
        let refused = home.ottla().await.produce("t", 2, &said("0")).await;
        assert_ne!(refused.error_code, ErrorCode::None);
        let message = refused.message;
        assert!(message.contains("digit") && message.contains("push the same file again"), "{message}");
        assert_eq!(home.push("digit", &component).await, 1);
        assert_eq!(std::fs::read(&path).unwrap(), component);
        assert_eq!(home.ottla().await.produce("t", 2, &said("0")).await.error_code, ErrorCode::None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_component_whose_compiled_form_is_sound_keeps_its_topics_going_until_it_is_pushed_again() {
    let home = TestBroker::start().await;
    home.routed_topic(3).await;
    let component = digit(0);
    let path = component_path(&home, Digest::of(&component));
    std::fs::write(&path, b"rubbish").unwrap();
    let home = home.crash().await;
    assert_eq!(home.ottla().await.produce("t", 2, &said("0")).await.error_code, ErrorCode::None);
    assert_eq!(home.push("digit", &component).await, 1);
    assert_eq!(std::fs::read(&path).unwrap(), component);
}

/// A data directory of an earlier release: the active version of the topic's plugin speaks the draft of the contract.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_of_the_draft_costs_no_record_and_tells_how_to_build_it_again() {
    let home = TestBroker::start().await;
    home.routed_topic(3).await;
    assert_eq!(home.client().await.produce("t", 0, &said("012")).await.error_code, ErrorCode::None);
    let draft = include_bytes!("../../../../plugins/host/tests/fixtures/draft-0.1.wasm");
    let digest = Digest::of(draft);
    std::fs::write(component_path(&home, digest), draft).unwrap();
    let mut record = home.broker.meta.plugins().unwrap().remove(0);
    record.versions[0].digest = digest.to_string();
    home.broker.meta.put_plugin(&record).unwrap();
    let home = home.crash().await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    let refused = client.produce("t", 0, &said("012").by(id, 0, 0)).await;
    assert!(refused.error_code.is_retriable(), "{:?}", refused.error_code);
    assert!(refused.message.contains("ottla:plugin/partitioner@0.1.0-draft"), "{}", refused.message);
    assert!(refused.message.contains("push it again under the same name"), "{}", refused.message);
    assert_eq!(home.push("digit", &digit(0)).await, 2);
    assert_eq!(home.activate("digit", 2).await, (ErrorCode::None, 2));
    assert_eq!(client.produce("t", 0, &said("012").by(id, 0, 0)).await.error_code, ErrorCode::None);
    for partition in 0..3 {
        assert_eq!(home.records("t", partition).await.len(), 2, "each record once");
    }
}
