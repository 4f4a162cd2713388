//! What happens to a batch between the sequence check and the append: a plugin looks at its records.
//!
//! 1. [`columns`]: the records, unpacked, become the flat columns that the plugin reads.
//! 2. [`partition`]: the plugin names a partition for each of them; what goes wrong becomes a refusal of this batch.
//! 3. [`split`]: records that leave are put into batches of their own.
//!
//! Knows neither the log nor any socket, so that it can stand in front of another store. Everything here may take as
//! long as a plugin is allowed to take: it never runs on a thread that serves connections.

pub mod columns;
pub mod partition;
pub mod split;

use ottla_wire::Uuid;
use ottla_wire::record::Batch;

use crate::partition::Refusal;
use crate::plugins::BoundPlugin;

pub use split::{Split, SubBatch};

/// Where a batch was addressed.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// How many partitions the topic has.
    pub partition_count: i32,
}

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    /// It goes where it was addressed, as it is.
    Stays,
    /// Records of it leave.
    Moves(Split),
}

/// Lets a partitioner plugin decide about a batch that was checked already. `unpacked_bytes_max` bounds what its
/// records may unpack to.
pub fn run(
    plugin: &BoundPlugin,
    address: Address<'_>,
    batch: &[u8],
    unpacked_bytes_max: usize,
) -> Result<Staged, Refusal> {
    let batch = Batch::parse(batch).map_err(|error| Refusal::Corrupt(error.to_string()))?;
    if batch.header.is_transactional() {
        return Err(Refusal::TransactionalRoute);
    }
    let records = columns::unpack(&batch, unpacked_bytes_max)?;
    let columns = columns::build(&records, plugin.partitioner().reads())?;
    let answer = partition::ask(plugin, address, &columns)?;
    if answer.iter().all(|partition| i64::from(*partition) == i64::from(address.partition)) {
        return Ok(Staged::Stays);
    }
    split::split(&batch, &records, address.topic_id, &answer).map(Staged::Moves)
}
