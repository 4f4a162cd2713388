//! `ottla topic offsets` and `ottla topic trim`: where partitions begin, end or were at a time, and making them begin later.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write, stderr, stdin};

use clap::Args;
use ottla_client::{Admin, StartFrom, TopicPartition, TrimTo};
use serde_json::json;

use super::missing;
use crate::failure::{Failure, Kind};
use crate::instant::parse_utc;
use crate::output::Output;

pub(crate) const OFFSETS_HELP: &str = "\
Examples:
  ottla topic offsets packages                           where each partition begins and ends
  ottla topic offsets packages --at 2026-01-02T03:04:05Z the first record of that time or later
  ottla topic offsets packages --at 2026-01-02 --json | jq .offset";

pub(crate) const TRIM_HELP: &str = "\
Examples:
  ottla topic trim packages --before 1000 --partition 3  deletes offsets 0 to 999 of partition 3
  ottla topic trim packages --before @2026-01-02         deletes what is older, in every partition
  ottla topic trim packages --before end --yes           deletes every record there is now
  ottla topic trim packages --before end --dry-run       says what would be deleted

The topic stays, and so do its settings. Consumers go on with the first record that is left.";

/// Arguments of `ottla topic offsets`.
#[derive(Debug, Args)]
pub(crate) struct OffsetsArgs {
    /// The topic
    topic: String,
    /// The offset of the first record of this time or later, in UTC or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<i64>,
}

/// Arguments of `ottla topic trim`.
#[derive(Debug, Args)]
pub(crate) struct TrimArgs {
    /// The topic
    topic: String,
    /// What goes: records before an OFFSET, records older than @TIME, or, with `end`, all there are
    #[arg(long, value_name = "OFFSET|@TIME|end", value_parser = parse_bound)]
    before: Bound,
    /// Only this partition; can be repeated
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Up to where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Offset(i64),
    Time(i64),
    End,
}

/// A point in time, with or without the `@` that stands before it where offsets are meant as well.
fn parse_time(text: &str) -> Result<i64, String> {
    parse_utc(text.strip_prefix('@').unwrap_or(text))
        .ok_or_else(|| format!("{text:?} is no time: 2026-01-31T12:30:59Z, 2026-01-31 or milliseconds since 1970 are"))
}

fn parse_bound(text: &str) -> Result<Bound, String> {
    match (text, text.strip_prefix('@'), text.parse()) {
        ("end", ..) => Ok(Bound::End),
        (_, Some(_), _) => parse_time(text).map(Bound::Time),
        (_, None, Ok(offset)) if offset >= 0 => Ok(Bound::Offset(offset)),
        _ => Err(format!("{text:?} is neither an offset, nor @TIME, nor end")),
    }
}

/// The partitions of a topic, each with its start and its end.
async fn bounds_of(admin: &Admin, topic: &str) -> Result<BTreeMap<TopicPartition, (i64, i64)>, Failure> {
    let described = admin.describe_topic(topic).await.map_err(|error| missing(topic, error))?;
    let mut bounds = BTreeMap::new();
    for partition in &described.partitions {
        let place = TopicPartition { topic: described.name.clone(), partition: partition.index };
        let Some(bound) = partition.start_offset.zip(partition.end_offset) else {
            let words = format!("the leader of {topic}-{} does not say where it begins and ends", partition.index);
            return Err(Failure::new(Kind::Failed, words));
        };
        bounds.insert(place, bound);
    }
    Ok(bounds)
}

/// Runs `ottla topic offsets`.
pub(crate) async fn show(admin: &Admin, args: &OffsetsArgs, output: &mut Output) -> Result<(), Failure> {
    let bounds = bounds_of(admin, &args.topic).await?;
    let Some(at_ms) = args.at else {
        if output.is_json() {
            return bounds.iter().try_for_each(|(place, (start, end))| {
                output.json_line(&json!({
                    "topic": args.topic, "partition": place.partition, "start_offset": start, "end_offset": end,
                }))
            });
        }
        let mut rows = vec![["PARTITION", "START", "END"].map(str::to_owned).to_vec()];
        rows.extend(
            bounds
                .iter()
                .map(|(place, (start, end))| vec![place.partition.to_string(), start.to_string(), end.to_string()]),
        );
        return output.table(&rows);
    };
    let partitions: BTreeSet<TopicPartition> = bounds.keys().cloned().collect();
    let found = admin.find_offsets(&partitions, StartFrom::Timestamp(at_ms)).await?;
    // Where no record is that young, the next one will be the first.
    let offset = |place: &TopicPartition, end: i64| found.get(place).copied().flatten().unwrap_or(end);
    if output.is_json() {
        return bounds.iter().try_for_each(|(place, (_, end))| {
            let offset = offset(place, *end);
            output
                .json_line(&json!({ "topic": args.topic, "partition": place.partition, "offset": offset, "at": at_ms }))
        });
    }
    let mut rows = vec![["PARTITION", "OFFSET", "RECORDS SINCE"].map(str::to_owned).to_vec()];
    rows.extend(bounds.iter().map(|(place, (_, end))| {
        let offset = offset(place, *end);
        vec![place.partition.to_string(), offset.to_string(), end.saturating_sub(offset).to_string()]
    }));
    output.table(&rows)
}

/// Runs `ottla topic trim`.
pub(crate) async fn trim(admin: &Admin, args: &TrimArgs, output: &mut Output) -> Result<(), Failure> {
    let all = bounds_of(admin, &args.topic).await?;
    if let Some(wrong) = args.partition.iter().find(|index| all.keys().all(|place| place.partition != **index)) {
        let words = format!("topic {} has partitions 0 to {}, not {wrong}", args.topic, all.len().saturating_sub(1));
        return Err(Failure::new(Kind::NotFound, words));
    }
    let is_meant = |place: &TopicPartition| args.partition.is_empty() || args.partition.contains(&place.partition);
    let meant: BTreeMap<_, _> = all.into_iter().filter(|(place, _)| is_meant(place)).collect();
    let places: BTreeSet<TopicPartition> = meant.keys().cloned().collect();
    let found = match args.before {
        Bound::Time(at_ms) => admin.find_offsets(&places, StartFrom::Timestamp(at_ms)).await?,
        Bound::Offset(_) | Bound::End => BTreeMap::new(),
    };
    let target = |place: &TopicPartition, (start, end): (i64, i64)| match args.before {
        Bound::Offset(offset) => offset.clamp(start, end),
        Bound::Time(_) => found.get(place).copied().flatten().unwrap_or(end),
        Bound::End => end,
    };
    let targets: BTreeMap<TopicPartition, i64> =
        meant.iter().map(|(place, bound)| (place.clone(), target(place, *bound))).collect();
    let records: i64 = meant.iter().filter_map(|(place, (start, _))| Some((targets.get(place)? - start).max(0))).sum();
    if !args.dry_run && !args.yes && stdin().is_terminal() {
        write!(stderr(), "delete {records} records of topic {}? [y/N] ", args.topic)?;
        let mut answer = String::new();
        stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::new(Kind::Failed, "nothing was deleted"));
        }
    }
    let left = if args.dry_run {
        targets.clone()
    } else {
        let bounds = targets.iter().map(|(place, target)| (place.clone(), TrimTo::Offset(*target))).collect();
        admin.delete_records(&bounds).await.map_err(|error| missing(&args.topic, error))?
    };
    let deleted = |place: &TopicPartition, now: i64| now - meant.get(place).map_or(now, |(start, _)| *start);
    if output.is_json() {
        return left.iter().try_for_each(|(place, now)| {
            output.json_line(&json!({
                "topic": args.topic, "partition": place.partition, "start_offset": now,
                "deleted": deleted(place, *now), "dry_run": args.dry_run,
            }))
        });
    }
    let verb = if args.dry_run { "would begin" } else { "begins" };
    for (place, now) in &left {
        let records = deleted(place, *now);
        let plural = if records == 1 { "record" } else { "records" };
        let words = if args.dry_run { "would go" } else { "went" };
        let partition = place.partition;
        output.line(&format!("{}-{partition} {verb} at offset {now}: {records} {plural} {words}", args.topic))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_they_are_written() {
        assert_eq!(parse_bound("42"), Ok(Bound::Offset(42)));
        assert_eq!(parse_bound("end"), Ok(Bound::End));
        assert_eq!(parse_bound("@1970-01-02"), Ok(Bound::Time(86_400_000)));
        assert_eq!(parse_time("1970-01-02"), Ok(86_400_000));
        for wrong in ["-1", "yesterday", "@yesterday", ""] {
            assert!(parse_bound(wrong).is_err(), "{wrong}");
        }
    }
}
