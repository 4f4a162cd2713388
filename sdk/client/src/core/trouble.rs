//! What stands between a client and its brokers at present: the reason that every wait which ends without a result gives.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Option<Arc<str>>>);

impl Trouble {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest reason.
    pub(crate) fn note(&self, words: &str) {
        *self.lock() = Some(words.into());
    }

    /// Brokers take records again.
    pub(crate) fn clear(&self) {
        *self.lock() = None;
    }

    pub(crate) fn words(&self) -> Option<Arc<str>> {
        self.lock().clone()
    }
}
