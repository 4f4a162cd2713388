//! The sessions there are, and which of them gives way.

use std::collections::{BTreeMap, BTreeSet};

use super::session::Session;
use super::{FetchSessionConfig, NO_SESSION};

#[derive(Debug, Default)]
pub(super) struct Cache {
    config: FetchSessionConfig,
    sessions: BTreeMap<i32, Session>,
    /// Sessions by the time of their last use.
    by_use: BTreeSet<(i64, i32)>,
    /// Sessions by their number of partitions.
    by_size: BTreeSet<(usize, i32)>,
    partitions: usize,
    evictions: u64,
}

impl Cache {
    pub(super) fn new(config: FetchSessionConfig) -> Self {
        Self { config, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) const fn partitions(&self) -> usize {
        self.partitions
    }

    /// Whether sessions grew beyond the bound.
    pub(super) const fn is_overfull(&self) -> bool {
        self.partitions > self.config.partitions_max
    }

    pub(super) const fn evictions(&self) -> u64 {
        self.evictions
    }

    pub(super) fn get(&mut self, session_id: i32) -> Option<&mut Session> {
        self.sessions.get_mut(&session_id)
    }

    pub(super) fn remove(&mut self, session_id: i32) {
        if let Some(session) = self.sessions.remove(&session_id) {
            self.by_use.remove(&(session.used_ms, session_id));
            self.by_size.remove(&(session.len(), session_id));
            self.partitions -= session.len();
        }
    }

    /// A session was used, and may have grown or shrunk.
    pub(super) fn resized(&mut self, session_id: i32, before: usize, after: usize, now_ms: i64) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        self.by_use.remove(&(session.used_ms, session_id));
        self.by_size.remove(&(before, session_id));
        session.used_ms = now_ms;
        self.by_use.insert((now_ms, session_id));
        self.by_size.insert((after, session_id));
        self.partitions = self.partitions - before + after;
    }

    /// Takes a session in if there is room for it, or another one gives way. `fresh` is its id, or the next one that is free.
    pub(super) fn insert(&mut self, now_ms: i64, fresh: i32, session: Session) -> Option<i32> {
        let size = session.len();
        let is_full = |cache: &Self| {
            cache.sessions.len() >= cache.config.slots_max || cache.partitions + size > cache.config.partitions_max
        };
        if size == 0 {
            return None;
        }
        while is_full(self) {
            let gives_way = self.unused(now_ms).or_else(|| self.smaller(now_ms, size))?;
            self.remove(gives_way);
            self.evictions += 1;
        }
        let mut session_id = fresh & i32::MAX;
        while session_id == NO_SESSION || self.sessions.contains_key(&session_id) {
            session_id = session_id.wrapping_add(1) & i32::MAX;
        }
        self.by_use.insert((session.used_ms, session_id));
        self.by_size.insert((size, session_id));
        self.partitions += size;
        self.sessions.insert(session_id, session);
        Some(session_id)
    }

    /// The session that was not used for longest, if that is long enough.
    fn unused(&self, now_ms: i64) -> Option<i32> {
        let (used_ms, session_id) = self.by_use.first()?;
        (now_ms - used_ms > self.config.eviction_ms).then_some(*session_id)
    }

    /// The smallest session that is old enough to give way to a larger one.
    fn smaller(&self, now_ms: i64, size: usize) -> Option<i32> {
        let smaller = self.by_size.range(..(size, i32::MIN)).map(|(_, session_id)| *session_id);
        smaller
            .filter(|id| self.sessions.get(id).is_some_and(|s| now_ms - s.created_ms > self.config.eviction_ms))
            .min_by_key(|id| self.sessions.get(id).map_or(0, Session::len))
    }
}
