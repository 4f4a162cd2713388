//! What stands between a client and its brokers at present: the reason that every wait which ends without a result gives.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What keeps a producer from delivering at present; shared, so that it can be read while a wait is under way.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<Arc<str>>>);

impl Trouble {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, words: &str) {
        *self.lock() = Some(words.into());
    }

    /// Brokers take records again.
    pub(crate) fn clear(&self) {
        *self.lock() = None;
    }

    /// The newest reason; none while brokers take records.
    pub fn words(&self) -> Option<Arc<str>> {
        self.lock().clone()
    }
}
