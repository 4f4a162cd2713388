//! What the tools are for from day to day: finding, trimming and setting topics, and finding the broker itself.

use std::path::Path;
use std::process::Command;

use ottla_tests::client::{Finished, run};
use ottla_tests::{Broker, artifact};
use serde_json::Value;

fn ottla(broker: &Broker, line: &str) -> Finished {
    let mut command = Command::new(artifact::ottla());
    command.args(line.split(' ')).args(["--bootstrap", &broker.bootstrap()]);
    run(command, &[])
}

/// What a command prints that has to succeed.
fn printed(broker: &Broker, line: &str) -> String {
    let finished = ottla(broker, line);
    assert!(finished.status.success(), "{line}: {}", finished.stderr);
    text(&finished)
}

fn text(finished: &Finished) -> String {
    String::from_utf8_lossy(&finished.stdout).into_owned()
}

/// The JSON objects that a command prints.
fn values(broker: &Broker, line: &str) -> Vec<Value> {
    let text = printed(broker, &format!("{line} --json"));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

fn produce(broker: &Broker, topic: &str, records: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("records.jsonl");
    let line =
        |number: usize| format!("{{\"value\":\"v{number}\",\"timestamp\":{},\"partition\":0}}\n", 1000 * (number + 1));
    std::fs::write(&file, (0..records).map(line).collect::<String>()).expect("the records");
    printed(broker, &format!("produce {topic} --format json --file {}", file.display()));
}

fn starts(broker: &Broker, topic: &str) -> Vec<i64> {
    values(broker, &format!("topic offsets {topic}")).iter().filter_map(|it| it["start_offset"].as_i64()).collect()
}

#[test]
fn a_mistyped_setting_is_answered_with_the_likely_one() {
    let broker = Broker::start();
    printed(&broker, "topic create t");
    for (line, likely) in [
        ("topic create u retention.mss=5", "did you mean retention.ms?"),
        ("topic set t retention.mss=5", "did you mean retention.ms?"),
        ("config set num.partition=5", "did you mean num.partitions?"),
    ] {
        let refused = ottla(&broker, line);
        assert_eq!(refused.status.code(), Some(6), "{line}");
        assert!(refused.stderr.contains(likely), "{line}: {}", refused.stderr);
    }
}

/// The topic says how large a record may be, not the tool.
#[test]
fn a_large_record_is_refused_with_the_setting_that_allows_it() {
    let broker = Broker::start();
    printed(&broker, "topic create large");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("large.txt");
    std::fs::write(&file, "x".repeat(3_000_000)).expect("a record");
    let line = format!("produce large --file {}", file.display());
    let refused = ottla(&broker, &line);
    assert_eq!(refused.status.code(), Some(6), "{}", refused.stderr);
    assert!(refused.stderr.contains("max.message.bytes"), "{}", refused.stderr);
    printed(&broker, "topic set large max.message.bytes=4000000");
    printed(&broker, &line);
}

#[test]
fn a_topic_is_trimmed_before_an_offset_a_time_or_to_its_end() {
    let broker = Broker::start();
    printed(&broker, "topic create packages --partitions 2");
    produce(&broker, "packages", 10);
    let planned = values(&broker, "topic trim packages --before 3 --dry-run");
    assert_eq!((planned[0]["deleted"].as_i64(), planned[1]["deleted"].as_i64()), (Some(3), Some(0)), "{planned:?}");
    assert_eq!(starts(&broker, "packages"), [0, 0], "a dry run deletes nothing");
    printed(&broker, "topic trim packages --before 3");
    assert_eq!(starts(&broker, "packages"), [3, 0]);
    printed(&broker, "topic trim packages --before @6000 --partition 0");
    assert_eq!(starts(&broker, "packages"), [5, 0], "the record of that time stays");
    let told = printed(&broker, "topic trim packages --before end --yes");
    assert!(told.contains("packages-0 begins at offset 10: 5 records went"), "{told}");
    assert_eq!(starts(&broker, "packages"), [10, 0]);
    let wrong = ottla(&broker, "topic trim packages --before 3 --partition 7");
    assert_eq!(wrong.status.code(), Some(4), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("partitions 0 to 1"), "{}", wrong.stderr);
}

#[test]
fn the_offsets_of_a_time_are_those_of_its_first_records() {
    let broker = Broker::start();
    printed(&broker, "topic create packages --partitions 2");
    produce(&broker, "packages", 10);
    let at = |time: &str| {
        let found = values(&broker, &format!("topic offsets packages --at {time}"));
        found.iter().filter_map(|it| it["offset"].as_i64()).collect::<Vec<_>>()
    };
    assert_eq!(at("4000"), [3, 0]);
    assert_eq!(at("@4001"), [4, 0]);
    assert_eq!(at("1970-01-02"), [10, 0], "where no record is that young, the next one");
    assert!(printed(&broker, "topic offsets packages").contains("PARTITION"));
}

#[test]
fn topics_are_found_by_a_pattern_and_the_largest_first() {
    let broker = Broker::start();
    for (topic, records) in [("orders-small", 1), ("orders-large", 500), ("orders-empty", 0), ("packages", 5)] {
        printed(&broker, &format!("topic create {topic} --partitions 1"));
        if records > 0 {
            produce(&broker, topic, records);
        }
    }
    let names = |line: &str| {
        let listed = values(&broker, line);
        listed.iter().map(|it| it["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("topic list"), ["orders-empty", "orders-large", "orders-small", "packages"]);
    assert_eq!(names("topic list orders-*"), ["orders-empty", "orders-large", "orders-small"]);
    assert_eq!(names("topic list --sort size"), ["orders-large", "packages", "orders-small", "orders-empty"]);
    let listed = values(&broker, "topic list orders-* --sort records");
    assert_eq!((listed[0]["name"].as_str(), listed[0]["records"].as_i64()), (Some("orders-large"), Some(500)));
    assert!(listed[0]["bytes"].as_u64() > listed[1]["bytes"].as_u64());
    assert!(printed(&broker, "topic list nothing*").contains("no topic is called nothing*"));
}

#[test]
fn settings_are_spelled_alike_in_create_and_set_and_as_kafka_spells_them() {
    let broker = Broker::start();
    printed(&broker, "topic create one retention.ms=5000 --config max.message.bytes=2000 --replication-factor 1");
    printed(&broker, "topic create two");
    printed(&broker, "topic set two retention.ms=5000 --config max.message.bytes=2000");
    for topic in ["one", "two"] {
        let configs = &values(&broker, &format!("topic describe {topic}"))[0]["configs"];
        assert_eq!(configs["retention.ms"]["value"], "5000", "{topic}");
        assert_eq!(configs["max.message.bytes"]["value"], "2000", "{topic}");
    }
    // What differs from the defaults is what a reader looks for.
    let shown = printed(&broker, "topic describe two");
    let settings: Vec<&str> = shown.lines().skip_while(|line| !line.starts_with("SETTING")).skip(1).collect();
    let first: Vec<&str> = settings.iter().take(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(first, ["max.message.bytes", "retention.ms"], "{shown}");
}

#[test]
fn completions_know_the_commands_and_nothing_hidden() {
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef ottla"), ("fish", "complete -c ottla")] {
        let mut command = Command::new(artifact::ottla());
        command.args(["completions", shell]);
        let script = text(&run(command, &[]));
        assert!(script.contains(mark) && script.contains("consume") && script.contains("trim"), "{shell}");
        assert!(!script.contains("__compile"), "{shell}");
        // The shell itself takes it, where it is installed; bash is everywhere.
        if shell == "bash" {
            let mut check = Command::new("bash");
            check.args(["-n", "-c", &script]);
            let checked = run(check, &[]);
            assert!(checked.status.success(), "{}", checked.stderr);
        }
    }
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(artifact::ottla());
    command.arg("man").arg(directory.path());
    assert!(run(command, &[]).status.success());
    for page in ["ottla.1", "ottla-serve.1", "ottla-topic-create.1", "ottla-plugin-push.1"] {
        let text = std::fs::read_to_string(directory.path().join(page)).unwrap_or_else(|_| panic!("no {page}"));
        assert!(text.contains(".TH"), "{page}");
    }
    let hidden = directory.path().join("ottla-__compile.1");
    assert!(!hidden.exists());
}

#[test]
fn a_profile_stands_for_the_addresses_of_a_broker() {
    let broker = Broker::start();
    let config = tempfile::tempdir().expect("a temporary directory");
    let file = config.path().join("ottla/profiles.toml");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    std::fs::write(&file, format!("[profiles.here]\nbootstrap = \"{}\"\n", broker.bootstrap())).expect("the file");
    let list = |config: &Path, arguments: &[&str]| {
        let mut command = Command::new(artifact::ottla());
        command.args(["topic", "list"]).args(arguments).env("XDG_CONFIG_HOME", config).env_remove("OTTLA_BOOTSTRAP");
        run(command, &[])
    };
    let listed = list(config.path(), &["--profile", "here"]);
    assert!(listed.status.success(), "{}", listed.stderr);
    let unknown = list(config.path(), &["--profile", "there"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        unknown.stderr.contains("no profile there") && unknown.stderr.contains("there are: here"),
        "{}",
        unknown.stderr
    );
}
