//! Damaged metadata: one copy is mended and told, what both copies lost is named and put together again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ottla_tests::guest::Guest;
use ottla_tests::one_topic::{TOPIC, fetch, produce};
use ottla_tests::{Broker, artifact};
use ottla_wire::ErrorCode;
use serde_json::Value;

fn ottla(words: &[&str], data_dir: &Path) -> Output {
    let mut command = Command::new(artifact::ottla());
    command.args(words).arg("--data-dir").arg(data_dir).stdin(Stdio::null()).output().expect("the command line")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The topics by name, as a dump has them.
fn topics(data_dir: &Path) -> Vec<Value> {
    let dumped = ottla(&["meta", "dump", "--json"], data_dir);
    assert!(dumped.status.success(), "{dumped:?}");
    let lines = text(&dumped.stdout);
    let values = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    values.filter(|value| value["kind"] == "topic").collect()
}

/// Flips a bit in the last place where a file has these bytes.
fn damage(path: &Path, needle: &str) {
    let mut bytes = std::fs::read(path).expect("a file to damage");
    let at = bytes.windows(needle.len()).rposition(|window| window == needle.as_bytes()).expect("the bytes");
    bytes[at] ^= 4;
    std::fs::write(path, bytes).expect("a damaged file");
}

fn copies(data_dir: &Path) -> [PathBuf; 2] {
    [data_dir.join("metadata.log"), data_dir.join("log/metadata.copy")]
}

#[test]
fn a_damaged_copy_is_made_again_and_the_operator_is_told() {
    let mut broker = Broker::start();
    broker.create_topic(TOPIC, 1, &[("retention.ms", "12345678")]);
    let before = topics(broker.data_dir());
    for copy in copies(broker.data_dir()) {
        broker.terminate();
        damage(&copy, "12345678");
        let found = ottla(&["meta", "verify"], broker.data_dir());
        assert_eq!(found.status.code(), Some(1));
        let said = text(&found.stderr);
        assert!(said.contains("1 of 2 copies") && said.contains("nothing is lost"), "{said}");
        broker.restart();
        let name = copy.display().to_string();
        broker.wait_for_line(0, &[&name, "was made again from the other copy", "damaged"]);
        assert!(ottla(&["meta", "verify"], broker.data_dir()).status.success());
        assert_eq!(topics(broker.data_dir()), before);
    }
}

#[test]
fn what_both_copies_lost_is_named_and_put_together_from_the_partitions() {
    let mut broker = Broker::start();
    broker.create_topic(TOPIC, 3, &[("ottla.durability", "page-cache"), ("segment.bytes", "2000000")]);
    broker.create_topic("sound", 1, &[("retention.ms", "12345678")]);
    assert_eq!(produce(&broker, b"kept").0, ErrorCode::None);
    let data_dir = broker.data_dir().to_path_buf();
    let before = topics(&data_dir);
    broker.terminate();
    for copy in copies(&data_dir) {
        damage(&copy, TOPIC);
    }
    let failed = catch_unwind(AssertUnwindSafe(|| broker.restart())).expect_err("no start without a topic");
    let said = failed.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(said.contains("change") && said.contains("ottla meta restore"), "{said}");
    assert!(said.contains("metadata.log: damaged") && said.contains("metadata.copy: damaged"), "{said}");

    let asked = ottla(&["meta", "restore"], &data_dir);
    assert_eq!(asked.status.code(), Some(2), "it changes nothing without being told to");
    let restored = ottla(&["meta", "restore", "--yes"], &data_dir);
    assert!(restored.status.success(), "{restored:?}");
    assert!(text(&restored.stdout).contains(&format!("topic {TOPIC}: found by its 3 partitions")), "{restored:?}");
    broker.restart();
    let after = topics(&data_dir);
    assert_eq!(
        after.iter().map(|topic| &topic["id"]).collect::<Vec<_>>(),
        before.iter().map(|topic| &topic["id"]).collect::<Vec<_>>()
    );
    let found = after.iter().find(|topic| topic["name"] == TOPIC).expect("the topic");
    let settings = &found["configs"];
    assert_eq!((&settings["ottla.durability"], &settings["segment.bytes"]), (&"page-cache".into(), &"2000000".into()));
    assert!(fetch(&broker, 0, 0).expect("records").windows(4).any(|window| window == b"kept"));
}

#[test]
fn a_backup_of_a_running_broker_is_put_back_as_it_was() {
    let mut broker = Broker::start();
    broker.create_topic(TOPIC, 2, &[("retention.ms", "12345678")]);
    broker.push_plugin("spread", &Guest::round_robin().component()).expect("a right plugin");
    let data_dir = broker.data_dir().to_path_buf();
    let backup = ottla(&["meta", "dump", "--json"], &data_dir);
    assert!(backup.status.success());
    assert!(text(&ottla(&["meta", "repair"], &data_dir).stderr).contains("another process uses"));
    broker.set_topic(TOPIC, "retention.ms", "999");
    broker.terminate();
    let file = data_dir.join("backup.jsonl");
    std::fs::write(&file, &backup.stdout).expect("a backup");
    let restored = ottla(&["meta", "restore", "--yes", "--from", &file.display().to_string()], &data_dir);
    assert!(restored.status.success(), "{restored:?}");
    broker.restart();
    assert_eq!(ottla(&["meta", "dump", "--json"], &data_dir).stdout, backup.stdout);
}

#[test]
fn the_second_copy_is_in_a_log_directory_and_makes_the_first_one_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let logs = ["one", "two"].map(|name| directory.path().join(name));
    let dirs = logs.each_ref().map(|path| path.display().to_string()).join(",");
    let mut broker = Broker::builder().data_dir(&data_dir).set("log.dirs", &dirs).start();
    broker.create_topic(TOPIC, 4, &[]);
    let before = topics(&data_dir);
    broker.terminate();
    assert_eq!(logs.each_ref().map(|path| path.join("metadata.copy").exists()), [true, false]);
    std::fs::remove_file(data_dir.join("metadata.log")).expect("the first copy to remove");
    broker.restart();
    assert_eq!(topics(&data_dir), before);
    assert!(ottla(&["log", "verify"], &data_dir).status.success(), "it finds the log directories");
}

#[test]
fn log_verify_covers_the_metadata_the_journal_and_the_plugin_store() {
    let mut broker = Broker::start();
    let version = broker.push_plugin("spread", &Guest::round_robin().component()).expect("a right plugin");
    broker.activate_plugin("spread", version);
    broker.create_topic(TOPIC, 2, &[("ottla.partitioner", "spread")]);
    let data_dir = broker.data_dir().to_path_buf();
    broker.terminate();
    let verify = || ottla(&["log", "verify"], &data_dir);
    let sound = verify();
    let said = text(&sound.stdout);
    assert!(sound.status.success(), "{said}");
    assert!(said.contains("1 plugin versions, whole") && said.contains("entries, whole"), "{said}");
    let component = std::fs::read_dir(data_dir.join("plugins/wasm")).expect("a store").next();
    let component = component.expect("a component").expect("its name").path();
    let whole = std::fs::read(&component).expect("its bytes");
    std::fs::write(&component, b"rubbish").expect("damage");
    damage(&data_dir.join("metadata.log"), TOPIC);
    let found = verify();
    let said = text(&found.stdout);
    assert_eq!(found.status.code(), Some(1), "{said}");
    assert!(said.contains("spread@1: plugin store") && said.contains("push the same file again"), "{said}");
    assert!(said.contains("metadata.log: damaged"), "{said}");
    std::fs::write(&component, whole).expect("the component again");
    broker.restart();
    broker.terminate();
    assert!(verify().status.success());
}
