//! What the journal need not hold any more is cut off it, in two steps between which the [keeper](crate::keeper) saves
//! the producers.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ottla_log::JournalError;

use super::{Router, Shared};

/// How long a cut waits for the entries before it to be carried out; then it is left to the next time.
const CUT_PATIENCE: Duration = Duration::from_secs(5);
const CUT_POLL: Duration = Duration::from_millis(5);

/// A new file of the journal, before which everything is carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    segment: u64,
}

impl Router {
    /// Begins a new file of the journal and waits until everything before it is carried out. None: there is nothing to
    /// cut, or not now.
    pub(crate) fn begin_cut(&self) -> Option<Cut> {
        self.shared.begin_cut().unwrap_or_else(|error| {
            tracing::warn!(%error, "the route journal is not cut");
            None
        })
    }

    /// Removes the files before a cut, if the producers of all topics that have changed since it began are saved.
    pub(crate) fn end_cut(&self, cut: Cut, all_saved: bool) {
        let Some(journal) = &self.shared.journal else { return };
        if !all_saved || self.shared.is_any_held() {
            self.shared.leave_to_next_cut();
        } else if let Err(error) = journal.remove_before(cut.segment) {
            tracing::warn!(%error, "old files of the route journal stay");
        }
    }
}

impl Shared {
    fn begin_cut(&self) -> Result<Option<Cut>, JournalError> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let bytes = self.journal_bytes.swap(0, Ordering::Relaxed);
        if bytes == 0 {
            return Ok(None);
        }
        let segment = journal.start_segment().inspect_err(|_| {
            self.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
        })?;
        let deadline = Instant::now() + CUT_PATIENCE;
        while self.applied.load(Ordering::Acquire) < segment {
            if self.stuck.load(Ordering::Acquire) || Instant::now() >= deadline || self.stop.wait(CUT_POLL) {
                self.leave_to_next_cut();
                return Ok(None);
            }
        }
        Ok(Some(Cut { segment }))
    }

    /// The files that could go stay until the next cut, which takes them along.
    fn leave_to_next_cut(&self) {
        self.journal_bytes.fetch_add(1, Ordering::Relaxed);
    }
}
