//! One save of a topic's producers at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_log::canary::{Canary, broken};
use parking_lot::Mutex;

/// The saves of one topic's producers. All callers that ask during a save share the next one.
#[derive(Debug)]
pub(crate) struct Saves<T, E> {
    /// How many have begun.
    begun: AtomicU64,
    last: Mutex<Option<Last<T, E>>>,
}

/// The last save that ended.
#[derive(Debug)]
struct Last<T, E> {
    number: u64,
    outcome: Result<T, Arc<E>>,
}

/// The saves that had begun when a caller asked: any later one has what the caller wants to be saved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked(u64);

impl<T, E> Default for Saves<T, E> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), last: Mutex::new(None) }
    }
}

impl<T: Clone, E> Saves<T, E> {
    /// Asks for a save of everything that is known now.
    pub(crate) fn ask(&self) -> Asked {
        Asked(self.begun.load(Ordering::Acquire))
    }

    /// Saves with `save`, unless another caller's save began after `asked`: then that one's outcome is the answer. Blocks
    /// while another save is under way.
    pub(crate) fn save(&self, asked: Asked, save: impl FnOnce() -> Result<T, E>) -> Result<T, Arc<E>> {
        if broken(Canary::ShareSnapshotFile) {
            return save().map_err(Arc::new);
        }
        let mut last = self.last.lock();
        if let Some(last) = last.as_ref().filter(|last| last.number > asked.0) {
            return last.outcome.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let outcome = save().map_err(Arc::new);
        *last = Some(Last { number, outcome: outcome.clone() });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_that_ask_during_a_save_share_the_next_one() {
        let saves = Saves::<i32, &str>::default();
        let first = saves.ask();
        let during: Vec<_> = std::iter::repeat_with(|| saves.ask()).take(3).collect();
        assert_eq!(saves.save(first, || Ok(1)), Ok(1));
        // These asked before it began, so it has what they want.
        for asked in during {
            assert_eq!(saves.save(asked, || Err("not again")), Ok(1));
        }
        let mut during = None;
        let asked = saves.ask();
        let failed = saves.save(asked, || {
            during = Some(saves.ask());
            Err("the disk is full")
        });
        assert_eq!(failed, Err(Arc::new("the disk is full")));
        assert_eq!(saves.save(asked, || Ok(2)), failed, "its outcome is shared as well");
        // What was asked for during it may not be in it.
        assert_eq!(saves.save(during.unwrap(), || Ok(3)), Ok(3));
        assert_eq!(saves.save(during.unwrap(), || Err("not again")), Ok(3));
    }
}
