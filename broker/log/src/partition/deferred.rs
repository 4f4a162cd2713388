//! Writes that startup could not do on a full disk. Reads work without them; an append does them first, or fails.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::PartitionLog;
use crate::Offset;

/// The writes that are still to be done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeferredWrites {
    /// `partition.meta` with a raised epoch: it has to be durable before the first batch of that epoch is written.
    pub(crate) meta: bool,
    /// Creating the empty segment that takes the next append.
    pub(crate) segment: Option<Offset>,
}

/// The deferred writes of one partition, with a flag that every append can check without a lock.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    any: AtomicBool,
    writes: Mutex<DeferredWrites>,
}

impl Deferred {
    fn writes(&self) -> MutexGuard<'_, DeferredWrites> {
        self.writes.lock()
    }
}

impl PartitionLog {
    /// Adds writes that have to be done before the next append.
    pub(crate) fn defer(&self, more: DeferredWrites) {
        let mut writes = self.deferred.writes();
        writes.meta |= more.meta;
        writes.segment = writes.segment.or(more.segment);
        self.deferred.any.store(writes.meta || writes.segment.is_some(), Ordering::Release);
    }

    /// Does the deferred writes, durably.
    pub(super) fn write_deferred(&self) -> io::Result<()> {
        if !self.deferred.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut writes = self.deferred.writes();
        if let Some(base) = writes.segment {
            let path = self.segment_path(base);
            self.dir.disk.create(&path)?;
            self.dir.disk.sync_path(&path)?;
            self.dir.disk.sync_dir(&self.directory)?;
            writes.segment = None;
        }
        if writes.meta {
            let _one = self.lock_meta();
            Self::meta_file(&self.dir, &self.directory).write(&self.meta().encode())?;
            writes.meta = false;
        }
        self.deferred.any.store(false, Ordering::Release);
        Ok(())
    }
}
