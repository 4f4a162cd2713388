//! The bytes of one stored record: a format number, then JSON.
//!
//! ```text
//! +--------+----------------------+
//! | format | JSON of that format  |
//! | 1 byte | to the end           |
//! +--------+----------------------+
//! ```
//! JSON because these records are few, small, and worth reading with other tools when something went wrong. A field
//! added later has a default; a change that is more than that gets the next number.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MetaError;

/// The formats that were ever written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordFormat {
    /// Version 0.1: the fields as the record structs name them.
    V1 = 1,
}

pub(super) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, MetaError> {
    let mut bytes = vec![RecordFormat::V1 as u8];
    serde_json::to_writer(&mut bytes, record)
        .map_err(|error| MetaError::BadRecord { record: String::new(), wrong: error.to_string() })?;
    Ok(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, MetaError> {
    let wrong = |wrong: String| MetaError::BadRecord { record: name.to_owned(), wrong };
    match bytes.split_first() {
        Some((&format, json)) if format == RecordFormat::V1 as u8 => {
            serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))
        }
        Some((format, _)) => Err(wrong(format!("format {format} was written by a newer version"))),
        None => Err(wrong("the record is empty".to_owned())),
    }
}
