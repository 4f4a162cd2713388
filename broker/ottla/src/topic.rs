//! `ottla topic`: create, list, describe, set, offsets, trim, delete.

mod list;
mod offsets;

use std::io::{IsTerminal, Write, stderr, stdin};

use clap::{Args, Subcommand};
use ottla_client::{
    Admin, AdminError, ClientConfig, ConfigChange, ConfigEntry, ConfigSource, ErrorCode, NewTopic,
    PartitionDescription, TopicDescription,
};
use serde_json::{Map, Value, json};

use super::failure::{Failure, Kind};
use super::output::Output;
use ottla_broker::config::topic_reference;

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic
    #[command(after_long_help = CREATE_HELP)]
    Create(CreateArgs),
    /// List topics
    #[command(after_long_help = LIST_HELP)]
    List(list::ListArgs),
    /// Show where partitions begin and end, or where they were at a time
    #[command(after_long_help = offsets::OFFSETS_HELP)]
    Offsets(offsets::OffsetsArgs),
    /// Delete the oldest records of a topic
    #[command(after_long_help = offsets::TRIM_HELP)]
    Trim(offsets::TrimArgs),
    /// Show the partitions, offsets and settings of a topic
    #[command(after_long_help = DESCRIBE_HELP)]
    Describe {
        /// The topic
        topic: String,
    },
    /// Change settings of a topic: all of those given, or none
    #[command(after_long_help = set_help())]
    Set(SetArgs),
    /// Give a topic more partitions; what is there stays where it is
    #[command(after_long_help = ADD_PARTITIONS_HELP)]
    AddPartitions {
        /// The topic
        topic: String,
        /// How many it is to have in the end
        #[arg(value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
        count: i32,
    },
    /// Delete a topic and every record in it
    #[command(after_long_help = DELETE_HELP)]
    Delete {
        /// The topic
        topic: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

const CREATE_HELP: &str = "\
Examples:
  ottla topic create packages --partitions 6
  ottla topic create logs ottla.durability=page-cache retention.ms=86400000
  ottla topic create logs --config retention.ms=86400000    the same in the words of Kafka's tools
  ottla topic create packages --if-not-exists

`ottla topic set --help` lists the settings.";

const LIST_HELP: &str = "\
Examples:
  ottla topic list
  ottla topic list 'orders-*'
  ottla topic list --sort size           the largest first, with records and sizes
  ottla topic list --json | jq -r .name";

const DESCRIBE_HELP: &str = "\
Examples:
  ottla topic describe packages
  ottla topic describe packages --json | jq .configs";

const ADD_PARTITIONS_HELP: &str = "\
Examples:
  ottla topic add-partitions packages 12

Records that are there stay where they are, and later records of the same key may go to other partitions. A topic never gets
fewer partitions.";

const DELETE_HELP: &str = "\
Examples:
  ottla topic delete packages           asks first, at a terminal
  ottla topic delete packages --yes";

fn set_help() -> String {
    format!(
        "Examples:\n  ottla topic set packages ottla.partitioner=by-section\n  \
         ottla topic set packages max.message.bytes=2000000 compression.type=producer\n  \
         ottla topic set packages --config retention.ms=86400000    the same in the words of Kafka's tools\n  \
         ottla topic set packages --unset ottla.partitioner\n  \
         ottla topic set orders ottla.serializer=json-schema ottla.serializer.config=@orders.schema.json\n\n\
         Settings (name = default):\n{}",
        topic_reference()
    )
}

/// Arguments of `ottla topic create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name: letters, digits, `.`, `_` and `-`
    topic: String,
    /// Settings and their values
    #[arg(value_name = "KEY=VALUE", value_parser = parse_pair)]
    settings: Vec<(String, String)>,
    /// How many partitions; the broker's default if not given
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas; an Ottla broker is one node and keeps one
    #[arg(long, visible_alias = "replication-factor", value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replicas: Option<i16>,
    /// The same as KEY=VALUE; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    config: Vec<(String, String)>,
    /// Succeed if the topic is there already
    #[arg(long)]
    if_not_exists: bool,
}

/// Arguments of `ottla topic set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The topic
    topic: String,
    /// Settings and their new values
    #[arg(value_name = "KEY=VALUE", value_parser = parse_pair, required_unless_present_any = ["unset", "config"])]
    settings: Vec<(String, String)>,
    /// The same as KEY=VALUE; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    config: Vec<(String, String)>,
    /// A setting that goes back to its default; can be repeated
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

/// Reads `KEY=VALUE`; the value may be empty and may have `=` in it.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form KEY=VALUE")),
    }
}

/// Runs one of them.
pub(crate) async fn run(command: TopicCommand, config: ClientConfig, output: &mut Output) -> Result<(), Failure> {
    let admin = Admin::new(config)?;
    match command {
        TopicCommand::Create(args) => create(&admin, &args, output).await,
        TopicCommand::List(args) => list::run(&admin, &args, output).await,
        TopicCommand::Offsets(args) => offsets::show(&admin, &args, output).await,
        TopicCommand::Trim(args) => offsets::trim(&admin, &args, output).await,
        TopicCommand::Describe { topic } => describe(&admin, &topic, output).await,
        TopicCommand::Set(args) => set(&admin, args, output).await,
        TopicCommand::AddPartitions { topic, count } => add_partitions(&admin, &topic, count, output).await,
        TopicCommand::Delete { topic, yes } => delete(&admin, &topic, yes, output).await,
    }
}

async fn create(admin: &Admin, args: &CreateArgs, output: &mut Output) -> Result<(), Failure> {
    let mut topic = NewTopic::new(&args.topic);
    topic.partitions = args.partitions;
    topic.replicas = args.replicas;
    topic.configs = args.settings.iter().chain(&args.config).cloned().collect();
    match admin.create_topic(&topic).await.map_err(Failure::from) {
        Ok(created) => {
            let partitions = match created.partitions {
                Some(1) => " with 1 partition".to_owned(),
                Some(count) => format!(" with {count} partitions"),
                None => String::new(),
            };
            let value = json!({
                "name": &*created.name, "id": created.id.to_string(), "partitions": created.partitions, "created": true,
            });
            output.say(&format!("created topic {}{partitions}", created.name), &value)
        }
        Err(failure) if failure.code() == Some(ErrorCode::TopicAlreadyExists) && args.if_not_exists => {
            let value = json!({ "name": args.topic, "created": false });
            output.say(&format!("topic {} exists", args.topic), &value)
        }
        Err(failure) if failure.code() == Some(ErrorCode::TopicAlreadyExists) => {
            Err(failure.hint(format!("see it with `ottla topic describe {}`, or add --if-not-exists", args.topic)))
        }
        Err(failure) if failure.code() == Some(ErrorCode::InvalidConfig) => {
            Err(failure.hint("`ottla topic set --help` lists the settings"))
        }
        Err(failure) => Err(failure),
    }
}

async fn describe(admin: &Admin, topic: &str, output: &mut Output) -> Result<(), Failure> {
    let described = admin.describe_topic(topic).await.map_err(|error| missing(topic, error))?;
    let mut configs = admin.describe_topic_configs(topic).await.map_err(|error| missing(topic, error))?;
    // What differs from the defaults comes first; the sort is stable.
    configs.sort_by_key(|entry| match entry.source {
        ConfigSource::Topic | ConfigSource::Group | ConfigSource::ClientMetrics | ConfigSource::Logger => 0,
        ConfigSource::RunningBroker | ConfigSource::AllBrokers | ConfigSource::Broker => 1,
        ConfigSource::Other(_) => 2,
        ConfigSource::Default => 3,
    });
    if output.is_json() {
        return output.json_line(&description_json(&described, &configs));
    }
    output.line(&format!("topic  {}", described.name))?;
    output.line(&format!("id     {}\n", described.id))?;
    let cell = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
    let head = ["PARTITION", "LEADER", "START", "END", "RECORDS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(described.partitions.iter().map(|partition| {
        let leader = partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        let (start, end) = (partition.start_offset, partition.end_offset);
        let records = start.zip(end).map(|(start, end)| end.saturating_sub(start));
        vec![partition.index.to_string(), leader, cell(start), cell(end), cell(records)]
    }));
    output.table(&rows)?;
    output.line("")?;
    let mut rows = vec![vec!["SETTING".to_owned(), "VALUE".to_owned(), "SET ON".to_owned()]];
    rows.extend(configs.iter().map(|entry| {
        vec![entry.name.clone(), entry.value.clone().unwrap_or_default(), source_word(entry.source).to_owned()]
    }));
    output.table(&rows)
}

fn description_json(topic: &TopicDescription, configs: &[ConfigEntry]) -> Value {
    let partition = |partition: &PartitionDescription| {
        json!({
            "index": partition.index, "leader": partition.leader, "leader_epoch": partition.leader_epoch,
            "replicas": partition.replicas, "in_sync": partition.in_sync,
            "start_offset": partition.start_offset, "end_offset": partition.end_offset,
        })
    };
    let config = |entry: &ConfigEntry| {
        let value = json!({
            "value": entry.value, "source": source_word(entry.source), "read_only": entry.read_only, "doc": entry.doc,
        });
        (entry.name.clone(), value)
    };
    json!({
        "name": &*topic.name,
        "id": topic.id.to_string(),
        "internal": topic.internal,
        "partitions": topic.partitions.iter().map(partition).collect::<Vec<_>>(),
        "configs": configs.iter().map(config).collect::<Map<_, _>>(),
    })
}

/// Where a value was set, in a word or two.
pub(crate) fn source_word(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "topic",
        ConfigSource::Group => "group",
        ConfigSource::ClientMetrics => "client metrics",
        ConfigSource::Logger => "logger",
        ConfigSource::RunningBroker => "running broker",
        ConfigSource::AllBrokers => "all brokers",
        ConfigSource::Broker => "broker",
        ConfigSource::Default => "default",
        ConfigSource::Other(_) => "other",
    }
}

async fn set(admin: &Admin, args: SetArgs, output: &mut Output) -> Result<(), Failure> {
    let settings: Vec<_> = args.settings.iter().chain(&args.config).collect();
    let set = settings
        .iter()
        .map(|(name, value)| Ok(ConfigChange::Set { name: name.clone(), value: read_if_file(name, value)? }));
    let set = set.collect::<Result<Vec<_>, Failure>>()?.into_iter();
    let unset = args.unset.iter().map(|name| ConfigChange::Unset { name: name.clone() });
    let changes: Vec<_> = set.chain(unset).collect();
    admin.change_topic_configs(&args.topic, &changes).await.map_err(|error| {
        let failure = missing(&args.topic, error);
        match failure.code() {
            Some(ErrorCode::InvalidConfig) => failure.hint("`ottla topic set --help` lists the settings"),
            _ => failure,
        }
    })?;
    for (name, value) in settings {
        let json = json!({ "topic": args.topic, "setting": name, "value": value });
        output.say(&format!("{}: {name} = {value}", args.topic), &json)?;
    }
    for name in &args.unset {
        let json = json!({ "topic": args.topic, "setting": name, "value": null });
        output.say(&format!("{}: {name} is back to its default", args.topic), &json)?;
    }
    Ok(())
}

/// The text of a setting; that of a plugin may be in a file: `ottla.serializer.config=@FILE`.
fn read_if_file(name: &str, value: &str) -> Result<String, Failure> {
    match value.strip_prefix('@').filter(|_| name.starts_with("ottla.") && name.ends_with(".config")) {
        None => Ok(value.to_owned()),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Kind::Usage, format!("cannot read {path} for {name}: {error}"))),
    }
}

async fn add_partitions(admin: &Admin, topic: &str, count: i32, output: &mut Output) -> Result<(), Failure> {
    admin.create_partitions(topic, count).await.map_err(|error| missing(topic, error))?;
    output.say(&format!("topic {topic} has {count} partitions"), &json!({ "name": topic, "partitions": count }))
}

async fn delete(admin: &Admin, topic: &str, yes: bool, output: &mut Output) -> Result<(), Failure> {
    if !yes && stdin().is_terminal() {
        let described = admin.describe_topic(topic).await.map_err(|error| missing(topic, error))?;
        let records: i64 = described
            .partitions
            .iter()
            .filter_map(|partition| Some(partition.end_offset? - partition.start_offset?))
            .sum();
        write!(stderr(), "delete topic {topic} and its {records} records? [y/N] ")?;
        let mut answer = String::new();
        stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::new(Kind::Failed, "nothing was deleted"));
        }
    }
    admin.delete_topic(topic).await.map_err(|error| missing(topic, error))?;
    output.say(&format!("deleted topic {topic}"), &json!({ "name": topic, "deleted": true }))
}

/// Says of a topic that is not there just that, and the way to those that are.
fn missing(topic: &str, error: AdminError) -> Failure {
    let failure = Failure::from(error);
    match failure.code() {
        Some(ErrorCode::UnknownTopicOrPartition) => {
            failure.say(format!("topic {topic} does not exist")).hint("`ottla topic list` shows the topics there are")
        }
        _ => failure,
    }
}
