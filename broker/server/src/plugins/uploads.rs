//! Plugins on their way in: a bounded number of uploads, each in a file of the plugin store, found again by digest so
//! that a client whose connection broke goes on where it stopped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_plugin_host::{AdmitError, Admitted, Digest, Host, Upload};
use parking_lot::Mutex;

/// Uploads at the same time. Together they take at most this many times `plugin.max.bytes` on the disk.
const UPLOADS_MAX: usize = 8;
/// Silence after which an upload makes room for another.
const IDLE_MAX: Duration = Duration::from_mins(1);

/// One piece of a component.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// The digest of the whole component.
    pub digest: Digest,
    /// The size of the whole component.
    pub total_bytes: u64,
    /// Where the piece begins.
    pub offset: u64,
    /// The piece.
    pub bytes: &'a [u8],
}

/// How far an upload is after a piece.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The next piece begins here.
    Continue(u64),
    /// It is complete, checked, compiled and kept.
    Admitted(Box<Admitted>),
}

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The piece begins where nothing has arrived yet.
    #[error("the chunk begins at byte {offset}, {received_bytes} bytes have arrived: go on from there")]
    Gap {
        /// Where the piece begins.
        offset: u64,
        /// Where the next piece must begin.
        received_bytes: u64,
    },
    /// Too many others upload.
    #[error("{UPLOADS_MAX} uploads are under way, which is as many as there may be: try again in a minute")]
    TooMany,
    /// The component was refused, or could not be kept.
    #[error(transparent)]
    Admit(#[from] AdmitError),
}

/// The uploads under way.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    slots: Mutex<HashMap<Digest, Slot>>,
}

#[derive(Debug, Clone)]
struct Slot {
    /// Taken out while the component is being checked.
    upload: Arc<Mutex<Option<Upload>>>,
    total_bytes: u64,
    used: Instant,
}

impl Uploads {
    /// Takes a piece. Blocks on the disk, and with the last piece for as long as compiling takes.
    ///
    /// A piece that arrived before is passed over, so a retry does no harm; an empty one asks where to go on.
    pub(crate) fn push(&self, host: &Host, chunk: Chunk<'_>) -> Result<Progress, UploadError> {
        let slot = self.slot(host, chunk)?;
        // The holder of this lock writes to the file: pieces of one upload come one after the other.
        let mut held = slot.lock();
        // Another connection may have completed it in the meantime; what it found out is not known here.
        let Some(upload) = &mut *held else { return Ok(Progress::Continue(0)) };
        let received_bytes = upload.received_bytes();
        if chunk.offset > received_bytes {
            return Err(UploadError::Gap { offset: chunk.offset, received_bytes });
        }
        let already = usize::try_from(received_bytes - chunk.offset).unwrap_or(usize::MAX);
        if let Some(new) = chunk.bytes.get(already..)
            && let Err(error) = upload.push(new)
        {
            self.forget(chunk.digest);
            return Err(error.into());
        }
        if !upload.is_complete() {
            return Ok(Progress::Continue(upload.received_bytes()));
        }
        let complete = held.take();
        self.forget(chunk.digest);
        match complete {
            Some(upload) => Ok(Progress::Admitted(Box::new(upload.finish(Some(chunk.digest))?))),
            None => Ok(Progress::Continue(0)),
        }
    }

    /// Whether pieces of this component have arrived and others are awaited.
    pub(crate) fn is_under_way(&self, digest: Digest) -> bool {
        self.slots.lock().contains_key(&digest)
    }

    /// The upload that a piece belongs to; a new one when there is none.
    fn slot(&self, host: &Host, chunk: Chunk<'_>) -> Result<Arc<Mutex<Option<Upload>>>, UploadError> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get_mut(&chunk.digest).filter(|slot| slot.total_bytes == chunk.total_bytes) {
            slot.used = Instant::now();
            return Ok(Arc::clone(&slot.upload));
        }
        // Refused from the declared size, before anything is kept.
        let max_bytes = host.limits().plugin_bytes_max;
        if chunk.total_bytes > max_bytes {
            return Err(AdmitError::TooLarge { declared_bytes: chunk.total_bytes, max_bytes }.into());
        }
        if slots.len() >= UPLOADS_MAX {
            slots.retain(|_, slot| slot.used.elapsed() < IDLE_MAX);
        }
        if slots.len() >= UPLOADS_MAX {
            return Err(UploadError::TooMany);
        }
        let upload = Arc::new(Mutex::new(Some(host.upload(chunk.total_bytes)?)));
        let slot = Slot { upload: Arc::clone(&upload), total_bytes: chunk.total_bytes, used: Instant::now() };
        slots.insert(chunk.digest, slot);
        Ok(upload)
    }

    fn forget(&self, digest: Digest) {
        self.slots.lock().remove(&digest);
    }
}
