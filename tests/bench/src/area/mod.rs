//! What is compared, area by area.

mod groups;
mod growth;
mod kafka;
mod log;
mod net;
mod plugin;
mod start;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use rustix::fs::{Advice, fadvise};

use crate::report::Row;

/// A part of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Area {
    /// Produce: against recv + CRC + pwrite, and against a bare group-commit loop
    Log,
    /// Fetch against sendfile; small requests against an echo
    Net,
    /// A plugin per record: against native code, and against no plugin
    Plugin,
    /// A thousand consumer groups: heartbeats beside a rebalance, commits; beside Apache Kafka where it can run
    Groups,
    /// What a request costs as partitions, segments, connections and consumers grow in number
    Growth,
    /// An idle broker, and how long one takes to listen
    Start,
    /// Apache Kafka under the same clients: needs Java, Maven and the Python environment of `cargo xtask setup`
    Kafka,
}

/// How long and how often.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Interleaved pairs per row.
    pub(crate) pairs: u32,
    /// Bytes that one run moves.
    pub(crate) run_bytes: u64,
    /// What the name of a row must contain to be measured.
    pub(crate) only: String,
    /// Another build of the broker in the place of the bare loops, where a row allows it.
    pub(crate) against: Option<PathBuf>,
    /// Pairs of a cell of a matrix, of which there are many.
    pub(crate) cell_pairs: u32,
    /// Time that one run of such a cell may take.
    pub(crate) cell_seconds: f64,
    /// Every combination, not only those that say most.
    pub(crate) full: bool,
    /// Short runs and small numbers: to see that everything works, not to quote.
    pub(crate) quick: bool,
}

impl Plan {
    /// Whether a row of this name is to be measured.
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}

/// Bytes of request frames that one connection of a load generator keeps ready.
const FRAMES_BYTES_MAX: usize = 4 << 20;

/// Partitions that one connection writes to, so that its frames do not fill the memory.
fn partitions_per_connection(batch_bytes: usize) -> usize {
    (FRAMES_BYTES_MAX / batch_bytes).max(1)
}

/// Measures one area, or all of them.
pub(crate) fn run(area: Option<Area>, plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (each, measure) in [
        (Area::Log, log::rows as fn(&Plan, &mut Vec<Row>) -> Result<()>),
        (Area::Net, net::rows),
        (Area::Plugin, plugin::rows),
        (Area::Groups, groups::rows),
        (Area::Growth, growth::rows),
        (Area::Start, start::rows),
        (Area::Kafka, kafka::rows),
    ] {
        if area.is_none_or(|wanted| wanted == each) {
            measure(plan, &mut rows)?;
        }
    }
    Ok(rows)
}

/// Takes the files of a directory out of the page cache.
fn forget(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget(&entry.path())?;
        } else if entry.file_type()?.is_file() {
            let file = File::open(entry.path())?;
            // What is not on the disk yet cannot be forgotten.
            file.sync_data()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
