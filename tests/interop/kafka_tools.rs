//! The command-line tools of Apache Kafka administer Ottla as they do Kafka: kafka-topics.sh, kafka-configs.sh,
//! kafka-consumer-groups.sh, kafka-get-offsets.sh and kafka-delete-records.sh, run from the jars that `cargo xtask setup`
//! fetches. Without Java or the jars nothing runs, and that is said.

use std::path::PathBuf;
use std::process::Command;

use ottla_tests::client::{Client, Finished, Sending, run};
use ottla_tests::{Broker, Record, artifact, skip};

const TOPIC: &str = "orders";

/// Where a class of the tools is, newest place first.
const CONFIGS: &[&str] = &["org.apache.kafka.tools.ConfigCommand", "kafka.admin.ConfigCommand"];
const TOPICS: &[&str] = &["org.apache.kafka.tools.TopicCommand"];
const GROUPS: &[&str] = &["org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"];
const OFFSETS: &[&str] = &["org.apache.kafka.tools.GetOffsetShell"];
const DELETE_RECORDS: &[&str] = &["org.apache.kafka.tools.DeleteRecordsCommand"];

struct Tools {
    jars: PathBuf,
    bootstrap: String,
}

impl Tools {
    /// The tools, if they can run here.
    fn find(test: &str) -> Option<PathBuf> {
        let home = artifact::root().join("target/kafka-4.4");
        let why = if !home.join("complete").exists() {
            "the jars of Kafka are not there: `cargo xtask setup` fetches them"
        } else if Command::new("java").arg("-version").output().is_err() {
            "there is no java"
        } else {
            return Some(home.join("jars"));
        };
        skip::test(test, why);
        None
    }

    fn try_run(&self, classes: &[&str], arguments: &[&str]) -> Finished {
        let mut finished = None;
        for class in classes {
            let mut java = Command::new("java");
            java.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"]);
            java.arg(format!("{}/*", self.jars.display())).arg(class);
            java.args(["--bootstrap-server", &self.bootstrap]).args(arguments);
            let ran = run(java, &[]);
            let is_missing = ran.stderr.contains("Could not find or load main class");
            finished = Some(ran);
            if !is_missing {
                break;
            }
        }
        finished.expect("a class is named")
    }

    /// What a tool prints when all goes well.
    fn run(&self, classes: &[&str], arguments: &[&str]) -> String {
        self.try_run(classes, arguments).success().text()
    }
}

#[test]
fn topics_settings_groups_and_records_are_administered_with_kafkas_tools() {
    let Some(jars) = Tools::find("kafka_tools_administer_topics") else { return };
    let broker = Broker::builder().set("offsets.topic.num.partitions", "3").start();
    let tools = Tools { jars, bootstrap: broker.bootstrap() };

    // kafka-topics.sh
    let create = ["--create", "--topic", TOPIC, "--partitions", "2", "--replication-factor", "1"];
    let said = tools.run(TOPICS, &[&create[..], &["--config", "retention.ms=7000000"]].concat());
    assert!(said.contains("Created topic orders"), "{said}");
    assert_eq!(tools.run(TOPICS, &["--list"]).trim(), TOPIC);
    tools.run(TOPICS, &["--alter", "--topic", TOPIC, "--partitions", "4"]);
    let said = tools.run(TOPICS, &["--describe", "--topic", TOPIC]);
    assert!(said.contains("PartitionCount: 4") && said.contains("retention.ms=7000000"), "{said}");
    assert_eq!(said.matches("Leader: 1").count(), 4, "{said}");
    let refused = tools.try_run(TOPICS, &["--alter", "--topic", TOPIC, "--partitions", "3"]);
    assert!(!refused.status.success() && refused.stderr.contains("would not be an increase"), "{refused:?}");

    // kafka-configs.sh
    let topic = ["--entity-type", "topics", "--entity-name", TOPIC];
    let alter = ["--alter", "--add-config", "max.message.bytes=123456,cleanup.policy=[compact,delete]"];
    tools.run(CONFIGS, &[&topic[..], &alter].concat());
    tools.run(CONFIGS, &[&topic[..], &["--alter", "--delete-config", "retention.ms"]].concat());
    let said = tools.run(CONFIGS, &[&topic[..], &["--describe"]].concat());
    assert!(said.contains("max.message.bytes=123456") && said.contains("cleanup.policy=compact,delete"), "{said}");
    assert!(!said.contains("retention.ms=7000000"), "{said}");
    tools.run(CONFIGS, &[&topic[..], &["--alter", "--delete-config", "cleanup.policy"]].concat());
    let brokers = ["--entity-type", "brokers"];
    let all = [&brokers[..], &["--entity-default"]].concat();
    tools.run(CONFIGS, &[&all[..], &["--alter", "--add-config", "log.retention.ms=8000000"]].concat());
    let said = tools.run(CONFIGS, &[&all[..], &["--describe"]].concat());
    assert!(said.contains("log.retention.ms=8000000"), "{said}");
    let one = [&brokers[..], &["--entity-name", "1"]].concat();
    tools.run(CONFIGS, &[&one[..], &["--alter", "--add-config", "num.partitions=6"]].concat());
    let said = tools.run(CONFIGS, &[&one[..], &["--describe", "--all"]].concat());
    assert!(said.contains("num.partitions=6") && said.contains("DYNAMIC_BROKER_CONFIG"), "{said}");
    let refused = tools.try_run(CONFIGS, &[&one[..], &["--alter", "--add-config", "node.id=9"]].concat());
    assert!(refused.stderr.contains("Cannot update these configs dynamically"), "{refused:?}");

    // kafka-get-offsets.sh and kafka-delete-records.sh
    let records: Vec<Record> = (0..40).map(|number| Record::to(number % 4, format!("k{number}"), "v")).collect();
    Client::KafkaPython.produce(&broker.bootstrap(), TOPIC, &Sending::default(), &records);
    let offsets = |time: &str| -> Vec<String> {
        let said = tools.run(OFFSETS, &["--topic", TOPIC, "--time", time]);
        said.lines().map(str::to_owned).collect()
    };
    assert_eq!(offsets("latest"), ["orders:0:10", "orders:1:10", "orders:2:10", "orders:3:10"]);
    let plan = tempfile::NamedTempFile::new().expect("a file");
    let text = r#"{"partitions":[{"topic":"orders","partition":1,"offset":4}],"version":1}"#;
    std::fs::write(plan.path(), text).expect("the file takes it");
    let said = tools.run(DELETE_RECORDS, &["--offset-json-file", &plan.path().display().to_string()]);
    assert!(said.contains("low_watermark: 4"), "{said}");
    assert_eq!(offsets("earliest"), ["orders:0:0", "orders:1:4", "orders:2:0", "orders:3:0"]);

    // kafka-consumer-groups.sh
    let group = ["--group", "billing", "--topic", TOPIC];
    let reset = [&group[..], &["--reset-offsets", "--to-earliest", "--execute"]].concat();
    let said = tools.run(GROUPS, &reset);
    assert_eq!(said.lines().filter(|line| line.contains(TOPIC)).count(), 4, "{said}");
    assert_eq!(tools.run(GROUPS, &["--list"]).trim(), "billing");
    let said = tools.run(GROUPS, &["--describe", "--group", "billing"]);
    let line = said.lines().find(|line| line.contains("orders          1 ") || line.contains("orders          1\t"));
    let cells: Vec<&str> = line.unwrap_or_else(|| panic!("{said}")).split_whitespace().collect();
    assert_eq!(cells[1..6], ["orders", "1", "4", "10", "6"], "{said}");
    let said = tools.run(GROUPS, &["--describe", "--group", "billing", "--state"]);
    assert!(said.contains("Empty"), "{said}");
    tools.run(GROUPS, &["--delete", "--group", "billing"]);
    assert_eq!(tools.run(GROUPS, &["--list"]).trim(), "");

    tools.run(TOPICS, &["--delete", "--topic", TOPIC]);
    let said = tools.run(TOPICS, &["--list", "--exclude-internal"]);
    assert_eq!(said.trim(), "");
}
