//! Records of a batch as flat columns: only what the plugin reads is copied.

use ottla_plugin_host::{Columns, ColumnsBuilder, Reads};
use ottla_wire::record::{Batch, BatchHeader, BatchRecords, DecompressError};

use crate::StageError;

/// Unpacks the records of a batch, to at most `bytes_max` bytes.
pub fn unpack<'a>(batch: &Batch<'a>, bytes_max: usize) -> Result<BatchRecords<'a>, StageError> {
    batch.records(bytes_max).map_err(|error| match error {
        DecompressError::TooLarge { .. } => StageError::UnpackedTooLarge { bytes_max },
        other => StageError::Undecodable(other.to_string()),
    })
}

/// The columns that a plugin reads. Walks every record, so that what follows may rely on them.
pub fn build(records: &BatchRecords<'_>, header: &BatchHeader, reads: &Reads) -> Result<Columns, StageError> {
    let mut columns = ColumnsBuilder::new(reads);
    for (index, record) in records.iter().enumerate() {
        let record = record.map_err(|error| StageError::Undecodable(error.to_string()))?;
        if usize::try_from(record.offset_delta) != Ok(index) {
            let found = record.offset_delta;
            return Err(StageError::Undecodable(format!("record {index} has the offset delta {found}")));
        }
        let headers = record.headers.iter().map(|header| (header.key, header.value));
        columns.push(record.key, record.value, header.timestamp_of(&record), headers);
    }
    Ok(columns.build())
}
