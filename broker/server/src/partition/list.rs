//! The partitions of a topic: more may come, none goes, and a lookup takes no lock.

use std::fmt;
use std::iter::Flatten;
use std::ops::Index;
use std::sync::{Arc, OnceLock};

use super::Partition;

/// The partitions of a topic by index. Those that were added since the start hang behind the first ones, so that all holders
/// of the topic see them.
pub struct PartitionList {
    first: Box<[Arc<Partition>]>,
    added: OnceLock<Box<Self>>,
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

    /// Adds partitions. One call at a time; of two that come together one is without effect.
    pub(crate) fn add(&self, partitions: Vec<Arc<Partition>>) {
        let mut last = self;
        while let Some(next) = last.added.get() {
            last = next;
        }
        let _ = last.added.set(Box::new(partitions.into()));
    }

    fn parts(&self) -> Parts<'_> {
        Parts(Some(self))
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
        Self { first: partitions.into(), added: OnceLock::new() }
    }
}

impl<'a> IntoIterator for &'a PartitionList {
    type Item = &'a Arc<Partition>;
    type IntoIter = Flatten<Parts<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Index<usize> for PartitionList {
    type Output = Arc<Partition>;

    fn index(&self, index: usize) -> &Self::Output {
        let count = self.len();
        self.get(index).unwrap_or_else(|| panic!("partition {index} of {count}"))
    }
}

impl fmt::Debug for PartitionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} partitions", self.len())
    }
}
