//! `ottla cluster`: what a cluster is.

use clap::Subcommand;
use ottla_client::{Admin, ClientConfig};
use serde_json::json;

use super::failure::Failure;
use super::output::Output;

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the id of the cluster, its brokers, and how many topics, partitions and groups there are
    #[command(after_long_help = INFO_HELP)]
    Info,
}

const INFO_HELP: &str = "\
Examples:
  ottla cluster info
  ottla cluster info --json | jq -r .id";

/// Runs one of them.
pub(crate) async fn run(command: ClusterCommand, config: ClientConfig, output: &mut Output) -> Result<(), Failure> {
    let admin = Admin::new(config)?;
    match command {
        ClusterCommand::Info => info(&admin, output).await,
    }
}

async fn info(admin: &Admin, output: &mut Output) -> Result<(), Failure> {
    let cluster = admin.describe_cluster().await?;
    let topics = admin.list_topics().await?;
    let groups = admin.list_groups().await?;
    let partitions: usize = topics.iter().map(|topic| topic.partitions).sum();
    if output.is_json() {
        let brokers: Vec<_> =
            cluster.brokers.iter().map(|broker| json!({ "node": broker.node, "address": broker.address })).collect();
        return output.json_line(&json!({
            "id": cluster.id.as_deref(), "controller": cluster.controller, "brokers": brokers,
            "topics": topics.len(), "partitions": partitions, "groups": groups.len(),
        }));
    }
    output.line(&format!("cluster     {}", cluster.id.as_deref().unwrap_or("-")))?;
    output.line(&format!("topics      {} with {partitions} partitions", topics.len()))?;
    output.line(&format!("groups      {}\n", groups.len()))?;
    let mut rows = vec![["BROKER", "ADDRESS", "CONTROLLER"].map(str::to_owned).to_vec()];
    rows.extend(cluster.brokers.iter().map(|broker| {
        let controller = if broker.node == cluster.controller { "yes" } else { "" };
        vec![broker.node.to_string(), broker.address.clone(), controller.to_owned()]
    }));
    output.table(&rows)
}
