//! The plugin of a topic asked about one batch, with every way in which that can go wrong.

use std::time::Instant;

use ottla_plugin_host::CallError;
use ottla_stage::{Address, StageError, Staged};

use crate::partition::Refusal;
use crate::plugins::BoundPlugin;

/// Asks the plugin. A failure is a refusal of this batch and a line in the log.
pub(super) fn stage(
    plugin: &BoundPlugin,
    address: Address<'_>,
    batch: &[u8],
    unpacked_bytes_max: usize,
) -> Result<Staged, Refusal> {
    let began = Instant::now();
    let staged = ottla_stage::run(plugin.partitioner(), address, batch, unpacked_bytes_max);
    let took = began.elapsed();
    match &staged {
        Ok(_) => plugin.note(took, None),
        Err(StageError::Plugin { source, .. }) => plugin.note(took, Some(source)),
        // The plugin was not asked.
        Err(_) => {}
    }
    staged.map_err(|error| match error {
        StageError::Corrupt(error) => Refusal::Corrupt(error.to_string()),
        StageError::Transactional => Refusal::TransactionalRoute,
        StageError::UnpackedTooLarge { bytes_max } => Refusal::UnpackedTooLarge { bytes_max },
        StageError::Undecodable(reason) => Refusal::Undecodable(reason),
        StageError::Plugin { source, records } => {
            let reason = source.to_string();
            plugin.complain(address.topic, address.partition, &reason);
            refusal(plugin.label(), &source, reason, records)
        }
    })
}

fn refusal(plugin: String, error: &CallError, reason: String, records: i32) -> Refusal {
    match error {
        CallError::OutOfRange { record, .. } => {
            Refusal::Plugin { plugin, reason, index: Some(*record as i32), records }
        }
        CallError::Trap { .. }
        | CallError::Deadline { .. }
        | CallError::Memory { .. }
        | CallError::Refused { .. }
        | CallError::WrongCount { .. }
        | CallError::ConfigRefused { .. } => Refusal::Plugin { plugin, reason, index: None, records },
        // The plugin was not at fault, and neither is the batch: the producer may try again.
        CallError::MemoryTotal { .. }
        | CallError::Busy { .. }
        | CallError::TooManyInstances { .. }
        | CallError::NoPartitions
        | CallError::WrongColumns => Refusal::PluginUnavailable { plugin, reason },
    }
}
