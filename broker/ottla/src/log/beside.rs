//! What `ottla log verify` checks beside the partitions: the route journal, the metadata and the plugin store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ottla_broker::meta::inspect::survey;
use ottla_broker::route::JOURNAL_NAME;
use ottla_log::{Journal, JournalOpenError};
use ottla_plugin_host::check_store;
use serde_json::json;

use super::{Failure, Kind, Output};
use crate::meta;

/// The folder of the plugin store in the data directory.
const PLUGIN_STORE: &str = "plugins";

/// Checks all of it and says what it finds; how many problems there are.
pub(super) fn verify(data_dir: &Path, log_dirs: &[PathBuf], output: &mut Output) -> Result<usize, Failure> {
    let mut problems = 0;
    for directory in log_dirs.iter().map(|log| log.join(JOURNAL_NAME)).filter(|path| path.is_dir()) {
        problems += journal(&directory, output)?;
    }
    let survey = survey(data_dir, log_dirs).map_err(|error| Failure::new(Kind::Failed, error))?;
    if survey.is_empty() {
        return Ok(problems);
    }
    meta::say_copies(&survey, output)?;
    if let Some(problem) = meta::problem(&survey) {
        problems += 1;
        output
            .say(&format!("metadata: {problem}"), &json!({ "kind": "metadata", "problems": [problem.to_string()] }))?;
    }
    let plugins = survey.contents.plugins.values();
    let versions = plugins.flat_map(|plugin| {
        plugin.versions.iter().map(|version| (format!("{}@{}", plugin.name, version.version), version.digest.clone()))
    });
    Ok(problems + store(&data_dir.join(PLUGIN_STORE), versions, output)?)
}

fn journal(directory: &Path, output: &mut Output) -> Result<usize, Failure> {
    let path = directory.display();
    match Journal::check(directory) {
        Ok(report) => {
            let (entries, torn) = (report.entries, report.torn_bytes);
            let end = if torn > 0 { format!(", behind them {torn} bytes are not finished") } else { String::new() };
            let value = json!({ "kind": "journal", "path": directory, "entries": entries, "unfinished_bytes": torn, "problems": [] });
            output.say(&format!("{path}: {entries} entries, whole{end}"), &value)?;
            Ok(0)
        }
        Err(error) => {
            let offset = if let JournalOpenError::Corrupt { offset, .. } = &error { Some(*offset) } else { None };
            let value =
                json!({ "kind": "journal", "path": directory, "offset": offset, "problems": [error.to_string()] });
            output.say(&format!("{path}: {error}"), &value)?;
            Ok(1)
        }
    }
}

/// Every component that a name stands for has to be there and whole.
fn store(
    directory: &Path,
    versions: impl Iterator<Item = (String, String)>,
    output: &mut Output,
) -> Result<usize, Failure> {
    let found = check_store(directory).map_err(|error| Failure::new(Kind::Failed, error))?;
    let found: BTreeMap<String, _> = found.into_iter().map(|(digest, checked)| (digest.to_string(), checked)).collect();
    let (mut problems, mut count) = (0, 0);
    for (plugin, digest) in versions {
        count += 1;
        let wrong = match found.get(&digest) {
            Some(None) => continue,
            Some(Some(fault)) => fault.to_string(),
            None => format!("plugin store: {digest} is missing"),
        };
        problems += 1;
        let value = json!({ "kind": "plugin", "plugin": plugin, "digest": digest, "problems": [wrong] });
        output.say(&format!("{plugin}: {wrong}; push the same file again"), &value)?;
    }
    if count > 0 && problems == 0 && !output.is_json() {
        output.line(&format!("{}: {count} plugin versions, whole", directory.display()))?;
    }
    Ok(problems)
}
