//! `ottla config`: the settings of brokers, topics, groups and client metrics, the levels of the log, and where each value comes from.

use clap::{Args, Subcommand};
use ottla_client::{Admin, ClientConfig, ConfigChange, ConfigEntry, ConfigSource, ConfigTarget, ErrorCode};
use serde_json::json;

use super::failure::Failure;
use super::output::Output;
use super::topic::{parse_pair, source_word};

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show settings with the values in force and where each was set
    #[command(after_long_help = DESCRIBE_HELP)]
    Describe(DescribeArgs),
    /// Change settings: all of those given, or none. They hold at once and after a restart
    #[command(after_long_help = SET_HELP)]
    Set(SetArgs),
}

const DESCRIBE_HELP: &str = "\
Without a target: the broker. SET ON says where a value comes from: the topic or group itself, the running broker, all
brokers, the broker (where it was started), or the default.

Examples:
  ottla config describe
  ottla config describe --set
  ottla config describe log.retention.hours num.partitions --doc
  ottla config describe --topic packages
  ottla config describe --group orders --json
  ottla config describe --loggers";

const SET_HELP: &str = "\
Without a target: the broker. What is set on the running broker is kept beside its topics and counts more than its
configuration file. Settings that are read at the start alone are refused: docs/settings.md says which.

Examples:
  ottla config set log.retention.hours=48
  ottla config set --all-brokers auto.create.topics.enable=false
  ottla config set --topic packages max.message.bytes=2000000
  ottla config set --group orders consumer.session.timeout.ms=50000
  ottla config set --loggers ottla_log=DEBUG
  ottla config set --client-metrics java metrics=org.apache.kafka.consumer. interval.ms=10000
  ottla config set --unset log.retention.hours";

/// Whose settings.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Target {
    /// A topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// A group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// A broker by its number; the controller if not given
    #[arg(long, value_name = "NODE")]
    broker: Option<i32>,
    /// What is set for all brokers while they run
    #[arg(long)]
    all_brokers: bool,
    /// The levels of the broker's log, by target; those that are set hold until it ends
    #[arg(long)]
    loggers: bool,
    /// Which metrics clients push to the broker (KIP-714), under a name of your choice
    #[arg(long, value_name = "NAME")]
    client_metrics: Option<String>,
}

/// Arguments of `ottla config describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    target: Target,
    /// Only these settings
    #[arg(value_name = "SETTING")]
    names: Vec<String>,
    /// Only what was set, no defaults
    #[arg(long)]
    set: bool,
    /// Say what each setting does
    #[arg(long)]
    doc: bool,
}

/// Arguments of `ottla config set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    target: Target,
    /// Settings and their new values
    #[arg(value_name = "KEY=VALUE", value_parser = parse_pair, required_unless_present = "unset")]
    settings: Vec<(String, String)>,
    /// A setting that goes back to what it is without; can be repeated
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

/// Runs one of them.
pub(crate) async fn run(command: ConfigCommand, config: ClientConfig, output: &mut Output) -> Result<(), Failure> {
    let admin = Admin::new(config)?;
    match command {
        ConfigCommand::Describe(args) => describe(&admin, &args, output).await,
        ConfigCommand::Set(args) => set(&admin, &args, output).await,
    }
}

impl Target {
    async fn find(&self, admin: &Admin) -> Result<ConfigTarget<'_>, Failure> {
        Ok(match self {
            Self { topic: Some(topic), .. } => ConfigTarget::Topic(topic),
            Self { group: Some(group), .. } => ConfigTarget::Group(group),
            Self { all_brokers: true, .. } => ConfigTarget::AllBrokers,
            Self { client_metrics: Some(name), .. } => ConfigTarget::ClientMetrics(name),
            Self { loggers: true, .. } => ConfigTarget::Loggers(admin.describe_cluster().await?.controller),
            Self { broker: Some(node), .. } => ConfigTarget::Broker(*node),
            Self { .. } => ConfigTarget::Broker(admin.describe_cluster().await?.controller),
        })
    }
}

fn words(target: ConfigTarget<'_>) -> String {
    match target {
        ConfigTarget::Topic(name) => format!("topic {name}"),
        ConfigTarget::Group(name) => format!("group {name}"),
        ConfigTarget::Broker(node) => format!("broker {node}"),
        ConfigTarget::AllBrokers => "all brokers".to_owned(),
        ConfigTarget::ClientMetrics(name) => format!("client metrics {name}"),
        ConfigTarget::Loggers(node) => format!("the log of broker {node}"),
    }
}

async fn describe(admin: &Admin, args: &DescribeArgs, output: &mut Output) -> Result<(), Failure> {
    let target = args.target.find(admin).await?;
    let mut entries = admin.describe_configs(target).await.map_err(|error| failed(target, error.into()))?;
    if let Some(unknown) = args.names.iter().find(|name| entries.iter().all(|entry| entry.name != **name)) {
        let failure =
            Failure::new(super::failure::Kind::NotFound, format!("{} has no setting {unknown}", words(target)));
        return Err(failure.hint("`ottla config describe` lists them all"));
    }
    entries.retain(|entry| {
        (args.names.is_empty() || args.names.contains(&entry.name))
            && !(args.set && entry.source == ConfigSource::Default)
    });
    if output.is_json() {
        return entries.iter().try_for_each(|ConfigEntry { name, value, source, read_only, doc }| {
            output.json_line(&json!({
                "setting": name, "value": value, "source": source_word(*source), "read_only": read_only, "doc": doc,
            }))
        });
    }
    if entries.is_empty() {
        return output.line(&format!("nothing is set on {}", words(target)));
    }
    let mut rows = vec![["SETTING", "VALUE", "SET ON", "CHANGES"].map(str::to_owned).to_vec()];
    for entry in &entries {
        let changes = if entry.read_only { "at the start" } else { "at once" };
        let (value, source) = (entry.value.clone().unwrap_or_default(), source_word(entry.source).to_owned());
        rows.push(vec![entry.name.clone(), value, source, changes.to_owned()]);
    }
    output.table(&rows)?;
    if args.doc {
        for ConfigEntry { name, doc, .. } in &entries {
            output
                .line(&format!("\n{name}\n  {}", doc.as_deref().unwrap_or("the broker does not say what it does")))?;
        }
    }
    Ok(())
}

async fn set(admin: &Admin, args: &SetArgs, output: &mut Output) -> Result<(), Failure> {
    let target = args.target.find(admin).await?;
    let set = args.settings.iter().map(|(name, value)| ConfigChange::Set { name: name.clone(), value: value.clone() });
    let unset = args.unset.iter().map(|name| ConfigChange::Unset { name: name.clone() });
    let changes: Vec<_> = set.chain(unset).collect();
    admin.change_configs(target, &changes).await.map_err(|error| failed(target, error.into()))?;
    let target = words(target);
    for (name, value) in &args.settings {
        let json = json!({ "target": target, "setting": name, "value": value });
        output.say(&format!("{target}: {name} = {value}"), &json)?;
    }
    for name in &args.unset {
        let json = json!({ "target": target, "setting": name, "value": null });
        output.say(&format!("{target}: {name} is not set any more"), &json)?;
    }
    Ok(())
}

fn failed(target: ConfigTarget<'_>, failure: Failure) -> Failure {
    match failure.code() {
        Some(ErrorCode::UnknownTopicOrPartition) => failure
            .say(format!("{} does not exist", words(target)))
            .hint("`ottla topic list` shows the topics there are"),
        Some(ErrorCode::InvalidConfig) => failure.hint("`ottla config describe --doc` lists the settings"),
        _ => failure,
    }
}
