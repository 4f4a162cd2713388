//! `ottla debug bundle`: one file from a running broker or from what it left, with everything but the data.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ottla_tests::client::{Client, Finished, Sending, run};
use ottla_tests::one_topic::metrics_address;
use ottla_tests::{Broker, Record, artifact};
use serde_json::Value;

/// What must not be in it, in a record, its key and a setting.
const VALUE: &str = "swordfish-in-a-value";
const KEY: &str = "swordfish-in-a-key";
const SECRET: &str = "swordfish-in-a-setting";

fn ottla(words: &[&str]) -> Finished {
    let mut command = Command::new(artifact::ottla());
    command.args(words);
    run(command, &[])
}

/// The files of an archive by name, without the folder that they are in.
fn unpack(archive: &Path) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(directory.path());
    run(tar, &[]).expect_success();
    let folders: Vec<_> = std::fs::read_dir(directory.path()).expect("it").map(|it| it.expect("it").path()).collect();
    assert_eq!(folders.len(), 1, "one folder, so that unpacking it makes no mess: {folders:?}");
    let files = std::fs::read_dir(&folders[0]).expect("a folder").map(|file| {
        let path = file.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).expect("text"))
    });
    files.collect()
}

/// A broker with a record in one topic, and in another one a secret for a plugin.
fn broker_with_data() -> Broker {
    let broker = Broker::builder().set("metrics.listener", "127.0.0.1:0").start();
    let bootstrap = broker.bootstrap();
    let run = |words: &[&str]| ottla(&[words, &["--bootstrap", &bootstrap]].concat()).success().text();
    run(&["topic", "create", "packages", "--partitions", "2", "retention.ms=777000"]);
    let plugin = artifact::plugin("by-section");
    run(&["plugin", "push", &plugin.display().to_string(), "--name", "by-section"]);
    run(&["topic", "create", "configured", &format!("ottla.partitioner.config={SECRET}")]);
    Client::Kcat.produce(&bootstrap, "packages", &Sending::default(), &[Record::to(1, KEY, VALUE)]);
    broker
}

fn assert_no_data(files: &BTreeMap<String, String>) {
    for (name, text) in files {
        for data in [VALUE, KEY, SECRET] {
            assert!(!text.contains(data), "{data} is in {name}");
        }
    }
}

#[test]
fn a_bundle_of_a_running_broker_has_everything_but_its_data() {
    let broker = broker_with_data();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (log, archive) = (directory.path().join("broker.log"), directory.path().join("b.tar.gz"));
    std::fs::write(&log, broker.log_lines().join("\n")).expect("its log");
    let data_dir = broker.data_dir().display().to_string();
    let (archive_name, log_name) = (archive.display().to_string(), log.display().to_string());
    let words = ["debug", "bundle", &archive_name, "--data-dir", &data_dir, "--bootstrap", &broker.bootstrap()];
    let metrics = metrics_address(&broker);
    let told = ottla(&[&words[..], &["--metrics", &metrics, "--broker-log", &log_name, "--verify"]].concat());
    let told = told.success().text();
    assert!(told.contains("b.tar.gz") && told.contains("No records"), "{told}");

    let files = unpack(&archive);
    assert_no_data(&files);
    for (file, parts) in [
        ("README.txt", &["settings.json", "No records", "metrics.txt"][..]),
        ("version.json", &[env!("CARGO_PKG_VERSION")]),
        ("cluster.json", &[&broker.bootstrap()]),
        ("settings.json", &["num.partitions", "metrics.listener"]),
        ("topics.json", &["packages", "777000", "<left out>"]),
        ("plugins.json", &["by-section", "digest"]),
        ("metadata.json", &["packages", "777000", "<left out>"]),
        ("metrics.txt", &["ottla_build_info", "ottla_connections_open"]),
        ("log.txt", &["listening on"]),
        ("files.txt", &["packages-1/", "00000000000000000000.log"]),
        ("sizes.txt", &["packages"]),
        ("verify.txt", &["nothing is wrong"]),
        ("process.txt", &["ottla", "Max open files", "VmRSS"]),
        ("machine.txt", &["processors", "MemTotal", "the file system of"]),
    ] {
        let text = files.get(file).unwrap_or_else(|| panic!("no {file} in {:?}", files.keys()));
        for part in parts {
            assert!(text.contains(part), "no {part} in {file}: {text}");
        }
    }
    let topics: Value = serde_json::from_str(&files["topics.json"]).expect("JSON");
    let packages = topics.as_array().expect("a list").iter().find(|it| it["topic"] == "packages").expect("it");
    assert_eq!(packages["offsets"][1]["end"], 1);
}

/// What a broker leaves behind is enough; what only a running one knows is named as missing.
#[test]
fn a_bundle_of_a_stopped_broker_says_what_it_could_not_have() {
    let mut broker = broker_with_data();
    broker.terminate();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (archive, config) = (directory.path().join("b.tar.gz"), directory.path().join("ottla.toml"));
    std::fs::write(&config, "num.partitions = 7\n").expect("a file");
    let (data_dir, archive_name) = (broker.data_dir().display().to_string(), archive.display().to_string());
    let config = config.display().to_string();
    let words = ["debug", "bundle", &archive_name, "--data-dir", &data_dir, "--bootstrap", &broker.bootstrap()];
    let told = ottla(&[&words[..], &["--config", &config]].concat()).success().text();
    assert!(told.contains("without the running broker"), "{told}");
    let files = unpack(&archive);
    assert_no_data(&files);
    assert!(files["README.txt"].contains("the running broker"), "{}", files["README.txt"]);
    assert!(files["metadata.json"].contains("777000") && files["files.txt"].contains("packages-1/"));
    assert!(files["settings-of-file.json"].contains("num.partitions"));
    let again = ottla(&words);
    assert_eq!(again.status.code(), Some(1), "an earlier file is kept");
    assert!(again.stderr.contains("b.tar.gz"), "{}", again.stderr);
}

#[test]
fn a_bundle_of_nothing_says_what_to_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (data_dir, archive) = (directory.path().display().to_string(), directory.path().join("b.tar.gz"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let archive_name = archive.display().to_string();
    let told = ottla(&["debug", "bundle", &archive_name, "--data-dir", &data_dir, "--bootstrap", &closed.to_string()]);
    assert_eq!(told.status.code(), Some(4));
    assert!(told.stderr.contains("--data-dir") && !archive.exists(), "{}", told.stderr);
}
