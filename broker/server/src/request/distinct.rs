//! Names in requests are sets, as in Kafka: what is named twice is answered once, so that no answer is larger than what there is.

use std::collections::HashSet;
use std::hash::Hash;

/// Of what has the same name, the first.
pub(super) fn distinct<T: Copy, K: Eq + Hash>(
    named: impl IntoIterator<Item = T>,
    name: impl Fn(T) -> K,
) -> impl Iterator<Item = T> {
    let mut seen = HashSet::new();
    named.into_iter().filter(move |it| seen.insert(name(*it)))
}
