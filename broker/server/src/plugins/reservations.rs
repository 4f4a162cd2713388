//! Topics that are about to name a plugin, and components that are being pushed: both are in use before any table says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_plugin_host::Digest;
use parking_lot::Mutex;

use super::PluginUser;

/// The topics that are about to name a plugin.
#[derive(Debug, Default)]
pub(super) struct Reservations(Mutex<Reserved>);

#[derive(Debug, Default)]
struct Reserved {
    next: u64,
    users: BTreeMap<u64, PluginUser>,
}

/// A topic that is about to name a plugin. It counts as a user until this is dropped, by when the topic itself counts.
#[derive(Debug)]
#[must_use = "the plugin may be deleted once this is dropped"]
pub struct Reservation {
    reservations: Arc<Reservations>,
    number: u64,
}

impl Reservations {
    pub(super) fn enter(self: &Arc<Self>, user: PluginUser) -> Reservation {
        let mut reserved = self.0.lock();
        let number = reserved.next;
        reserved.next += 1;
        reserved.users.insert(number, user);
        Reservation { reservations: Arc::clone(self), number }
    }

    /// The topics that name plugins and those that are about to. No reservation ends between the two, so none is missed.
    pub(super) fn and(&self, topics: impl FnOnce() -> Vec<PluginUser>) -> Vec<PluginUser> {
        let reserved = self.0.lock();
        let mut users = topics();
        users.extend(reserved.users.values().cloned());
        users
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reservations.0.lock().users.remove(&self.number);
    }
}

/// Components that are being pushed: they are not removed from the store, even if a name is deleted meanwhile.
#[derive(Debug, Default)]
pub(super) struct Pushing(Mutex<HashMap<Digest, usize>>);

/// One push of a component.
pub(super) struct Push<'a> {
    pushing: &'a Pushing,
    digest: Digest,
}

impl Pushing {
    pub(super) fn begin(&self, digest: Digest) -> Push<'_> {
        *self.0.lock().entry(digest).or_default() += 1;
        Push { pushing: self, digest }
    }

    /// Does something with a component unless it is being pushed. A push that begins meanwhile waits.
    pub(super) fn unless(&self, digest: Digest, work: impl FnOnce()) {
        let pushing = self.0.lock();
        if !pushing.contains_key(&digest) {
            work();
        }
    }
}

impl Drop for Push<'_> {
    fn drop(&mut self) {
        let mut pushing = self.pushing.0.lock();
        if let Some(count) = pushing.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                pushing.remove(&self.digest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_plugin_host::Kind;

    use super::*;
    use crate::config::PluginRef;

    fn user(topic: &str) -> PluginUser {
        let plugin = PluginRef { name: "p".to_owned(), version: None };
        let (topic, config) = (topic.to_owned(), String::new());
        PluginUser { topic_id: None, topic, kind: Kind::Partitioner, plugin, config }
    }

    #[test]
    fn a_topic_that_is_about_to_name_a_plugin_counts_until_its_claim_ends() {
        let reservations = Arc::new(Reservations::default());
        let names = || reservations.and(|| vec![user("there")]).into_iter().map(|user| user.topic).collect::<Vec<_>>();
        let (one, two) = (reservations.enter(user("one")), reservations.enter(user("two")));
        assert_eq!(names(), ["there", "one", "two"]);
        drop(one);
        assert_eq!(names(), ["there", "two"]);
        drop(two);
        assert_eq!(names(), ["there"]);
    }

    #[test]
    fn a_component_is_removed_only_when_no_push_of_it_is_under_way() {
        let pushing = Pushing::default();
        let (component, other) = (Digest::of(b"component"), Digest::of(b"other"));
        let is_removed = |digest| {
            let mut removed = false;
            pushing.unless(digest, || removed = true);
            removed
        };
        let (one, two) = (pushing.begin(component), pushing.begin(component));
        assert!(!is_removed(component) && is_removed(other));
        drop(one);
        assert!(!is_removed(component));
        drop(two);
        assert!(is_removed(component));
    }
}
