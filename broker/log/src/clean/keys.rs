//! The last offset of every key, in bounded memory. Keys that do not fit wait for the next round.
//!
//! The map stores 128 bits of two hashes per key. Every map draws new seeds, so a client cannot choose keys that
//! collide. Two keys that collide nevertheless (one chance in 2^128 per pair) would count as one.

use std::hash::{BuildHasher as _, RandomState};

use ottla_wire::Offset;

/// Memory of one entry.
pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>();
/// Of sixteen places this many may be taken; with more, searches get slow.
const LOAD_MAX: usize = 14;

/// The two hashes of a key, and its last offset plus one. An offset field of 0 marks an empty place: a new table is
/// pages of zeros, which the kernel does not even allocate.
type Entry = [u64; 3];

/// Last offsets by key.
pub(crate) struct KeyMap {
    seeds: [RandomState; 2],
    entries: Vec<Entry>,
    taken: usize,
}

/// The map has no place for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl KeyMap {
    /// A map for up to `keys` keys, in at most `bytes_max` bytes.
    pub(crate) fn new(keys: u64, bytes_max: usize) -> Self {
        let wanted = usize::try_from(keys).unwrap_or(usize::MAX).saturating_mul(16) / LOAD_MAX + 2;
        let places = wanted.min((bytes_max / ENTRY_BYTES).max(2));
        let entries = vec![[0; 3]; places];
        Self { seeds: [RandomState::new(), RandomState::new()], entries, taken: 0 }
    }

    /// Stores the offset of a record. Offsets come in rising order, so the last call for a key counts.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = self.hash(key);
        let at = self.find(hash);
        let room = self.taken < (self.entries.len() * LOAD_MAX / 16).max(1);
        let Some(entry) = self.entries.get_mut(at) else { return Err(Full) };
        if entry[2] == 0 {
            if !room {
                return Err(Full);
            }
            self.taken += 1;
        }
        *entry = [hash[0], hash[1], offset.get() as u64 + 1];
        Ok(())
    }

    /// The last offset of a key.
    pub(crate) fn last(&self, key: &[u8]) -> Option<Offset> {
        let entry = self.entries.get(self.find(self.hash(key)))?;
        (entry[2] > 0).then(|| Offset(entry[2] as i64 - 1))
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.taken
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        self.seeds.each_ref().map(|seed| seed.hash_one(key))
    }

    /// The place of a key: where it is stored, or where it would be.
    fn find(&self, hash: [u64; 2]) -> usize {
        let places = self.entries.len();
        let mut at = ((u128::from(hash[0]) * places as u128) >> 64) as usize;
        // The load limit guarantees an empty place.
        while self.entries.get(at).is_some_and(|entry| entry[2] != 0 && entry[..2] != hash) {
            at = if at + 1 == places { 0 } else { at + 1 };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn map_knows_the_last_offset_of_every_key_it_took(
            keys in vec(vec(any::<u8>(), 0..3), 0..300), bytes_max in 0_usize..6000,
        ) {
            let mut map = KeyMap::new(keys.len() as u64, bytes_max);
            let mut model = HashMap::new();
            for (offset, key) in keys.iter().enumerate() {
                let known = model.contains_key(key);
                match map.put(key, Offset(offset as i64)) {
                    Ok(()) => { model.insert(key.clone(), offset as i64); }
                    Err(Full) => prop_assert!(!known && model.len() * ENTRY_BYTES * 16 >= bytes_max.min(6000) / 2),
                }
                prop_assert_eq!(map.last(key).map(Offset::get), model.get(key).copied());
            }
            prop_assert_eq!(map.len(), model.len());
            for key in &keys {
                prop_assert_eq!(map.last(key).map(Offset::get), model.get(key).copied());
            }
        }
    }

    #[test]
    fn map_takes_all_the_keys_it_was_made_for_and_one_key_in_any_memory() {
        let mut map = KeyMap::new(10_000, 1 << 30);
        for key in 0..10_000_i64 {
            map.put(&key.to_be_bytes(), Offset(key)).unwrap();
        }
        assert_eq!(ENTRY_BYTES, 24);
        let mut least = KeyMap::new(u64::MAX, 0);
        least.put(b"a", Offset(0)).unwrap();
        least.put(b"a", Offset(1)).unwrap();
        assert_eq!(least.put(b"b", Offset(2)), Err(Full));
        assert_eq!(least.last(b"a"), Some(Offset(1)));
    }
}
