//! Stock clients that push their metrics (KIP-714): what they push stands on the page of metrics.

use std::process::Stdio;

use ottla_tests::client::Client;
use ottla_tests::one_topic::{get, metrics_address};
use ottla_tests::{Broker, Record, artifact, client, skip, wait};
use serde_json::json;

const TOPIC: &str = "orders";

#[test]
fn java_pushes_its_metrics() {
    pushes(Client::Java, "org.apache.kafka.consumer.");
}

#[test]
fn librdkafka_pushes_its_metrics() {
    pushes(Client::Confluent, "org.apache.kafka.consumer.");
}

/// Telemetry is switched on in both clients by default. A member of a group reads until its numbers are there.
fn pushes(kind: Client, prefix: &str) {
    if let Some(why) = kind.missing() {
        return skip::test(&format!("{kind:?} pushes its metrics"), why);
    }
    let broker =
        Broker::builder().set("metrics.listener", "127.0.0.1:0").set("group.initial.rebalance.delay.ms", "0").start();
    let mut command = std::process::Command::new(artifact::ottla());
    command.args(["config", "set", "--client-metrics", "all", "metrics=*", "interval.ms=200"]);
    command.args(["--bootstrap", &broker.bootstrap()]);
    client::run(command, &[]).expect_success();
    broker.create_topic(TOPIC, 1, &[]);
    let records = [Record::to(0, "k".to_owned(), "v".to_owned())];
    Client::Kcat.produce(&broker.bootstrap(), TOPIC, &client::Sending::default(), &records);
    let options = json!({
        "bootstrap": broker.bootstrap(), "topic": TOPIC, "group": "members", "protocol": "classic",
        "cooperative": false, "instance": null, "session_timeout_ms": 10_000,
    });
    let mut command = kind.command("join", &options);
    let mut member = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the client starts");
    let page = wait::until("metrics of the client", || {
        let (_, page) = get(&metrics_address(&broker), "/metrics");
        let line = format!("ottla_client_metric{{metric=\"{prefix}");
        page.lines().any(|it| it.starts_with(&line)).then_some(page)
    });
    drop(member.stdin.take());
    let ended = wait::until("the member to leave", || member.try_wait().expect("its status"));
    assert!(ended.success(), "{ended}");
    for name in ["ottla_client_telemetry_refused_total", "ottla_client_telemetry_left_out_total"] {
        assert!(page.lines().any(|line| line == format!("{name} 0")), "{name} is not 0 in\n{page}");
    }
}
