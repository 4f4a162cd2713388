//! What a running broker answers.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use ottla_client::{Admin, AdminError, ClientConfig, ConfigEntry, ConfigSource, ConfigTarget, TopicPartition};
use serde_json::{Map, Value, json};

use super::bundle::Bundle;
use super::mask;
use crate::failure::Failure;
use crate::topic::source_word;

/// How long the broker may take for one part.
const PATIENCE: Duration = Duration::from_secs(20);
/// Topics that are described with settings and offsets; the others are listed.
const TOPICS_MAX: usize = 1000;
/// Groups that are described.
const GROUPS_MAX: usize = 1000;
const METRICS_LISTENER: &str = "metrics.listener";
/// Bytes of a page of metrics at most.
const METRICS_BYTES_MAX: u64 = 64 << 20;

/// Adds all of it. An error if no broker answers; what it refuses alone is told in the bundle.
pub(super) async fn gather(config: ClientConfig, metrics: Option<&str>, bundle: &mut Bundle) -> Result<(), Failure> {
    let addresses = config.bootstrap.clone();
    let admin = Admin::new(config)?;
    let Ok(cluster) = tokio::time::timeout(PATIENCE, admin.describe_cluster()).await else {
        return Err(Failure::new(
            crate::failure::Kind::Unreachable,
            format!("no answer within {} s", PATIENCE.as_secs()),
        ));
    };
    let cluster = cluster?;
    let brokers: Vec<_> =
        cluster.brokers.iter().map(|broker| json!({ "node": broker.node, "address": broker.address })).collect();
    let value = json!({ "id": cluster.id.as_deref(), "controller": cluster.controller, "brokers": brokers });
    bundle.add_json("cluster.json", "The cluster, and the addresses that clients of this address are told", &value);

    let settings = patiently(admin.describe_configs(ConfigTarget::Broker(cluster.controller))).await;
    let mut metrics = metrics.map(str::to_owned);
    match settings {
        Ok(settings) => {
            let listener = settings.iter().find(|entry| entry.name == METRICS_LISTENER);
            metrics = metrics.or_else(|| listener?.value.clone().filter(|value| !value.is_empty()));
            let what = "The settings in force, and where each was set";
            bundle.add_json("settings.json", what, &settings.iter().map(setting).collect());
        }
        Err(error) => bundle.missing("the settings", &error),
    }
    match topics(&admin).await {
        Ok(topics) => bundle.add_json("topics.json", "Topics with changed settings and offsets", &topics),
        Err(error) => bundle.missing("the topics", &error),
    }
    match groups(&admin).await {
        Ok(groups) => bundle.add_json("groups.json", "Groups with members and committed offsets", &groups),
        Err(error) => bundle.missing("the groups", &error),
    }
    match patiently(admin.list_plugins()).await {
        Ok(plugins) => {
            let plugins = plugins.iter().map(|plugin| {
                let versions = plugin.versions.iter().map(|version| {
                    json!({ "version": version.version, "digest": version.digest, "kind": version.kind,
                            "bytes": version.bytes, "created_ms": version.created_ms, "marked_bad": version.marked_bad })
                });
                json!({ "plugin": plugin.name, "active": plugin.active, "topics": plugin.topics,
                        "versions": versions.collect::<Vec<_>>() })
            });
            bundle.add_json(
                "plugins.json",
                "Plugins by version and digest, and the topics that use them",
                &plugins.collect(),
            );
        }
        Err(error) => bundle.missing("the plugins", &error),
    }
    match metrics {
        None => bundle.missing("the metrics", &format!("the broker has no {METRICS_LISTENER}")),
        Some(address) if address.ends_with(":0") => {
            bundle.missing("the metrics", "the system chose their port: name it with --metrics HOST:PORT");
        }
        Some(address) => match page(&address, &addresses) {
            Ok(page) => bundle.add("metrics.txt", "The page of metrics", page),
            Err(error) => bundle.missing("the metrics", &format!("{address}: {error}")),
        },
    }
    Ok(())
}

async fn patiently<T, E: Display>(work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn setting(entry: &ConfigEntry) -> Value {
    let value = entry.value.as_deref().map(|value| mask::value(&entry.name, value));
    json!({ "setting": entry.name, "value": value, "set_on": source_word(entry.source) })
}

async fn topics(admin: &Admin) -> Result<Value, String> {
    let topics = patiently(admin.list_topics()).await?;
    let sizes = patiently(admin.topic_sizes()).await.unwrap_or_default();
    let mut all = Vec::new();
    let started = tokio::time::Instant::now();
    for (count, topic) in topics.iter().enumerate() {
        let mut fields = Map::new();
        fields.insert("topic".to_owned(), (*topic.name).into());
        fields.insert("partitions".to_owned(), topic.partitions.into());
        fields.insert("bytes".to_owned(), sizes.get(&topic.name).copied().into());
        if count < TOPICS_MAX && started.elapsed() < PATIENCE {
            match patiently(described(admin, &topic.name)).await {
                Ok((settings, offsets)) => {
                    fields.insert("settings".to_owned(), settings);
                    fields.insert("offsets".to_owned(), offsets);
                }
                Err(error) => _ = fields.insert("error".to_owned(), error.into()),
            }
        }
        all.push(Value::Object(fields));
    }
    Ok(all.into())
}

/// The settings that a topic changes, and where its partitions begin and end.
async fn described(admin: &Admin, name: &str) -> Result<(Value, Value), AdminError> {
    let settings = admin.describe_topic_configs(name).await?;
    let changed = settings.iter().filter(|entry| entry.source != ConfigSource::Default).map(setting);
    let topic = admin.describe_topic(name).await?;
    let offsets = topic.partitions.iter().map(|partition| {
        json!({ "partition": partition.index, "start": partition.start_offset, "end": partition.end_offset,
                "leader_epoch": partition.leader_epoch })
    });
    Ok((changed.collect(), offsets.collect()))
}

async fn groups(admin: &Admin) -> Result<Value, String> {
    let groups = patiently(admin.list_groups()).await?;
    let mut all = Vec::new();
    let started = tokio::time::Instant::now();
    for (count, group) in groups.iter().enumerate() {
        let mut fields = Map::new();
        fields.insert("group".to_owned(), (*group.id).into());
        fields.insert("state".to_owned(), (*group.state).into());
        fields.insert("kind".to_owned(), (*group.kind).into());
        if count < GROUPS_MAX && started.elapsed() < PATIENCE {
            match patiently(admin.describe_group(&group.id)).await {
                Ok(described) => {
                    let members = described.members.iter().map(|member| {
                        let owned = member.partitions.iter().map(named);
                        json!({ "member": &*member.id, "client": &*member.client_id, "host": &*member.host,
                                "partitions": owned.collect::<Vec<_>>() })
                    });
                    fields.insert("members".to_owned(), members.collect());
                }
                Err(error) => _ = fields.insert("error".to_owned(), error.into()),
            }
            if let Ok(committed) = patiently(admin.committed_offsets(&group.id)).await {
                let committed = committed.iter().map(|(at, offset)| (named(at), (*offset).into()));
                fields.insert("committed".to_owned(), Value::Object(committed.collect()));
            }
        }
        all.push(Value::Object(fields));
    }
    Ok(all.into())
}

fn named(at: &TopicPartition) -> String {
    format!("{}-{}", at.topic, at.partition)
}

/// The page of metrics. A broker that serves it on every interface, does so where it serves clients.
fn page(address: &str, bootstrap: &[String]) -> io::Result<Vec<u8>> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let client_host = bootstrap.first().and_then(|address| Some(address.rsplit_once(':')?.0)).unwrap_or("127.0.0.1");
    let host = if matches!(host, "0.0.0.0" | "[::]" | "") { client_host } else { host };
    let address = format!("{host}:{port}");
    let found = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&found, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(METRICS_BYTES_MAX).read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(io::Error::other("it does not answer with a page"));
    }
    Ok(answer.split_off(head + 4))
}
