//! What is compared, area by area.

mod log;
mod net;
mod plugin;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

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
}

/// How long and how often.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Interleaved pairs per row.
    pub(crate) pairs: u32,
    /// Bytes that one run moves.
    pub(crate) run_bytes: u64,
    /// Another build of the broker in the place of the bare loops, where a row allows it.
    pub(crate) against: Option<PathBuf>,
}

/// Measures one area, or all of them.
pub(crate) fn run(area: Option<Area>, plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (each, measure) in [
        (Area::Log, log::rows as fn(&Plan, &mut Vec<Row>) -> Result<()>),
        (Area::Net, net::rows),
        (Area::Plugin, plugin::rows),
    ] {
        if area.is_none_or(|wanted| wanted == each) {
            measure(plan, &mut rows)?;
        }
    }
    Ok(rows)
}
