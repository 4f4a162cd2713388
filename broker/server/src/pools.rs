//! The threads of the broker for work that waits for a disk or computes for long: a pool for each kind. `docs/limits.md`
//! lists them; what a pool does when its queue is full is in [`crate::request`].

use std::sync::Arc;

use ottla_front::{Pool, PoolOptions};

/// Requests that wait for a thread of a pool which answers with an error when more come.
const QUEUE_MAX: usize = 512;
/// Where something else bounds what waits: one piece of work per connection, or per lane.
const UNBOUNDED: usize = usize::MAX;

macro_rules! pools {
    ($( $(#[doc = $doc:literal])+ $field:ident = $name:literal, $threads:expr, $queue:expr, $yields:expr; )+) => {
        /// One of each.
        #[derive(Debug)]
        pub struct Pools {
            $( $(#[doc = $doc])+ pub $field: Arc<Pool>, )+
        }

        impl Pools {
            /// Pools without a thread yet.
            pub fn new() -> Self {
                $( let $field = Arc::new(Pool::new(PoolOptions {
                    name: $name,
                    threads_max: $threads,
                    queue_max: $queue,
                    yields: $yields,
                })); )+
                Self { $( $field, )+ }
            }

            /// All of them.
            pub fn all(&self) -> impl Iterator<Item = &Pool> {
                [$( &*self.$field, )+].into_iter()
            }
        }
    };
}

pools! {
    /// Fetches of records that are not in memory.
    reads = "reads", 32, UNBOUNDED, false;
    /// Searches by time, which unpack batches.
    searches = "searches", half_of_processors(), QUEUE_MAX, true;
    /// Changes of topics and settings.
    admin = "admin", 4, QUEUE_MAX, false;
    /// Deletions of records.
    deletions = "deletions", 8, QUEUE_MAX, false;
    /// Blocks of producer ids.
    ids = "ids", 1, QUEUE_MAX, false;
    /// Uploads and compilations of plugins.
    uploads = "uploads", 2, QUEUE_MAX, false;
    /// Answers about many topics or partitions.
    answers = "answers", half_of_processors(), UNBOUNDED, true;
    /// Checks of batches that have to be unpacked.
    unpacking = "unpacking", half_of_processors(), UNBOUNDED, true;
    /// Plugins of topics.
    lanes = "lanes", processors().max(2), UNBOUNDED, true;
    /// Loading of groups.
    loads = "loads", 4, UNBOUNDED, false;
    /// The page of metrics.
    metrics = "metrics", 1, 16, false;
}

impl Default for Pools {
    fn default() -> Self {
        Self::new()
    }
}

/// For work that computes: the other processors serve connections, whatever their threads ask for.
fn half_of_processors() -> usize {
    (processors() / 2).max(1)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
