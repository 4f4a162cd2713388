//! `ottla meta`: dump, verify, repair, restore. Works on the files of the metadata, not through a broker; `dump` and
//! `verify` only read and may be used while a broker runs.

use std::io::{BufRead, BufReader, IsTerminal, Write, stderr, stdin};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ottla_broker::log_dirs;
use ottla_broker::meta::inspect::{self, Survey};
use ottla_broker::meta::rescue::{Note, Rescue, rescue};
use ottla_broker::meta::{ConfigResource, ConfigsRecord, Contents, MetaError, PluginRecord, TopicRecord, Verdict};
use ottla_log::inspect::PartitionFiles;
use serde_json::{Value, json};

use super::failure::{Failure, Kind};
use super::output::Output;

/// What to do with the metadata.
#[derive(Debug, Subcommand)]
pub(super) enum MetaCommand {
    /// Print topics with their ids and settings, plugins and ids
    #[command(after_long_help = DUMP_HELP)]
    Dump(Place),
    /// Check every copy
    #[command(after_long_help = VERIFY_HELP)]
    Verify(Place),
    /// Make copies again that another one can make whole, as a start of the broker does
    #[command(after_long_help = REPAIR_HELP)]
    Repair(Place),
    /// Put the metadata together from a dump, or from what is left and what the partitions know
    #[command(after_long_help = RESTORE_HELP)]
    Restore(RestoreArgs),
}

const DUMP_HELP: &str = "\
Prints everything that reads, also where something else is damaged. With --json the lines are what `ottla meta restore
--from` takes: a backup.

Examples:
  ottla meta dump
  ottla meta dump --data-dir /srv/ottla --json > metadata.jsonl";

const VERIFY_HELP: &str = "\
Topics, settings, ids and the plugin registry are kept twice: in metadata.log of the data directory and in metadata.copy of
a log directory. Each record has a checksum; a start takes each from a copy that has it whole and makes the other copy again.

Only reads: it may run while a broker uses the files.

Examples:
  ottla meta verify
  ottla meta verify --data-dir /srv/ottla --json

Exit code 1 means that a copy is not whole.";

const REPAIR_HELP: &str = "\
Makes a damaged or missing copy again from the other one. The next start of the broker does the same. It refuses while a
broker uses the data directory, and where both copies lack the same record: then see `ottla meta restore`.

Examples:
  ottla meta repair
  ottla meta repair --data-dir /srv/ottla";

const RESTORE_HELP: &str = "\
Without --from: takes every record that any copy still has, and topics that no copy has from their partitions, which know
the topic's id, durability, segment.bytes and index.interval.bytes. Other settings of such a topic are the defaults again, and
plugins that no copy has have to be pushed again. Shows all of it and asks first.

With --from: takes exactly what a dump (`ottla meta dump --json`) or a saved copy holds.

Copies that are replaced stay beside the new ones as metadata.log.before-restore. It refuses while a broker uses the data directory.

Examples:
  ottla meta restore --dry-run
  ottla meta restore --yes
  ottla meta restore --from metadata.jsonl";

/// Where the metadata is.
#[derive(Clone, Debug, Args)]
pub(super) struct Place {
    /// The data directory of the broker
    #[arg(long, value_name = "DIR", default_value = "./ottla-data")]
    data_dir: PathBuf,
    /// A log directory, where the data directory does not know all of them; may be given several times
    #[arg(long = "log-dir", value_name = "DIR")]
    log_dirs: Vec<PathBuf>,
}

impl Place {
    fn log_dirs(&self) -> Vec<PathBuf> {
        let mut all = log_dirs::of_data_dir(&self.data_dir);
        all.extend(self.log_dirs.iter().filter(|more| !all.contains(more)).cloned().collect::<Vec<_>>());
        all
    }

    fn survey(&self) -> Result<Survey, Failure> {
        let survey = inspect::survey(&self.data_dir, &self.log_dirs()).map_err(failed)?;
        if survey.is_empty() && !self.data_dir.is_dir() {
            let failure = Failure::new(Kind::NotFound, format!("there is no directory {}", self.data_dir.display()));
            return Err(failure.hint("name the broker's data directory with --data-dir"));
        }
        Ok(survey)
    }
}

/// Arguments of `ottla meta restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    place: Place,
    /// A dump, or a copy that was saved
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Do not ask
    #[arg(long, short, conflicts_with = "dry_run")]
    yes: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Runs one of them.
pub(super) fn run(command: MetaCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        MetaCommand::Dump(place) => dump(&place, output),
        MetaCommand::Verify(place) => verify(&place, output),
        MetaCommand::Repair(place) => repair(&place, output),
        MetaCommand::Restore(args) => restore(&args, output),
    }
}

fn dump(place: &Place, output: &mut Output) -> Result<(), Failure> {
    let survey = place.survey()?;
    show(&survey.contents, output)?;
    match survey.loss {
        None => Ok(()),
        Some(loss) => {
            output.flush()?;
            let failure = Failure::new(Kind::Failed, format!("this is not all: {loss} cannot be read in any copy"));
            Err(failure.hint("`ottla meta verify` shows the copies, `ottla meta restore` completes them"))
        }
    }
}

fn show(contents: &Contents, output: &mut Output) -> Result<(), Failure> {
    let Contents { cluster_id, producer_id_mark, topics, plugins, configs } = contents;
    let cluster = json!({ "kind": "cluster", "cluster_id": cluster_id, "producer_id_mark": producer_id_mark });
    output.say(&format!("cluster {cluster_id}, producer ids below {producer_id_mark} may be in use"), &cluster)?;
    for topic in topics.values() {
        let settings: Vec<_> = topic.configs.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        let settings = settings.concat();
        let deleting = if topic.deleting { ", being deleted" } else { "" };
        let (name, id, count) = (&topic.name, topic.id, topic.partition_count);
        output.say(
            &format!("topic {name}: id {id}, {count} partitions{deleting}{settings}"),
            &line("topic", serde_json::to_value(topic))?,
        )?;
    }
    for plugin in plugins.values() {
        let versions: Vec<_> =
            plugin.versions.iter().map(|version| format!("{} ({})", version.version, version.digest)).collect();
        let (name, active) = (&plugin.name, plugin.active_version);
        let words = format!("plugin {name}: active version {active}, versions {}", versions.join(", "));
        output.say(&words, &line("plugin", serde_json::to_value(plugin))?)?;
    }
    for record in configs.values() {
        let settings: Vec<_> = record.configs.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        let of = match (record.resource, record.name.as_str()) {
            (ConfigResource::Broker, "") => "all brokers".to_owned(),
            (ConfigResource::Broker, id) => format!("broker {id}"),
            (ConfigResource::Group, id) => format!("group {id}"),
            (ConfigResource::ClientMetrics, name) => format!("client metrics {name}"),
        };
        let words = format!("settings of {of}:{}", settings.concat());
        output.say(&words, &line("settings", serde_json::to_value(record))?)?;
    }
    Ok(())
}

fn line(kind: &str, record: serde_json::Result<Value>) -> Result<Value, Failure> {
    let mut value = record.map_err(std::io::Error::from)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("kind".to_owned(), kind.into());
    }
    Ok(value)
}

fn verify(place: &Place, output: &mut Output) -> Result<(), Failure> {
    let survey = place.survey()?;
    say_copies(&survey, output)?;
    output.flush()?;
    problem(&survey).map_or(Ok(()), |problem| Err(problem.hint("`ottla meta --help` shows what to do")))
}

/// Says in which condition every copy is.
pub(super) fn say_copies(survey: &Survey, output: &mut Output) -> Result<(), Failure> {
    let absent = survey.copies.iter().filter(|(_, verdict)| *verdict == Verdict::Absent).count();
    let is_expected = survey.copies.len() - absent >= 2;
    for (path, verdict) in &survey.copies {
        // One second copy is enough, wherever it is.
        if *verdict == Verdict::Absent && (is_expected || survey.old.is_some()) {
            continue;
        }
        let problems = if *verdict == Verdict::Whole { Vec::new() } else { vec![verdict.to_string()] };
        let value = json!({ "kind": "copy", "path": path, "problems": problems });
        output.say(&format!("{}: {verdict}", path.display()), &value)?;
    }
    let Contents { topics, plugins, .. } = &survey.contents;
    if output.is_json() {
        return Ok(());
    }
    if let Some(old) = &survey.old {
        output.line(&format!("{}: of an older release, whole; the next start takes it over", old.display()))?;
    }
    output.line(&format!("{} topics, {} plugins, {} changes", topics.len(), plugins.len(), survey.sequence))
}

/// What is wrong with the copies, if anything is.
pub(super) fn problem(survey: &Survey) -> Option<Failure> {
    if let Some(loss) = &survey.loss {
        let failure = Failure::new(Kind::Failed, format!("{loss} of the metadata cannot be read in any copy"));
        return Some(failure.hint("`ottla meta restore` completes it from what the partitions know"));
    }
    let whole = survey.whole();
    let others = survey.copies.iter().any(|(_, verdict)| !matches!(verdict, Verdict::Whole | Verdict::Absent));
    if survey.old.is_some() || survey.is_empty() || (whole >= 2 && !others) {
        return None;
    }
    let failure = Failure::new(Kind::Failed, format!("{whole} of 2 copies of the metadata are whole; nothing is lost"));
    Some(failure.hint("the next start, or `ottla meta repair`, makes the others again"))
}

fn repair(place: &Place, output: &mut Output) -> Result<(), Failure> {
    if place.survey()?.is_empty() {
        return Err(Failure::new(Kind::NotFound, format!("{} has no metadata", place.data_dir.display())));
    }
    let report = inspect::repair(&place.data_dir, &place.log_dirs()).map_err(failed)?;
    for (path, verdict) in report.repaired() {
        let value = json!({ "kind": "copy", "path": path, "was": verdict.to_string(), "action": "made again" });
        output.say(&format!("{}: made again, it was {verdict}", path.display()), &value)?;
    }
    if !report.is_news() && !output.is_json() {
        output.line("nothing to repair")?;
    }
    match report.unwritten.first() {
        None => Ok(()),
        Some((path, reason)) => Err(Failure::new(Kind::Failed, format!("{}: {reason}", path.display()))),
    }
}

fn restore(args: &RestoreArgs, output: &mut Output) -> Result<(), Failure> {
    let RestoreArgs { place, from, yes, dry_run } = args;
    let log_dirs = place.log_dirs();
    let survey = survey_if_any(place)?;
    let sequence = survey.as_ref().map_or(0, |survey| survey.sequence) + 1;
    let Rescue { contents, notes } = if let Some(path) = from {
        Rescue { contents: read_dump(path)?, notes: Vec::new() }
    } else {
        let is_lossy = survey.as_ref().is_none_or(|survey| survey.loss.is_some() || survey.is_empty());
        let known = survey.map(|survey| survey.contents).unwrap_or_default();
        let mut partitions = Vec::new();
        for directory in log_dirs.iter().filter(|directory| directory.is_dir()) {
            let found = PartitionFiles::all(directory);
            partitions.extend(found.map_err(|error| Failure::new(Kind::Failed, error))?);
        }
        rescue(known, &partitions, is_lossy, ottla_broker::clock::now_ms())
    };
    show(&contents, output)?;
    for note in &notes {
        let topic = if let Note::Found(topic) = note { Some(&topic.name) } else { None };
        output.say(&note.to_string(), &json!({ "kind": "note", "found": topic, "words": note.to_string() }))?;
    }
    if *dry_run {
        return Ok(());
    }
    output.flush()?;
    if !*yes {
        agree()?;
    }
    let written = inspect::replace(&place.data_dir, &log_dirs, &contents, sequence).map_err(failed)?;
    for path in written {
        output.say(
            &format!("{}: written", path.display()),
            &json!({ "kind": "copy", "path": path, "action": "written" }),
        )?;
    }
    Ok(())
}

/// What is left. A file of an older release that does not read leaves nothing.
fn survey_if_any(place: &Place) -> Result<Option<Survey>, Failure> {
    match inspect::survey(&place.data_dir, &place.log_dirs()) {
        Ok(survey) => Ok(Some(survey)),
        Err(MetaError::Old { .. }) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Reads a dump in JSON, or a copy.
fn read_dump(path: &Path) -> Result<Contents, Failure> {
    let wrong = |what: String| Failure::new(Kind::Usage, format!("{}: {what}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut reader = BufReader::new(file);
    if !reader.fill_buf()?.starts_with(b"{") {
        return inspect::contents_of(path).map_err(failed);
    }
    let mut contents = Contents::default();
    for (number, text) in (1..).zip(reader.lines()) {
        let text = text?;
        let wrong = |what: &dyn std::fmt::Display| wrong(format!("line {number}: {what}"));
        let value: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        match value.get("kind").and_then(Value::as_str) {
            Some("cluster") => {
                let id = value.get("cluster_id").and_then(Value::as_str);
                id.ok_or_else(|| wrong(&"cluster_id is missing"))?.clone_into(&mut contents.cluster_id);
                let mark = value.get("producer_id_mark").and_then(Value::as_i64);
                contents.producer_id_mark = mark.ok_or_else(|| wrong(&"producer_id_mark is missing"))?;
            }
            Some("topic") => {
                let topic: TopicRecord = serde_json::from_value(value).map_err(|error| wrong(&error))?;
                contents.topics.insert(topic.name.clone(), topic);
            }
            Some("plugin") => {
                let plugin: PluginRecord = serde_json::from_value(value).map_err(|error| wrong(&error))?;
                contents.plugins.insert(plugin.name.clone(), plugin);
            }
            Some("settings") => {
                let record: ConfigsRecord = serde_json::from_value(value).map_err(|error| wrong(&error))?;
                contents.configs.insert((record.resource, record.name.clone()), record);
            }
            _ => return Err(wrong(&"its kind is none of cluster, topic, plugin, settings")),
        }
    }
    if contents.cluster_id.is_empty() {
        return Err(wrong("no line of the kind cluster: this is no whole dump".to_owned()));
    }
    Ok(contents)
}

fn agree() -> Result<(), Failure> {
    if !stdin().is_terminal() {
        let failure = Failure::new(Kind::Usage, "nothing was changed: there is no terminal to ask at");
        return Err(failure.hint("say --yes to do it, or --dry-run to only look"));
    }
    write!(stderr(), "replace the metadata by this? [y/N] ")?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(Kind::Failed, "nothing was changed"))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
fn failed(error: MetaError) -> Failure {
    let failure = Failure::new(Kind::Failed, &error);
    match &error {
        MetaError::Locked { .. } => failure.hint("`ottla meta verify` and `ottla meta dump` work while a broker runs"),
        _ => failure,
    }
}
