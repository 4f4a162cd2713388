//! `ottla topic list`: the topics there are, and how large they are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, ValueEnum};
use ottla_client::{Admin, StartFrom, TopicListing, TopicPartition};
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::human_bytes;

/// Arguments of `ottla topic list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only topics of this name; `*` stands for any text
    pattern: Option<String>,
    /// What the list is sorted by; records and sizes are asked for, and shown, where it is one of them
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Also list topics that the broker keeps for itself
    #[arg(long)]
    internal: bool,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// By name, a to z
    #[default]
    Name,
    /// Most partitions first
    Partitions,
    /// Most records first
    Records,
    /// Largest first: bytes on all brokers
    Size,
}

/// A line of the list.
struct Line {
    topic: TopicListing,
    records: i64,
    bytes: u64,
}

/// Runs `ottla topic list`.
pub(crate) async fn run(admin: &Admin, args: &ListArgs, output: &mut Output) -> Result<(), Failure> {
    let is_wanted = |topic: &TopicListing| {
        let fits = args.pattern.as_deref().is_none_or(|pattern| matches(pattern, &topic.name));
        fits && (args.internal || !topic.internal)
    };
    let topics: Vec<TopicListing> = admin.list_topics().await?.into_iter().filter(is_wanted).collect();
    let measured = matches!(args.sort, Sort::Records | Sort::Size);
    let (records, bytes) =
        if measured { (records(admin, &topics).await?, admin.topic_sizes().await?) } else { Default::default() };
    let mut lines: Vec<Line> = topics
        .into_iter()
        .map(|topic| Line {
            records: records.get(&*topic.name).copied().unwrap_or(0),
            bytes: bytes.get(&topic.name).copied().unwrap_or(0),
            topic,
        })
        .collect();
    // A stable sort: those that are alike stay in the order of their names.
    match args.sort {
        Sort::Name => {}
        Sort::Partitions => lines.sort_by_key(|line| Reverse(line.topic.partitions)),
        Sort::Records => lines.sort_by_key(|line| Reverse(line.records)),
        Sort::Size => lines.sort_by_key(|line| Reverse(line.bytes)),
    }
    if output.is_json() {
        return lines.iter().try_for_each(|Line { topic, records, bytes }| {
            let mut value = json!({
                "name": &*topic.name, "id": topic.id.to_string(), "partitions": topic.partitions,
                "internal": topic.internal,
            });
            if measured {
                value["records"] = (*records).into();
                value["bytes"] = (*bytes).into();
            }
            output.json_line(&value)
        });
    }
    if lines.is_empty() {
        return output.line(&match &args.pattern {
            Some(pattern) => format!("no topic is called {pattern}"),
            None => "no topics yet; create one with `ottla topic create NAME`".to_owned(),
        });
    }
    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let head = if measured { row(&["TOPIC", "PARTITIONS", "RECORDS", "SIZE"]) } else { row(&["TOPIC", "PARTITIONS"]) };
    let mut rows = vec![head];
    rows.extend(lines.iter().map(|Line { topic, records, bytes }| {
        let mut row = row(&[&topic.name, &topic.partitions.to_string()]);
        if measured {
            row.extend([records.to_string(), human_bytes(*bytes)]);
        }
        row
    }));
    output.table(&rows)
}

/// Offsets between the start and the end of each topic.
async fn records(admin: &Admin, topics: &[TopicListing]) -> Result<BTreeMap<String, i64>, Failure> {
    let partitions: BTreeSet<TopicPartition> = topics
        .iter()
        .flat_map(|topic| {
            (0..topic.partitions as i32).map(|partition| TopicPartition { topic: topic.name.clone(), partition })
        })
        .collect();
    let starts = admin.find_offsets(&partitions, StartFrom::Earliest).await?;
    let ends = admin.find_offsets(&partitions, StartFrom::Latest).await?;
    let mut records = BTreeMap::new();
    for (partition, end) in ends {
        let start = starts.get(&partition).copied().flatten().unwrap_or(0);
        *records.entry(partition.topic.to_string()).or_default() += end.unwrap_or(start).saturating_sub(start);
    }
    Ok(records)
}

/// Whether a name is what a pattern says, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, yes, no) in [
            ("orders", "orders", "orders-1"),
            ("orders*", "orders-1", "my-orders"),
            ("*-dlq", "orders-dlq", "orders-dlq-2"),
            ("a*b*c", "a1b2c", "a1c2b"),
            ("*", "anything", ""),
            ("aba*aba", "ababa-aba", "aba"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(no.is_empty() || !matches(pattern, no), "{pattern} {no}");
        }
    }
}
