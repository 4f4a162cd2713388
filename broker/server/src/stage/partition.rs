//! One call of a partitioner plugin, with every way in which it can go wrong.

use ottla_plugin_host::{CallError, Columns, Context};

use super::Address;
use crate::partition::Refusal;
use crate::plugins::BoundPlugin;

/// Asks the plugin for the partition of every record. A failure is a refusal of this batch and a line in the log.
pub fn ask(plugin: &BoundPlugin, address: Address<'_>, columns: &Columns) -> Result<Vec<u32>, Refusal> {
    let context = Context { topic: address.topic, partition_count: address.partition_count as u32 };
    let mut answer = Vec::with_capacity(columns.len());
    plugin.partitioner().partition(&context, columns, &mut answer).map_err(|error| {
        let reason = error.to_string();
        plugin.complain(address.topic, address.partition, &reason);
        refusal(plugin, &error, reason, columns.len() as i32)
    })?;
    Ok(answer)
}

fn refusal(plugin: &BoundPlugin, error: &CallError, reason: String, records: i32) -> Refusal {
    let plugin = plugin.label();
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
