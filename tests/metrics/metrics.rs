//! The metrics: served where asked for and nowhere else, and all of them on their page.

use std::collections::BTreeSet;
use std::process::Command;

use ottla_tests::client::run;
use ottla_tests::one_topic::{TOPIC, fetch, get, metric, metrics_address, produce};
use ottla_tests::{Broker, artifact};
use ottla_wire::ErrorCode;

fn broker() -> Broker {
    Broker::builder().set("metrics.listener", "127.0.0.1:0").start()
}

/// Names as samples have them: a counter ends in `_total`.
fn served(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() }).collect()
}

fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string(artifact::root().join("docs/metrics.md")).expect("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_page_of_metrics_lists_what_the_broker_serves() {
    let broker = broker();
    broker.create_topic(TOPIC, 2, &[]);
    assert_eq!(produce(&broker, b"counted").0, ErrorCode::None);
    // Some metrics have no sample before there is something to count.
    assert_eq!(fetch(&broker, 0, 100), Err(ErrorCode::OffsetOutOfRange));
    let (status, page) = get(&metrics_address(&broker), "/metrics");
    assert!(status.contains(" 200 "), "{status}");
    assert_eq!(served(&page), documented());
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn what_clients_do_is_counted() {
    let broker = broker();
    broker.create_topic(TOPIC, 2, &[]);
    assert_eq!(produce(&broker, b"counted").0, ErrorCode::None);
    let bytes = fetch(&broker, 0, 0).expect("records").len() as f64;
    let is = |name: &str, wanted: f64| assert!((metric(&broker, name) - wanted).abs() < 0.5, "{name}");
    is("ottla_appended_bytes_total", bytes);
    is("ottla_sent_record_bytes_total", bytes);
    is("ottla_partitions", 2.0);
    is("ottla_topics", 1.0);
    is("ottla_undurable_offsets", 0.0);
    is("ottla_log_directory_online", 1.0);
    assert!(metric(&broker, "ottla_sync_seconds_count") >= 1.0);
    assert!(metric(&broker, "ottla_group_commit_bytes_sum") >= bytes);
    assert!(metric(&broker, "ottla_connections_accepted_total") >= 3.0);
    assert!(metric(&broker, "ottla_open_segments") >= 1.0);
    let (_, page) = get(&metrics_address(&broker), "/metrics");
    assert!(page.contains("ottla_requests_total{api=\"Fetch\"} 1"), "{page}");
}

#[test]
fn health_is_a_page_of_its_own_and_nothing_else_is_served() {
    let broker = broker();
    let address = metrics_address(&broker);
    let (status, body) = get(&address, "/healthz");
    assert!(status.contains(" 200 ") && body.starts_with("ok"), "{status} {body}");
    assert!(get(&address, "/").0.contains(" 404 "));
}

#[test]
fn metrics_are_off_by_default_and_closed_to_others() {
    let broker = Broker::start();
    assert!(!broker.log_lines().iter().any(|line| line.contains("/metrics")));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(artifact::ottla());
    command.arg("serve").arg("--data-dir").arg(directory.path());
    command.args(["--listen", "127.0.0.1:0", "--set", "metrics.listener=0.0.0.0:0"]);
    let refused = run(command, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("--i-accept-an-open-broker"), "{}", refused.stderr);
}
