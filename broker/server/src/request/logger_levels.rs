//! The levels of the broker's loggers: what DescribeConfigs and IncrementalAlterConfigs do to them.

use ottla_wire::message::{
    AlterableConfig, DescribeConfigsResourceResult, OPERATION_DELETE, OPERATION_SET, SOURCE_DYNAMIC_BROKER_LOGGER,
};
use ottla_wire::{ErrorCode, Str};

use super::Peer;
use super::api_error::ApiError;
use crate::broker::Broker;
use crate::config::ValueKind;
use crate::loggers::{LevelChange, LoggerError};

/// The loggers that are wanted, with their levels.
pub(super) fn describe_loggers(
    broker: &Broker,
    node: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<DescribeConfigsResourceResult<'static>>, ApiError> {
    check_node(broker, node)?;
    let loggers = broker.loggers.levels().into_iter().filter(|(name, ..)| wanted(name));
    let described = loggers.map(|(name, level, _)| DescribeConfigsResourceResult {
        name: Str::Owned(name),
        value: Some(Str::Borrowed(level)),
        config_source: SOURCE_DYNAMIC_BROKER_LOGGER,
        config_type: ValueKind::String.code(),
        ..Default::default()
    });
    Ok(described.collect())
}

/// Gives loggers other levels: all of the changes hold, or none.
pub(super) fn change_loggers(
    broker: &Broker,
    peer: &Peer,
    node: &str,
    validate_only: bool,
    changes: &[AlterableConfig<'_>],
) -> Result<(), ApiError> {
    check_node(broker, node)?;
    let mut levels: Vec<LevelChange<'_>> = Vec::new();
    for change in changes {
        let level = match change.config_operation {
            OPERATION_SET => Some(change.value.as_deref().unwrap_or_default()),
            OPERATION_DELETE => None,
            _ => {
                let message = "Levels of loggers can be set and deleted, not appended to or subtracted from.";
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
        };
        levels.push((&change.name, level));
    }
    broker.loggers.change(&levels, validate_only).map_err(|error| {
        let error_code = match &error {
            LoggerError::Unknown { .. } | LoggerError::BadLevel { .. } => ErrorCode::InvalidConfig,
            LoggerError::RootRemoved | LoggerError::TooMany | LoggerError::NotLed | LoggerError::Refused { .. } => {
                ErrorCode::InvalidRequest
            }
        };
        ApiError::new(error_code, error.to_string())
    })?;
    if !validate_only {
        for (logger, level) in levels {
            tracing::info!(logger, level = level.unwrap_or("as at the start"), client = %peer, "changed the level of a logger");
        }
    }
    Ok(())
}

fn check_node(broker: &Broker, node: &str) -> Result<(), ApiError> {
    if node.parse() == Ok(broker.node_id) {
        return Ok(());
    }
    let message = format!("Unexpected broker id, expected {} but received {node}", broker.node_id);
    Err(ApiError::new(ErrorCode::InvalidRequest, message))
}
