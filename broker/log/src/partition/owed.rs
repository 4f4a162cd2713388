//! What a start on a full disk had no room for. Reads go on without it; it is written before anything is appended.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::PartitionLog;
use crate::Offset;

/// What is not written yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owed {
    /// `partition.meta`, with a raised epoch: the first batch of an epoch comes after the epoch itself.
    pub(crate) meta: bool,
    /// The empty segment in which the log goes on.
    pub(crate) segment: Option<Offset>,
}

/// The same, where every append asks for it.
#[derive(Debug, Default)]
pub(super) struct Debt {
    any: AtomicBool,
    owed: Mutex<Owed>,
}

impl Debt {
    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartitionLog {
    /// Adds to what has to be written before the next append.
    pub(crate) fn owe(&self, more: Owed) {
        let mut owed = self.debt.owed();
        owed.meta |= more.meta;
        owed.segment = owed.segment.or(more.segment);
        self.debt.any.store(owed.meta || owed.segment.is_some(), Ordering::Release);
    }

    /// Writes, durably, what the start could not.
    pub(super) fn settle_debt(&self) -> io::Result<()> {
        if !self.debt.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut owed = self.debt.owed();
        if let Some(base) = owed.segment {
            let path = self.segment_path(base);
            self.shared.disk.create(&path)?;
            self.shared.disk.sync_path(&path)?;
            self.shared.disk.sync_dir(&self.directory)?;
            owed.segment = None;
        }
        if owed.meta {
            let _one = self.rewriting();
            Self::meta_file(&self.shared, &self.directory).write(&self.meta().encode())?;
            owed.meta = false;
        }
        self.debt.any.store(false, Ordering::Release);
        Ok(())
    }
}
