//! `ottla log`: dump, verify, repair, du. Works on files, not through a broker; all but `repair` only read and may be
//! used while a broker runs on them.

mod beside;
mod du;
mod dump;
mod repair;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ottla_broker::log_dirs;
use ottla_log::inspect::{InspectError, PartitionFiles};

use super::failure::{Failure, Kind};
use super::output::Output;

/// What to do with the files.
#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Print the batches of partitions, and their records
    #[command(after_long_help = dump::HELP)]
    Dump(dump::DumpArgs),
    /// Check every batch, index and state file; and the route journal, the metadata and the plugin store with them
    #[command(after_long_help = verify::HELP)]
    Verify(Target),
    /// Cut off ends that were not acknowledged
    #[command(after_long_help = repair::HELP)]
    Repair(repair::RepairArgs),
    /// Show what takes how much of the disk
    #[command(after_long_help = du::HELP)]
    Du(Target),
}

/// Which files.
#[derive(Clone, Debug, Args)]
pub(super) struct Target {
    /// A topic, `TOPIC:PARTITION`, or a path with a slash in it: a data directory, a log directory, a partition or a
    /// segment; nothing means all partitions
    what: Option<String>,
    /// The data directory of the broker
    #[arg(long, value_name = "DIR", default_value = "./ottla-data")]
    data_dir: PathBuf,
}

impl Target {
    /// All of a data directory.
    fn all_of(data_dir: &Path) -> Self {
        Self { what: None, data_dir: data_dir.to_path_buf() }
    }
}

/// What `ottla log du` says of a data directory.
pub(super) fn du(data_dir: &Path, output: &mut Output) -> Result<(), Failure> {
    du::run(&Target::all_of(data_dir), output)
}

/// What `ottla log verify` says of a data directory.
pub(super) fn verify(data_dir: &Path, output: &mut Output) -> Result<(), Failure> {
    verify::run(&Target::all_of(data_dir), output)
}

/// What a [`Target`] came to.
struct Chosen {
    /// The directories with the partitions.
    log_directories: Vec<PathBuf>,
    /// The data directory, where all of it was chosen.
    data_dir: Option<PathBuf>,
    partitions: Vec<PartitionFiles>,
    /// The one segment that was named, by its first offset.
    segment: Option<i64>,
}

impl Target {
    fn choose(&self) -> Result<Chosen, Failure> {
        let what = self.what.as_deref().unwrap_or_default();
        if what.contains('/') || matches!(what, "." | "..") {
            return at_path(Path::new(what));
        }
        let chosen = whole(&self.data_dir)?;
        if what.is_empty() {
            return Ok(chosen);
        }
        let Chosen { log_directories, mut partitions, .. } = chosen;
        let (topic, index) = match what.rsplit_once(':') {
            None => (what, None),
            Some((topic, index)) => match index.parse::<i32>() {
                Ok(index) if index >= 0 => (topic, Some(index)),
                _ => return Err(Failure::new(Kind::Usage, format!("{index:?} is no partition: 0, 1, 2 … is wanted"))),
            },
        };
        partitions.retain(|files| files.name.topic == topic && index.is_none_or(|index| files.name.index == index));
        if partitions.is_empty() {
            let failure = Failure::new(Kind::NotFound, format!("{} holds no {what}", self.data_dir.display()));
            return Err(failure.hint("`ottla log du` shows the partitions there are; a path needs a slash in it"));
        }
        Ok(Chosen { log_directories, data_dir: None, partitions, segment: None })
    }
}

/// All of a data directory, in one or more log directories; or a log directory by itself.
fn whole(directory: &Path) -> Result<Chosen, Failure> {
    let known = log_dirs::of_data_dir(directory);
    let data_dir = (!known.is_empty()).then(|| directory.to_path_buf());
    let log_directories = if known.is_empty() { vec![directory.to_path_buf()] } else { known };
    let mut partitions = Vec::new();
    for log_directory in &log_directories {
        partitions.extend(all(log_directory)?);
    }
    partitions.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Chosen { log_directories, data_dir, partitions, segment: None })
}

fn at_path(path: &Path) -> Result<Chosen, Failure> {
    let full =
        path.canonicalize().map_err(|error| Failure::new(Kind::NotFound, format!("{}: {error}", path.display())))?;
    if full.is_dir() {
        if let Ok(files) = PartitionFiles::open(&full) {
            let log_directories = vec![full.parent().map_or_else(|| full.clone(), Path::to_path_buf)];
            return Ok(Chosen { log_directories, data_dir: None, partitions: vec![files], segment: None });
        }
        return whole(&full);
    }
    let partition = full.parent().unwrap_or(&full);
    let files = PartitionFiles::open(partition).map_err(failed)?;
    let base = full.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<i64>().ok());
    if !files.segments.iter().any(|segment| Some(segment.get()) == base) {
        return Err(Failure::new(Kind::NotFound, format!("{} is no segment", path.display())));
    }
    let log_directories = vec![partition.parent().map_or_else(|| partition.to_path_buf(), Path::to_path_buf)];
    Ok(Chosen { log_directories, data_dir: None, partitions: vec![files], segment: base })
}

fn all(log_directory: &Path) -> Result<Vec<PartitionFiles>, Failure> {
    PartitionFiles::all(log_directory).map_err(|error| match error {
        InspectError::NoDirectory { .. } => {
            failed(error).hint("name the broker's data directory with --data-dir, or a path with a slash in it")
        }
        error => failed(error),
    })
}

fn failed(error: InspectError) -> Failure {
    let kind = match &error {
        InspectError::NoDirectory { .. } | InspectError::NoPartition { .. } => Kind::NotFound,
        InspectError::Io { .. } => Kind::Failed,
    };
    Failure::new(kind, error)
}

/// Runs one of them.
pub(super) fn run(command: LogCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        LogCommand::Dump(args) => dump::run(&args, output),
        LogCommand::Verify(target) => verify::run(&target, output),
        LogCommand::Repair(args) => repair::run(&args, output),
        LogCommand::Du(target) => du::run(&target, output),
    }
}
