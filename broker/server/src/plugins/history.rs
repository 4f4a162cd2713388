//! Which versions of a plugin were active, and where a rollback goes.
//!
//! Pure: a record in, the changed record out. The history is `earlier_versions`, then `previous_version`. Two things hold after
//! every change: no bad version is in it, and its last version is not the active one. So a rollback takes the last one.

use crate::meta::{PluginRecord, PluginVersionRecord};

/// Activations that a rollback can walk back through; older ones are forgotten.
const HISTORY_MAX: usize = 64;

impl PluginRecord {
    /// With this version active. A bad version is no longer bad: the operator wants it.
    pub(super) fn activated(&self, version: i32) -> Self {
        if version == self.active_version {
            return self.clone();
        }
        let mut history = self.history();
        history.extend(Some(self.active_version).filter(|active| *active != 0));
        self.moved_to(version, history, None)
    }

    /// Back at the last version of the history, or at `to`, with everything that became active since then out of the history, and the
    /// version that is left marked bad. `None` if the history is empty and no version is named.
    pub(super) fn rolled_back(&self, to: Option<i32>) -> Option<Self> {
        let mut history = self.history();
        let version = to.or_else(|| history.last().copied())?;
        if version == self.active_version {
            return Some(self.clone());
        }
        if let Some(at) = history.iter().rposition(|known| *known == version) {
            history.truncate(at);
        }
        Some(self.moved_to(version, history, Some(self.active_version)))
    }

    /// With these versions alone.
    pub(super) fn with_versions(&self, versions: Vec<PluginVersionRecord>) -> Self {
        let is_kept = |number: &i32| versions.iter().any(|known| known.version == *number);
        let mut kept = self.clone();
        kept.active_version = Some(self.active_version).filter(is_kept).unwrap_or(0);
        kept.bad_versions.retain(is_kept);
        kept.set_history(self.history().into_iter().filter(is_kept).collect());
        kept.versions = versions;
        kept
    }

    fn moved_to(&self, version: i32, history: Vec<i32>, left: Option<i32>) -> Self {
        let mut moved = self.clone();
        moved.active_version = version;
        moved.bad_versions.extend(left.filter(|left| *left != 0));
        moved.bad_versions.retain(|bad| *bad != version);
        moved.bad_versions.sort_unstable();
        moved.bad_versions.dedup();
        moved.set_history(history);
        moved
    }

    fn history(&self) -> Vec<i32> {
        let previous = Some(self.previous_version).filter(|previous| *previous != 0);
        self.earlier_versions.iter().copied().chain(previous).collect()
    }

    fn set_history(&mut self, mut history: Vec<i32>) {
        history.retain(|version| !self.bad_versions.contains(version));
        history.dedup();
        history.pop_if(|last| *last == self.active_version);
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        self.previous_version = history.pop().unwrap_or(0);
        self.earlier_versions = history;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(versions: i32) -> PluginRecord {
        let version = |version| PluginVersionRecord { version, ..PluginVersionRecord::default() };
        let versions = (1..=versions).map(version).collect();
        PluginRecord { active_version: 1, versions, ..PluginRecord::default() }
    }

    fn after(plugin: &PluginRecord, activations: &[i32]) -> PluginRecord {
        activations.iter().fold(plugin.clone(), |record, version| record.activated(*version))
    }

    fn bad(plugin: &PluginRecord) -> &[i32] {
        &plugin.bad_versions
    }

    #[test]
    fn a_rollback_pressed_twice_goes_back_twice_and_never_forward() {
        let third = after(&plugin(3), &[2, 3]);
        let second = third.rolled_back(None).unwrap();
        assert_eq!((second.active_version, bad(&second)), (2, &[3][..]));
        let first = second.rolled_back(None).unwrap();
        assert_eq!((first.active_version, bad(&first)), (1, &[2, 3][..]));
        assert_eq!(first.rolled_back(None), None, "nothing before it, and what came after it is bad");
    }

    #[test]
    fn a_rollback_passes_over_what_an_earlier_one_left() {
        let at_first = after(&plugin(3), &[2]).rolled_back(None).unwrap();
        let at_third = at_first.activated(3);
        assert_eq!(at_third.rolled_back(None).map(|record| record.active_version), Some(1), "not 2, which is bad");
    }

    #[test]
    fn a_rollback_to_a_named_version_marks_only_what_it_left() {
        let first = after(&plugin(4), &[2, 3, 4]).rolled_back(Some(2)).unwrap();
        assert_eq!((first.active_version, bad(&first)), (2, &[4][..]));
        assert_eq!(first.previous_version, 1, "3 became active after 2");
        let never_active = plugin(2).rolled_back(Some(2)).unwrap();
        assert_eq!((never_active.active_version, bad(&never_active)), (2, &[1][..]));
        let same = plugin(2).rolled_back(Some(1)).unwrap();
        assert_eq!((same.active_version, bad(&same)), (1, &[][..]), "what runs is not left");
    }

    #[test]
    fn activating_a_bad_version_takes_the_mark_away() {
        let left = after(&plugin(2), &[2]).rolled_back(None).unwrap();
        let again = left.activated(2);
        assert_eq!((again.active_version, again.previous_version, bad(&again)), (2, 1, &[][..]));
    }

    #[test]
    fn a_deleted_version_is_nowhere_in_the_history() {
        let third = after(&plugin(3), &[2, 3]);
        let kept = third.versions.iter().filter(|known| known.version != 2).cloned().collect();
        let third = third.with_versions(kept);
        assert_eq!(third.rolled_back(None).map(|record| record.active_version), Some(1));
        let none = third.with_versions(Vec::new());
        assert_eq!((none.active_version, none.previous_version, bad(&none)), (0, 0, &[][..]));
    }

    #[test]
    fn the_history_is_bounded() {
        let there_and_back: Vec<i32> = (0..1000).map(|step| 2 - step % 2).collect();
        let record = after(&plugin(2), &there_and_back);
        assert_eq!(record.earlier_versions.len(), HISTORY_MAX - 1);
    }
}
