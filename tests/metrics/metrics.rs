//! The metrics: served where asked for and nowhere else, and all of them on their page.

mod lint;

use std::collections::BTreeSet;
use std::process::Command;

use lint::Page;
use ottla_tests::batch::batch;
use ottla_tests::client::run;
use ottla_tests::connection::Connection;
use ottla_tests::guest::Guest;
use ottla_tests::one_topic::{TOPIC, fetch, get, metric, metrics_address, produce};
use ottla_tests::produce::produce_request;
use ottla_tests::{Broker, artifact};
use ottla_wire::ErrorCode;

fn broker() -> Broker {
    Broker::builder().set("metrics.listener", "127.0.0.1:0").start()
}

fn page(broker: &Broker) -> Page {
    let (status, text) = get(&metrics_address(broker), "/metrics");
    assert!(status.contains(" 200 "), "{status}");
    Page::read(&text)
}

fn served(page: &Page) -> BTreeSet<String> {
    page.families.iter().map(|(name, _)| name.clone()).collect()
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
    assert_eq!(served(&page(&broker)), documented());
}

/// `promtool check metrics` reads no `OpenMetrics`: a counter is declared under the name that its samples have.
#[test]
fn promtool_accepts_the_page() {
    let broker = broker();
    let version = broker.push_plugin("spread", &Guest::round_robin().component()).expect("a good plugin");
    assert_eq!(version, 1);
    broker.create_topic(TOPIC, 2, &[("ottla.partitioner", "spread")]);
    assert_eq!(produce(&broker, b"counted").0, ErrorCode::None);
    assert_eq!(fetch(&broker, 0, 100), Err(ErrorCode::OffsetOutOfRange));
    let page = page(&broker);
    assert_eq!(page.wrong, Vec::<String>::new());
    assert!(page.samples.len() > 200, "{}", page.samples.len());
}

#[test]
fn how_long_requests_take_is_told_by_api() {
    let broker = broker();
    broker.create_topic(TOPIC, 2, &[]);
    for _ in 0..3 {
        assert_eq!(produce(&broker, b"counted").0, ErrorCode::None);
    }
    fetch(&broker, 0, 0).expect("records");
    let page = page(&broker);
    for (api, requests) in [("Produce", 3.0), ("Fetch", 1.0), ("CreateTopics", 1.0)] {
        assert_eq!(page.value("ottla_request_seconds_count", &[("api", api)]), Some(requests), "{api}");
        assert!(page.value("ottla_request_seconds_sum", &[("api", api)]) > Some(0.0), "{api}");
    }
}

#[test]
fn what_a_topic_takes_and_gives_is_told_by_topic_and_partition() {
    let broker = broker();
    broker.create_topic(TOPIC, 2, &[]);
    for _ in 0..3 {
        assert_eq!(produce(&broker, b"counted").0, ErrorCode::None);
    }
    let bytes = fetch(&broker, 0, 0).expect("records").len() as f64;
    fetch(&broker, 0, 1).expect("records");
    let page = page(&broker);
    let topic = |name: &str| page.value(name, &[("topic", TOPIC)]);
    assert_eq!(topic("ottla_topic_appended_records_total"), Some(3.0));
    assert_eq!(topic("ottla_topic_appended_bytes_total"), Some(bytes));
    assert_eq!(topic("ottla_topic_fetched_records_total"), Some(5.0));
    assert!(topic("ottla_topic_fetched_bytes_total") > Some(bytes));
    let partition = |name: &str, index: &str| page.value(name, &[("topic", TOPIC), ("partition", index)]);
    assert_eq!(partition("ottla_partition_size_bytes", "0"), Some(bytes));
    assert_eq!(partition("ottla_partition_size_bytes", "1"), Some(0.0));
    assert_eq!(partition("ottla_partition_start_offset", "0"), Some(0.0));
    assert_eq!(partition("ottla_partition_end_offset", "0"), Some(3.0));
    assert_eq!(partition("ottla_partition_high_watermark", "0"), Some(3.0));
}

#[test]
fn counters_of_appends_begin_with_the_process() {
    let mut broker = broker();
    broker.create_topic(TOPIC, 1, &[]);
    assert_eq!(produce(&broker, b"before").0, ErrorCode::None);
    broker.terminate();
    broker.restart();
    assert_eq!(page(&broker).value("ottla_topic_appended_records_total", &[("topic", TOPIC)]), Some(0.0));
    assert_eq!(produce(&broker, b"after").0, ErrorCode::None);
    assert_eq!(page(&broker).value("ottla_topic_appended_records_total", &[("topic", TOPIC)]), Some(1.0));
}

#[test]
fn topics_and_partitions_beyond_the_limit_have_no_lines_of_their_own() {
    let broker = Broker::builder().set("metrics.listener", "127.0.0.1:0").set("metrics.partitions.max", "3").start();
    broker.create_topic("a", 2, &[]);
    broker.create_topic("b", 2, &[]);
    broker.create_topic("c", 1, &[]);
    let page = page(&broker);
    let told = |name: &str| page.samples.iter().filter(|sample| sample.name == name).count();
    assert_eq!((told("ottla_partition_end_offset"), told("ottla_topic_appended_bytes_total")), (2, 1));
    assert_eq!(page.value("ottla_partitions_without_metrics", &[]), Some(3.0));
    assert_eq!(page.value("ottla_partitions", &[]), Some(5.0));
}

#[test]
fn bytes_appended_never_fall_when_a_topic_is_deleted() {
    let broker = broker();
    broker.create_topic(TOPIC, 1, &[]);
    assert_eq!(produce(&broker, b"counted").0, ErrorCode::None);
    let before = metric(&broker, "ottla_appended_bytes_total");
    assert!(before > 0.0);
    broker.delete_topic(TOPIC);
    assert!(metric(&broker, "ottla_appended_bytes_total") >= before);
}

#[test]
fn a_first_start_counts_as_clean() {
    let mut broker = broker();
    assert!((metric(&broker, "ottla_recovery_clean") - 1.0).abs() < 0.5);
    broker.create_topic(TOPIC, 1, &[]);
    assert_eq!(produce(&broker, b"counted").0, ErrorCode::None);
    broker.kill9();
    broker.restart();
    assert!(metric(&broker, "ottla_recovery_clean") < 0.5, "the process was killed");
}

#[test]
fn the_process_and_its_build_are_told() {
    let broker = broker();
    let page = page(&broker);
    assert_eq!(page.value("ottla_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs_f64();
    let started = page.value("process_start_time_seconds", &[]).expect("a start");
    let uptime = page.value("ottla_uptime_seconds", &[]).expect("an uptime");
    assert!((started + uptime - now).abs() < 300.0, "{started} + {uptime} is not about {now}");
    for (name, least) in [
        ("process_cpu_seconds_total", -1.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_virtual_memory_bytes", 1e6),
        ("process_open_fds", 5.0),
        ("process_max_fds", 5.0),
        ("process_threads", 2.0),
    ] {
        assert!(page.value(name, &[]) > Some(least), "{name}: {:?}", page.value(name, &[]));
    }
}

#[test]
fn plugins_are_told_by_name_and_version() {
    let broker = broker();
    let bad = Guest::answers("(if (i32.eq (local.get $records) (i32.const 3)) (then (unreachable))) (i32.const 0)");
    let good_version = broker.push_plugin("spread", &Guest::round_robin().component()).expect("a good plugin");
    broker.create_topic(TOPIC, 2, &[("ottla.partitioner", "spread")]);
    for _ in 0..2 {
        assert_eq!(produce(&broker, b"routed").0, ErrorCode::None);
    }
    let bad_version = broker.push_plugin("spread", &bad.component()).expect("it only shows when it runs");
    broker.activate_plugin("spread", bad_version);
    let mut connection = Connection::to(&broker);
    for _ in 0..3 {
        let records = batch(&[(b"a", b"refused"), (b"b", b"refused"), (b"c", b"refused")], None);
        let code = connection.call(8, &produce_request(TOPIC, 0, &records), |response| {
            response.responses[0].partition_responses[0].error_code
        });
        assert_eq!(code, ErrorCode::InvalidRecord);
    }
    let page = page(&broker);
    let told = |name: &str, version: i32| page.value(name, &[("plugin", "spread"), ("version", &version.to_string())]);
    assert_eq!(told("ottla_plugin_batches_total", good_version), Some(2.0));
    assert_eq!(told("ottla_plugin_batches_total", bad_version), Some(3.0));
    assert_eq!(told("ottla_plugin_failures_total", good_version), Some(0.0));
    assert_eq!(told("ottla_plugin_failures_total", bad_version), Some(3.0));
    let traps = [("plugin", "spread"), ("version", "2"), ("reason", "trap")];
    assert_eq!(page.value("ottla_plugin_failures_total", &traps), Some(3.0));
    assert_eq!(told("ottla_plugin_seconds_count", good_version), Some(2.0));
    assert!(told("ottla_plugin_seconds_sum", good_version) > Some(0.0));
    assert!(told("ottla_plugin_memory_bytes", bad_version) >= Some(0.0));
    assert_eq!(page.value("ottla_plugin_queue_batches", &[("plugin", "spread")]), Some(0.0));
    assert_eq!(page.value("ottla_plugin_queue_bytes", &[("plugin", "spread")]), Some(0.0));
}

#[test]
fn the_memory_of_a_plugin_is_told_while_its_instance_waits_for_the_next_batch() {
    let broker = broker();
    broker.push_plugin("spread", &Guest::round_robin().component()).expect("a good plugin");
    broker.create_topic(TOPIC, 2, &[("ottla.partitioner", "spread")]);
    assert_eq!(produce(&broker, b"routed").0, ErrorCode::None);
    let bytes = page(&broker).value("ottla_plugin_memory_bytes", &[("plugin", "spread")]);
    assert!(bytes >= Some(65536.0), "{bytes:?}");
}

#[test]
fn the_dashboard_names_only_metrics_that_are_served() {
    let broker = broker();
    let served = served(&page(&broker));
    let path = artifact::root().join("docs/grafana/ottla.json");
    let text = std::fs::read_to_string(&path).expect("the dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut expressions = Vec::new();
    collect(&dashboard, &["expr", "query"], &mut expressions);
    assert!(expressions.len() > 20, "{}", expressions.len());
    let mut named = BTreeSet::new();
    for expression in &expressions {
        let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        named.extend(words.filter(|word| word.starts_with("ottla_") || word.starts_with("process_")));
    }
    let is_served = |name: &str| {
        served.contains(name)
            || ["_bucket", "_count", "_sum"]
                .iter()
                .any(|end| name.strip_suffix(end).is_some_and(|it| served.contains(it)))
    };
    let unknown: Vec<_> = named.iter().filter(|name| !is_served(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The texts under one of `keys`, wherever they are.
fn collect(value: &serde_json::Value, keys: &[&str], found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if keys.contains(&key.as_str()) => found.push(text.to_owned()),
                    _ => collect(value, keys, found),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, keys, found)),
        _ => {}
    }
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
    assert_eq!(page(&broker).value("ottla_requests_total", &[("api", "Fetch")]), Some(1.0));
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
