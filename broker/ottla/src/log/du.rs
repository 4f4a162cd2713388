//! `ottla log du`: what takes how much of the disk.

use std::collections::BTreeMap;

use ottla_log::inspect::PartitionUsage;
use serde_json::json;

use super::{Failure, Kind, Output, Target, failed};
use crate::progress::human_bytes;

pub(super) const HELP: &str = "\
Shows what each topic takes on the disk, the largest first; for one topic or a path, what each partition takes.

  DATA         record batches
  INDEX        index files
  RESERVED     space set aside for appends to come; closing a segment gives it back
  RECLAIMABLE  part of DATA below the log start, which no client can read: whole segments that retention removes

Only reads: it may run while a broker uses the files.

Examples:
  ottla log du                                all topics below ./ottla-data
  ottla log du packages                       its partitions
  ottla log du --json | jq -s 'map(.total_bytes) | add'";

pub(super) fn run(target: &Target, output: &mut Output) -> Result<(), Failure> {
    let chosen = target.choose()?;
    let by_topic = target.what.is_none();
    let mut rows: BTreeMap<String, (PartitionUsage, usize)> = BTreeMap::new();
    for files in &chosen.partitions {
        let usage = match PartitionUsage::of(files) {
            Ok(usage) => usage,
            // Deleted while we looked.
            Err(ottla_log::inspect::InspectError::NoDirectory { .. }) => continue,
            Err(error) => return Err(failed(error)),
        };
        if output.is_json() {
            output.json_line(&json!({
                "topic": files.name.topic, "partition": files.name.index, "segments": usage.segments,
                "data_bytes": usage.data_bytes, "index_bytes": usage.index_bytes,
                "reserved_bytes": usage.reserved_bytes, "other_bytes": usage.other_bytes,
                "reclaimable_bytes": usage.reclaimable_bytes, "total_bytes": usage.total_bytes(),
            }))?;
            continue;
        }
        let name = if by_topic { files.name.topic.clone() } else { files.name.to_string() };
        let (sum, partitions) = rows.entry(name).or_default();
        add(sum, &usage);
        *partitions += 1;
    }
    if output.is_json() {
        return Ok(());
    }
    if rows.is_empty() {
        return Err(Failure::new(Kind::NotFound, format!("{} holds no partitions", named(&chosen.log_directories))));
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(name, (usage, _))| (std::cmp::Reverse(usage.total_bytes()), name.clone()));
    let mut total = (PartitionUsage::default(), 0);
    for (_, (usage, partitions)) in &rows {
        add(&mut total.0, usage);
        total.1 += partitions;
    }
    let first = if by_topic { "TOPIC" } else { "PARTITION" };
    let head = [first, "PARTITIONS", "SEGMENTS", "DATA", "INDEX", "RESERVED", "RECLAIMABLE", "TOTAL"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|(name, (usage, partitions))| row(name, usage, *partitions)));
    if rows.len() > 1 {
        table.push(row("total", &total.0, total.1));
    }
    output.table(&table)
}

fn add(sum: &mut PartitionUsage, usage: &PartitionUsage) {
    sum.data_bytes += usage.data_bytes;
    sum.index_bytes += usage.index_bytes;
    sum.reserved_bytes += usage.reserved_bytes;
    sum.other_bytes += usage.other_bytes;
    sum.reclaimable_bytes += usage.reclaimable_bytes;
    sum.segments += usage.segments;
}

fn row(name: &str, usage: &PartitionUsage, partitions: usize) -> Vec<String> {
    let bytes =
        [usage.data_bytes, usage.index_bytes, usage.reserved_bytes, usage.reclaimable_bytes, usage.total_bytes()];
    let counts = [partitions.to_string(), usage.segments.to_string()];
    std::iter::once(name.to_owned()).chain(counts).chain(bytes.map(human_bytes)).collect()
}

fn named(directories: &[std::path::PathBuf]) -> String {
    directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
