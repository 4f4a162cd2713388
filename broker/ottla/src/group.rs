//! `ottla group`: list, describe, offsets, delete.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use ottla_client::{
    Admin, AdminError, ClientConfig, ErrorCode, GroupDescription, GroupMember, StartFrom, TopicPartition,
};
use serde_json::{Value, json};

use super::failure::{Failure, Kind};
use super::instant::{ms_ago, parse_utc};
use super::output::Output;

/// What to do with consumer groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups
    #[command(after_long_help = LIST_HELP)]
    List,
    /// Show the state of a group, its members and how far behind it is
    #[command(after_long_help = DESCRIBE_HELP)]
    Describe {
        /// The group
        group: String,
        /// Also its members and the partitions that each owns
        #[arg(long)]
        members: bool,
        /// Also, for each partition, what is committed and how many records are behind it
        #[arg(long)]
        lag: bool,
    },
    /// Show the committed offsets of a group, or set them while it has no members
    #[command(after_long_help = OFFSETS_HELP)]
    Offsets(OffsetsArgs),
    /// Delete a group that has no members, with all its offsets
    #[command(after_long_help = DELETE_HELP)]
    Delete {
        /// The group
        group: String,
    },
}

const LIST_HELP: &str = "\
Examples:
  ottla group list
  ottla group list --json | jq -r .group";

const DESCRIBE_HELP: &str = "\
Examples:
  ottla group describe orders
  ottla group describe orders --members --lag
  ottla group describe orders --lag --json | jq '[.partitions[].lag] | add'";

const OFFSETS_HELP: &str = "\
Examples:
  ottla group offsets orders
  ottla group offsets orders --reset --to earliest --dry-run
  ottla group offsets orders --reset --to @2026-01-31T12:30Z --topic packages
  ottla group offsets orders --reset --to by-duration=PT1H30M       an hour and a half ago

Consumers that are running would overwrite what is set: stop them first.";

const DELETE_HELP: &str = "\
Examples:
  ottla group delete orders";

/// Arguments of `ottla group offsets`.
#[derive(Debug, Args)]
pub(crate) struct OffsetsArgs {
    /// The group
    group: String,
    /// Set the offsets
    #[arg(long, requires = "to")]
    reset: bool,
    /// Where to: earliest, latest, an offset, @ and a point in time (UTC), or by-duration= and how long ago
    #[arg(long, value_name = "WHERE", value_parser = parse_to, requires = "reset", allow_hyphen_values = true)]
    to: Option<StartFrom>,
    /// Only this topic, also where nothing of it is committed yet; can be repeated
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Only say what would be set
    #[arg(long, requires = "reset")]
    dry_run: bool,
}

fn parse_to(text: &str) -> Result<StartFrom, String> {
    if let Some(duration) = text.strip_prefix("by-duration=") {
        let ago = ms_ago(duration).map(StartFrom::Timestamp);
        return ago.ok_or_else(|| format!("{duration:?} is no duration: write PT1H30M, P2D or 90m"));
    }
    match (text, text.strip_prefix('@'), text.parse::<i64>()) {
        ("earliest" | "beginning", ..) => Ok(StartFrom::Earliest),
        ("latest" | "end", ..) => Ok(StartFrom::Latest),
        (_, Some(instant), _) => parse_utc(instant).map(StartFrom::Timestamp).ok_or_else(|| {
            format!("{instant:?} is no point in time: write 2026-01-31T12:30Z or milliseconds since 1970")
        }),
        (_, None, Ok(offset)) if offset >= 0 => Ok(StartFrom::Offset(offset)),
        _ => Err("use earliest, latest, an offset, @ and a point in time, or by-duration= and how long ago".to_owned()),
    }
}

/// Runs one of them.
pub(crate) async fn run(command: GroupCommand, config: ClientConfig, output: &mut Output) -> Result<(), Failure> {
    let admin = Admin::new(config)?;
    match command {
        GroupCommand::List => list(&admin, output).await,
        GroupCommand::Describe { group, members, lag } => describe(&admin, &group, members, lag, output).await,
        GroupCommand::Offsets(args) if args.reset => reset(&admin, &args, output).await,
        GroupCommand::Offsets(args) => offsets(&admin, &args, output).await,
        GroupCommand::Delete { group } => {
            admin.delete_group(&group).await.map_err(|error| failed(&group, error))?;
            output.say(&format!("deleted group {group}"), &json!({ "group": group, "deleted": true }))
        }
    }
}

async fn list(admin: &Admin, output: &mut Output) -> Result<(), Failure> {
    let groups = admin.list_groups().await?;
    if output.is_json() {
        return groups.iter().try_for_each(|group| {
            output.json_line(&json!({
                "group": &*group.id, "state": &*group.state, "type": &*group.kind,
                "protocol_type": &*group.protocol_type,
            }))
        });
    }
    if groups.is_empty() {
        return output.line("no groups yet; the first consumer with a group.id makes one");
    }
    let mut rows = vec![["GROUP", "STATE", "TYPE", "PROTOCOL"].map(str::to_owned).to_vec()];
    rows.extend(
        groups.iter().map(|group| {
            [&group.id, &group.state, &group.kind, &group.protocol_type].map(ToString::to_string).to_vec()
        }),
    );
    output.table(&rows)
}

async fn describe(admin: &Admin, group: &str, members: bool, lag: bool, output: &mut Output) -> Result<(), Failure> {
    let described = admin.describe_group(group).await.map_err(|error| failed(group, error))?;
    let positions = if lag { positions(admin, group, &described).await? } else { Vec::new() };
    if output.is_json() {
        return output.json_line(&described_json(&described, lag.then_some(positions.as_slice())));
    }
    output.line(&format!("group     {}", described.id))?;
    output.line(&format!("state     {}", described.state))?;
    output.line(&format!("type      {}", described.kind))?;
    output.line(&format!("assignor  {}", dash(&described.assignor)))?;
    output.line(&format!("members   {}", described.members.len()))?;
    if members {
        output.line("")?;
        let head = ["MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(described.members.iter().map(|member| {
            let owned: Vec<_> = member.partitions.iter().map(|it| format!("{}-{}", it.topic, it.partition)).collect();
            let instance = member.instance_id.as_deref().unwrap_or_default();
            [&*member.id, dash(instance), &*member.client_id, &*member.host, dash(&owned.join(" "))]
                .map(str::to_owned)
                .to_vec()
        }));
        output.table(&rows)?;
    }
    if lag {
        output.line("")?;
        let head = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(positions.iter().map(|position| {
            let TopicPartition { topic, partition } = &position.partition;
            let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            let owner = dash(position.member.as_deref().unwrap_or_default()).to_owned();
            let (committed, end) = (number(position.committed), number(position.end));
            vec![topic.to_string(), partition.to_string(), committed, end, number(position.lag()), owner]
        }));
        output.table(&rows)?;
    }
    Ok(())
}

/// How far a group is in one partition.
struct Position {
    partition: TopicPartition,
    committed: Option<i64>,
    end: Option<i64>,
    member: Option<String>,
}

impl Position {
    fn lag(&self) -> Option<i64> {
        Some(self.end?.saturating_sub(self.committed?).max(0))
    }
}

/// Every partition that a member owns or of which something is committed.
async fn positions(admin: &Admin, group: &str, described: &GroupDescription) -> Result<Vec<Position>, Failure> {
    let committed = admin.committed_offsets(group).await.map_err(|error| failed(group, error))?;
    let owners: BTreeMap<&TopicPartition, &GroupMember> =
        described.members.iter().flat_map(|member| member.partitions.iter().map(move |it| (it, member))).collect();
    let partitions: BTreeSet<TopicPartition> = committed.keys().chain(owners.keys().copied()).cloned().collect();
    let ends = admin.find_offsets(&partitions, StartFrom::Latest).await?;
    let position = |partition: TopicPartition| Position {
        committed: committed.get(&partition).copied(),
        end: ends.get(&partition).copied().flatten(),
        member: owners.get(&partition).map(|member| member.id.to_string()),
        partition,
    };
    Ok(partitions.into_iter().map(position).collect())
}

fn described_json(group: &GroupDescription, positions: Option<&[Position]>) -> Value {
    let partition = |it: &TopicPartition| json!({ "topic": &*it.topic, "partition": it.partition });
    let member = |member: &GroupMember| {
        json!({
            "member": &*member.id, "instance": member.instance_id.as_deref(), "client": &*member.client_id,
            "host": &*member.host, "partitions": member.partitions.iter().map(partition).collect::<Vec<_>>(),
        })
    };
    let mut value = json!({
        "group": &*group.id, "state": &*group.state, "type": group.kind, "assignor": &*group.assignor,
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
    });
    if let (Some(positions), Some(fields)) = (positions, value.as_object_mut()) {
        let position = |position: &Position| {
            json!({
                "topic": &*position.partition.topic, "partition": position.partition.partition,
                "committed": position.committed, "end": position.end, "lag": position.lag(),
                "member": position.member,
            })
        };
        fields.insert("partitions".to_owned(), positions.iter().map(position).collect());
    }
    value
}

async fn offsets(admin: &Admin, args: &OffsetsArgs, output: &mut Output) -> Result<(), Failure> {
    let mut committed = admin.committed_offsets(&args.group).await.map_err(|error| failed(&args.group, error))?;
    committed
        .retain(|partition, _| args.topic.is_empty() || args.topic.iter().any(|topic| **topic == *partition.topic));
    show(&args.group, &committed, false, output)
}

async fn reset(admin: &Admin, args: &OffsetsArgs, output: &mut Output) -> Result<(), Failure> {
    let Some(to) = args.to else { return Err(Failure::new(Kind::Usage, "--reset needs --to")) };
    let mut partitions = BTreeSet::new();
    if args.topic.is_empty() {
        let committed = admin.committed_offsets(&args.group).await.map_err(|error| failed(&args.group, error))?;
        partitions.extend(committed.into_keys());
    }
    for topic in &args.topic {
        let described = admin.describe_topic(topic).await?;
        let name = &described.name;
        partitions
            .extend(described.partitions.iter().map(|it| TopicPartition { topic: name.clone(), partition: it.index }));
    }
    if partitions.is_empty() {
        let nothing = format!("group {} has committed nothing", args.group);
        return Err(Failure::new(Kind::NotFound, nothing).hint("name the topics whose offsets to set: --topic TOPIC"));
    }
    let starts = admin.find_offsets(&partitions, StartFrom::Earliest).await?;
    let ends = admin.find_offsets(&partitions, StartFrom::Latest).await?;
    let found = match to {
        StartFrom::Timestamp(_) => admin.find_offsets(&partitions, to).await?,
        StartFrom::Earliest | StartFrom::Latest | StartFrom::Offset(_) => BTreeMap::new(),
    };
    let mut offsets = BTreeMap::new();
    for partition in partitions {
        let bound = |of: &BTreeMap<TopicPartition, Option<i64>>| of.get(&partition).copied().flatten().unwrap_or(0);
        let (start, end) = (bound(&starts), bound(&ends));
        let offset = match to {
            StartFrom::Earliest => start,
            StartFrom::Latest => end,
            StartFrom::Offset(offset) => offset.clamp(start, end),
            // Where no record is that young the group goes on with the next one.
            StartFrom::Timestamp(_) => found.get(&partition).copied().flatten().unwrap_or(end),
        };
        offsets.insert(partition, offset);
    }
    if !args.dry_run {
        admin.commit_offsets(&args.group, &offsets).await.map_err(|error| failed(&args.group, error))?;
    }
    show(&args.group, &offsets, args.dry_run, output)
}

fn show(
    group: &str,
    offsets: &BTreeMap<TopicPartition, i64>,
    dry_run: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if output.is_json() {
        return offsets.iter().try_for_each(|(TopicPartition { topic, partition }, offset)| {
            output.json_line(&json!({
                "group": group, "topic": &**topic, "partition": partition, "offset": offset, "dry_run": dry_run,
            }))
        });
    }
    if offsets.is_empty() {
        return output.line(&format!("group {group} has committed nothing"));
    }
    let mut rows = vec![["TOPIC", "PARTITION", "OFFSET"].map(str::to_owned).to_vec()];
    rows.extend(
        offsets.iter().map(|(it, offset)| vec![it.topic.to_string(), it.partition.to_string(), offset.to_string()]),
    );
    output.table(&rows)?;
    if dry_run { output.line("nothing was set: --dry-run") } else { Ok(()) }
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Says what the codes that people meet mean, and what to do.
fn failed(group: &str, error: AdminError) -> Failure {
    let failure = Failure::from(error);
    match failure.code() {
        Some(ErrorCode::GroupIdNotFound) => {
            failure.say(format!("group {group} does not exist")).hint("`ottla group list` shows the groups there are")
        }
        Some(ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId) => failure
            .say(format!("group {group} has members"))
            .hint(format!("stop its consumers first; `ottla group describe {group} --members` shows them")),
        _ => failure,
    }
}
