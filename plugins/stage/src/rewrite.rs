//! A batch as a serializer wants it stored: the same codec, offset deltas, timestamps and producer, with other records.

use ottla_plugin_host::{Rewrite, Serialized, Verdict};
use ottla_wire::record::{
    Batch, BatchBuilder, BatchRecords, BuildError, Header, Record, TimestampType, set_log_append_time,
};

use crate::{Rules, StageError};

/// Makes the batch. Records that stay as they are are copied byte for byte.
pub fn rewrite(
    batch: &Batch<'_>,
    records: &BatchRecords<'_>,
    serialized: &Serialized,
    rules: Rules,
) -> Result<Vec<u8>, StageError> {
    let header = &batch.header;
    let mut builder = BatchBuilder::like(header);
    if header.is_idempotent() {
        builder = builder.producer(header.producer_id, header.producer_epoch, header.base_sequence);
    }
    for (record, verdict) in records.iter().zip(serialized.verdicts()) {
        let record = record.map_err(|error| StageError::Undecodable(error.to_string()))?;
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        match verdict {
            Verdict::Rewrite(new) => append(&mut builder, timestamp, &record, &new, rules)?,
            _ => builder.append_record(timestamp, &record).map_err(|error| too_large(&error, rules))?,
        };
    }
    let mut bytes = Vec::with_capacity(builder.uncompressed_bytes().min(rules.batch_bytes_max));
    builder.finish(&mut bytes).map_err(|error| too_large(&error, rules))?;
    if bytes.len() > rules.batch_bytes_max {
        return Err(StageError::RewrittenTooLarge { bytes: bytes.len(), bytes_max: rules.batch_bytes_max });
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        set_log_append_time(&mut bytes, header.max_timestamp);
    }
    Ok(bytes)
}

fn append(
    builder: &mut BatchBuilder,
    timestamp: i64,
    record: &Record<'_>,
    new: &Rewrite<'_>,
    rules: Rules,
) -> Result<i32, StageError> {
    let key = new.key.unwrap_or(record.key);
    if rules.needs_keys && key.is_none() {
        return Err(StageError::RewrittenWithoutKey { record: record.offset_delta });
    }
    let value = new.value.unwrap_or(record.value);
    let appended = if let Some(headers) = &new.headers {
        builder.append(timestamp, key, value, headers.iter().map(|&(key, value)| Header { key, value }))
    } else {
        let headers: Vec<Header<'_>> = record.headers.iter().collect();
        builder.append(timestamp, key, value, headers.into_iter())
    };
    appended.map_err(|error| too_large(&error, rules))
}

/// What a plugin makes may be more than a batch can hold.
fn too_large(error: &BuildError, rules: Rules) -> StageError {
    match *error {
        BuildError::TooLarge { bytes } => StageError::RewrittenTooLarge { bytes, bytes_max: rules.batch_bytes_max },
        ref other => StageError::Undecodable(other.to_string()),
    }
}
