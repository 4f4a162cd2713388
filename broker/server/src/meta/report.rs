//! What opening the metadata found and did.

use std::fmt;
use std::path::PathBuf;

use super::merge::Verdict;

/// What a start did about the copies of the metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetaReport {
    /// Copies that were written as a whole, each with what was found in its place.
    pub written: Vec<(PathBuf, Verdict)>,
    /// Copies that could not be written, each with the reason.
    pub unwritten: Vec<(PathBuf, String)>,
    /// The file of an older release that everything was taken from.
    pub migrated: Option<PathBuf>,
    /// There was nothing.
    pub is_new: bool,
}

impl MetaReport {
    /// Copies that were made again because something was wrong with them.
    pub fn repaired(&self) -> impl Iterator<Item = &(PathBuf, Verdict)> {
        let is_repair = |verdict: &Verdict| !matches!(verdict, Verdict::Absent) || self.migrated.is_none();
        self.written.iter().filter(move |(_, verdict)| !self.is_new && is_repair(verdict))
    }

    /// Whether the operator should hear of it.
    pub fn is_news(&self) -> bool {
        self.repaired().next().is_some() || !self.unwritten.is_empty() || self.migrated.is_some()
    }
}

impl fmt::Display for MetaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        if let Some(path) = &self.migrated {
            lines.push(format!("metadata: taken over from {}", path.display()));
        }
        for (path, verdict) in self.repaired() {
            lines.push(format!("metadata: {} was made again from the other copy: it was {verdict}", path.display()));
        }
        for (path, reason) in &self.unwritten {
            lines.push(format!("metadata: {} is MISSING: {reason}", path.display()));
        }
        f.write_str(&lines.join("\n"))
    }
}
