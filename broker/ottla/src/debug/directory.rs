//! What lies in a data directory. Only reads: a broker may run on it.

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;
use ottla_broker::log_dirs;
use ottla_broker::meta::inspect::{Survey, survey};
use serde_json::{Map, Value, json};

use super::bundle::Bundle;
use super::mask;
use crate::log;
use crate::output::Output;

/// Files that are listed at most, so that the list of a broken directory has an end.
const FILES_MAX: usize = 200_000;
const BLOCK_BYTES: u64 = 512;

/// Adds all of it; whether there is anything of a broker.
pub(super) fn gather(data_dir: &Path, verify: bool, bundle: &mut Bundle) -> bool {
    let log_dirs = log_dirs::of_data_dir(data_dir);
    let survey = match survey(data_dir, &log_dirs) {
        Ok(survey) if survey.is_empty() && log_dirs.is_empty() => {
            bundle.missing("the data directory", &format!("{} holds nothing of a broker", data_dir.display()));
            return false;
        }
        Ok(survey) => survey,
        Err(error) => {
            bundle.missing("the metadata", &error.to_string());
            return false;
        }
    };
    bundle.add_json(
        "metadata.json",
        "Topics, settings and plugins as they are stored, and how whole the copies are",
        &metadata(&survey),
    );
    let mut list = String::from("bytes, on the disk, changed, path\n");
    let mut files = 0;
    let inside =
        |dir: &Path| dir.canonicalize().is_ok_and(|dir| data_dir.canonicalize().is_ok_and(|all| dir.starts_with(all)));
    let elsewhere = log_dirs.iter().filter(|dir| !inside(dir));
    for directory in std::iter::once(data_dir).chain(elsewhere.map(std::path::PathBuf::as_path)) {
        if let Err(error) = add_files(directory, &mut list, &mut files) {
            bundle.missing("a directory", &format!("{}: {error}", directory.display()));
        }
    }
    if files > FILES_MAX {
        bundle.missing("some of the files", &format!("there are more than {FILES_MAX}"));
    }
    bundle.add("files.txt", "The files of the broker with their sizes, and nothing of what is in them", list);
    let mut sizes = Output::captured();
    match log::du(data_dir, &mut sizes) {
        Ok(()) => bundle.add("sizes.txt", "What each topic takes of the disk (`ottla log du`)", sizes.into_bytes()),
        Err(error) => bundle.missing("the sizes of topics", &error.to_string()),
    }
    if verify {
        let mut found = Output::captured();
        let verdict = match log::verify(data_dir, &mut found) {
            Ok(()) => "nothing is wrong".to_owned(),
            Err(error) => error.to_string(),
        };
        let mut found = found.into_bytes();
        found.extend_from_slice(format!("{verdict}\n").as_bytes());
        bundle.add("verify.txt", "What `ottla log verify` says", found);
    } else {
        bundle.missing("the check of the log", "ask for it with --verify");
    }
    true
}

fn metadata(survey: &Survey) -> Value {
    let settings = |configs: &mut dyn Iterator<Item = (&String, &String)>| {
        let masked = configs.map(|(name, value)| (name.clone(), mask::value(name, value).into()));
        Value::Object(masked.collect::<Map<_, _>>())
    };
    let contents = &survey.contents;
    let copies = survey.copies.iter().map(|(path, verdict)| json!({ "path": path, "copy": verdict.to_string() }));
    let topics = contents.topics.values().map(|topic| {
        json!({ "topic": topic.name, "id": topic.id.to_string(), "partitions": topic.partition_count,
                "being_deleted": topic.deleting, "settings": settings(&mut topic.configs.iter()) })
    });
    let plugins = contents.plugins.values().map(|plugin| {
        let versions = plugin.versions.iter().map(|it| json!({ "version": it.version, "digest": it.digest }));
        json!({ "plugin": plugin.name, "active": plugin.active_version, "versions": versions.collect::<Vec<_>>() })
    });
    let set = contents.configs.values().map(|record| {
        json!({ "on": format!("{:?}", record.resource).to_lowercase(), "name": record.name,
                "settings": settings(&mut record.configs.iter()) })
    });
    json!({
        "cluster": contents.cluster_id, "changes": survey.sequence, "producer_id_mark": contents.producer_id_mark,
        "lost": survey.loss.as_ref().map(ToString::to_string), "copies": copies.collect::<Vec<_>>(),
        "topics": topics.collect::<Vec<_>>(), "plugins": plugins.collect::<Vec<_>>(), "set": set.collect::<Vec<_>>(),
    })
}

/// A line for each file below a directory. What goes away meanwhile is left out.
fn add_files(directory: &Path, list: &mut String, files: &mut usize) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.filter_map(Result::ok).map(|entry| entry.path()).collect::<Vec<_>>();
    entries.sort();
    for path in entries {
        *files += 1;
        if *files > FILES_MAX {
            return Ok(());
        }
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let on_disk = metadata.blocks() * BLOCK_BYTES;
        let changed = Timestamp::from_second(metadata.mtime()).unwrap_or_default();
        let end = if metadata.is_dir() { "/" } else { "" };
        let _ = writeln!(list, "{:>14} {on_disk:>14} {changed} {}{end}", metadata.len(), path.display());
        if metadata.is_dir() {
            // One that cannot be read, or goes away, has no files to list.
            let _ = add_files(&path, list, files);
        }
    }
    Ok(())
}
