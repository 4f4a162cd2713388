//! The table for people and the JSON rows for scripts. Names stay stable from release to release.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::pairs::Ratios;

/// One line of the report.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Stable name, `area/what/size`.
    pub(crate) name: String,
    /// The median ratio.
    pub(crate) ratio: f64,
    /// What the ratio is of: "Ottla / bare recv+CRC+pwrite, bytes per second".
    pub(crate) of: String,
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
    pub(crate) pairs: usize,
    /// Context that gives the ratio a scale: the ceiling's own figure, and whether the row is valid.
    pub(crate) note: String,
}

impl Row {
    /// A row from its ratios.
    pub(crate) fn new(name: impl Into<String>, of: impl Into<String>, ratios: Ratios, note: impl Into<String>) -> Self {
        let Ratios { min, median, max, pairs } = ratios;
        let row = Self { name: name.into(), ratio: median, of: of.into(), min, median, max, pairs, note: note.into() };
        eprintln!("  {:<44} {:>6.2}", row.name, row.median);
        row
    }
}

/// What a row says about a ceiling that is more than 30 % away from the reference machine's figure.
pub(crate) fn validity(measured: f64, reference: f64) -> String {
    let off = measured / reference;
    if (0.7..=1.3).contains(&off) {
        String::new()
    } else {
        format!("; INVALID as a reference row: the ceiling's CPU is {off:.2} x the reference figure {reference}")
    }
}

/// Prints the table and writes the JSON file where one is wanted.
pub(crate) fn finish(rows: &[Row], json: Option<&Path>) -> Result<()> {
    println!("{:<44} {:>6} {:>6} {:>6} {:>5}  of", "name", "min", "median", "max", "pairs");
    for row in rows {
        println!("{:<44} {:>6.2} {:>6.2} {:>6.2} {:>5}  {}", row.name, row.min, row.median, row.max, row.pairs, row.of);
        if !row.note.is_empty() {
            println!("{:<44} {}", "", row.note);
        }
    }
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(rows)?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
