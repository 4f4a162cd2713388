//! The settings of Kafka 4.4 that Ottla does not have: which of them it takes without effect, so that a configuration can be
//! kept as it is, which it refuses, because ignoring them would mislead, and why.

use super::value::spelled;

spelled! {
    /// What becomes of a setting of Kafka that Ottla does not have.
    Standing {
        /// It is taken, with a line in the log, and nothing acts on it.
        WithoutEffect = "accepted without effect",
        /// The broker does not start with it, or the topic does not get it.
        Refused = "refused",
    }
}

/// Settings of Kafka with one fate.
pub struct KafkaSettings {
    /// Their names; one that ends with `*` stands for all that begin so.
    pub names: &'static [&'static str],
    /// What becomes of them.
    pub standing: Standing,
    /// Why.
    pub why: &'static str,
}

impl KafkaSettings {
    /// The broker settings that this name is one of.
    pub fn find(name: &str) -> Option<&'static Self> {
        KAFKA_BROKER_SETTINGS.iter().find(|settings| settings.include(name))
    }

    /// The topic settings that this name is one of.
    pub fn find_topic(name: &str) -> Option<&'static Self> {
        KAFKA_TOPIC_SETTINGS.iter().find(|settings| settings.include(name))
    }

    fn include(&self, name: &str) -> bool {
        self.names.iter().any(|known| match known.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *known == name,
        })
    }
}

/// Broker settings.
pub static KAFKA_BROKER_SETTINGS: &[KafkaSettings] = &[
    KafkaSettings {
        names: &[
            "ssl.*",
            "sasl.*",
            "security.*",
            "principal.builder.class",
            "connections.max.reauth.ms",
            "connection.failed.authentication.delay.ms",
            "delegation.token.*",
        ],
        standing: Standing::Refused,
        why: "there is no TLS and no authentication yet: connections would be open where the configuration says that they are not",
    },
    KafkaSettings {
        names: &["authorizer.class.name", "create.topic.policy.class.name", "alter.config.policy.class.name"],
        standing: Standing::Refused,
        why: "there are no access control lists and no policies in Java: what they forbid would be allowed",
    },
    KafkaSettings {
        names: &["client.quota.callback.class", "max.connection.creation.rate", "max.connections.per.ip.overrides"],
        standing: Standing::Refused,
        why: "there are no quotas: `max.connections` and `max.connections.per.ip` are the bounds on clients",
    },
    KafkaSettings {
        names: &["remote.*", "log.remote.*", "log.local.*", "follower.fetch.last.tiered.offset.enable"],
        standing: Standing::Refused,
        why: "there is no tiered storage: records would be expected where they are not",
    },
    KafkaSettings {
        names: &["cordoned.log.dirs", "config.providers", "early.start.listeners"],
        standing: Standing::Refused,
        why: "nothing acts on it, and a broker that ignored it would use directories, secrets or listeners it was told not to",
    },
    KafkaSettings {
        names: &[
            "process.roles",
            "broker.id",
            "broker.rack",
            "broker.heartbeat.interval.ms",
            "broker.session.timeout.ms",
            "controller.*",
            "controlled.shutdown.enable",
            "initial.broker.registration.timeout.ms",
            "inter.broker.listener.name",
            "metadata.*",
            "internal.metadata.*",
            "server.max.startup.time.ms",
            "unstable.*",
            "auto.leader.rebalance.enable",
            "leader.imbalance.check.interval.seconds",
            "unclean.leader.election.interval.ms",
        ],
        standing: Standing::WithoutEffect,
        why: "one node is its own controller and leads every partition; its number is `node.id`, its metadata lies in `log.dir`",
    },
    KafkaSettings {
        names: &[
            "replica.*",
            "num.replica.fetchers",
            "num.replica.alter.log.dirs.threads",
            "replication.quota.*",
            "alter.log.dirs.replication.quota.*",
        ],
        standing: Standing::WithoutEffect,
        why: "one node has one replica of each partition, and nothing to copy",
    },
    KafkaSettings {
        names: &["transaction.*", "transactional.id.expiration.ms", "add.partitions.to.txn.*"],
        standing: Standing::WithoutEffect,
        why: "there are no transactions yet; a client that asks for one gets an error that says so",
    },
    KafkaSettings {
        names: &["group.share.*", "group.streams.*", "share.*", "errors.deadletterqueue.*"],
        standing: Standing::WithoutEffect,
        why: "there are no share groups and no streams groups; clients fall back or get an error that says so",
    },
    KafkaSettings {
        names: &[
            "group.coordinator.*",
            "group.consumer.assignors",
            "group.consumer.assignor.offload.enable",
            "group.consumer.min.assignment.interval.ms",
            "group.consumer.max.assignment.interval.ms",
            "offsets.commit.timeout.ms",
            "offsets.load.buffer.size",
            "offsets.topic.compression.codec",
        ],
        standing: Standing::WithoutEffect,
        why: "the coordinator of groups needs no threads, buffers or batches of its own; it has the assignors uniform and range, \
              and both protocols",
    },
    KafkaSettings {
        names: &[
            "background.threads",
            "num.io.threads",
            "num.recovery.threads.per.data.dir",
            "queued.max.requests",
            "queued.max.request.bytes",
            "delete.records.purgatory.purge.interval.requests",
            "fetch.purgatory.purge.interval.requests",
            "producer.purgatory.purge.interval.requests",
            "producer.id.expiration.check.interval.ms",
            "request.timeout.ms",
            "max.request.partition.size.limit",
            "max.decompressed.message.bytes",
        ],
        standing: Standing::WithoutEffect,
        why: "requests are served by `num.network.threads` without queues between threads; the bounds are \
              `ottla.connection.requests.max`, `ottla.connection.request.bytes.max` and `ottla.stage.unpacked.max.bytes`",
    },
    KafkaSettings {
        names: &[
            "socket.receive.buffer.bytes",
            "socket.send.buffer.bytes",
            "socket.listen.backlog.size",
            "socket.connection.*",
        ],
        standing: Standing::WithoutEffect,
        why: "the system sizes the buffers of sockets",
    },
    KafkaSettings {
        names: &[
            "log.cleaner.enable",
            "log.cleaner.threads",
            "log.cleaner.io.buffer.load.factor",
            "log.cleaner.io.buffer.size",
            "log.dir.failure.timeout.ms",
            "log.flush.offset.checkpoint.interval.ms",
            "log.flush.scheduler.interval.ms",
            "log.flush.start.offset.checkpoint.interval.ms",
            "log.initial.task.delay.ms",
            "log.roll.jitter.hours",
        ],
        standing: Standing::WithoutEffect,
        why: "the log flushes by `ottla.durability`, keeps its own checkpoints and compacts on one thread; jitter is \
              `log.roll.jitter.ms`",
    },
    KafkaSettings {
        names: &["compression.gzip.level", "compression.lz4.level", "compression.zstd.level"],
        standing: Standing::WithoutEffect,
        why: "batches are kept as the producer sent them",
    },
    KafkaSettings {
        names: &["metric.reporters", "metrics.*", "kafka.metrics.*", "quota.window.*"],
        standing: Standing::WithoutEffect,
        why: "metrics are served to Prometheus (`metrics.listener`), not handed to reporters in Java",
    },
];

/// Topic settings.
pub static KAFKA_TOPIC_SETTINGS: &[KafkaSettings] = &[
    KafkaSettings {
        names: &["remote.*", "local.retention.bytes", "local.retention.ms"],
        standing: Standing::Refused,
        why: "there is no tiered storage: records would be expected where they are not",
    },
    KafkaSettings {
        names: &["follower.replication.throttled.replicas", "leader.replication.throttled.replicas"],
        standing: Standing::Refused,
        why: "one node has nothing to copy",
    },
    KafkaSettings {
        names: &["errors.deadletterqueue.group.enable"],
        standing: Standing::Refused,
        why: "there are no share groups",
    },
    KafkaSettings {
        names: &["max.decompressed.message.bytes"],
        standing: Standing::Refused,
        why: "the bound on unpacked batches is the broker's `ottla.stage.unpacked.max.bytes`",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic::TopicSetting;
    use crate::config::{KAFKA_NAMES, Setting};

    #[test]
    fn every_setting_of_kafka_is_honoured_taken_or_refused() {
        for line in KAFKA_NAMES.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let known = match line.split_once(' ') {
                Some(("broker", name)) => (Setting::find(name).is_some(), KafkaSettings::find(name).is_some()),
                Some(("topic", name)) => {
                    (TopicSetting::find(name).is_some(), KafkaSettings::find_topic(name).is_some())
                }
                _ => panic!("{line}"),
            };
            assert!(known.0 ^ known.1, "{line}: in our table {}, in that of Kafka's {}", known.0, known.1);
        }
    }
}
