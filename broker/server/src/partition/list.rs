//! The partitions of a topic: more may come, none goes, and a lookup takes no lock.

use std::fmt;
use std::iter::Flatten;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

use super::Partition;

/// The partitions of a topic by index. Those that were added since the start hang behind the first ones, so that all holders
/// of the topic see them.
pub struct PartitionList {
    first: Box<[Arc<Partition>]>,
    added: OnceLock<Box<Self>>,
    /// Held by the one that adds partitions.
    growing: Mutex<()>,
}

/// The right to add partitions. There is one at a time, so that the indexes of those that are added follow the others.
pub(crate) struct Growth<'a> {
    list: &'a PartitionList,
    _growing: MutexGuard<'a, ()>,
}

impl PartitionList {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts().map(<[_]>::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The partition with this index.
    pub fn get(&self, mut index: usize) -> Option<&Arc<Partition>> {
        for part in self.parts() {
            if let Some(partition) = part.get(index) {
                return Some(partition);
            }
            index -= part.len();
        }
        None
    }

    /// The first partition.
    pub fn first(&self) -> Option<&Arc<Partition>> {
        self.get(0)
    }

    /// All of them, by index.
    pub fn iter(&self) -> Flatten<Parts<'_>> {
        self.parts().flatten()
    }

    /// Takes the right to add partitions. Waits while another caller has it.
    pub(crate) fn grow(&self) -> Growth<'_> {
        Growth { list: self, _growing: self.growing.lock() }
    }

    fn parts(&self) -> Parts<'_> {
        Parts(Some(self))
    }
}

impl Growth<'_> {
    /// How many partitions there are: the index of the next one.
    pub(crate) fn next_index(&self) -> usize {
        self.list.len()
    }

    /// Adds partitions, whose indexes begin with [`next_index`](Self::next_index).
    pub(crate) fn add(self, partitions: Vec<Arc<Partition>>) {
        let mut last = self.list;
        while let Some(next) = last.added.get() {
            last = next;
        }
        // Nothing else sets it while the right is held.
        last.added.get_or_init(|| Box::new(partitions.into()));
    }
}

/// The partitions of a topic in the parts in which they came.
pub struct Parts<'a>(Option<&'a PartitionList>);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [Arc<Partition>];

    fn next(&mut self) -> Option<Self::Item> {
        let part = self.0?;
        self.0 = part.added.get().map(|next| &**next);
        Some(&part.first)
    }
}

impl From<Vec<Arc<Partition>>> for PartitionList {
    fn from(partitions: Vec<Arc<Partition>>) -> Self {
        Self { first: partitions.into(), added: OnceLock::new(), growing: Mutex::new(()) }
    }
}

impl<'a> IntoIterator for &'a PartitionList {
    type Item = &'a Arc<Partition>;
    type IntoIter = Flatten<Parts<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for PartitionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} partitions", self.len())
    }
}
