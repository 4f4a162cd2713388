//! The record batch, version 2 (KIP-98): the unit that producers send, the log stores and consumers read.
//!
//! ```text
//!  0 base_offset i64            rewritten by the broker, outside the CRC
//!  8 batch_length i32           bytes behind this field
//! 12 partition_leader_epoch i32 rewritten by the broker, outside the CRC
//! 16 magic i8                   2
//! 17 crc u32                    CRC-32C of everything behind this field
//! 21 attributes i16             codec, timestamp type, transactional, control, delete horizon
//! 23 last_offset_delta i32
//! 27 base_timestamp i64
//! 35 max_timestamp i64
//! 43 producer_id i64
//! 51 producer_epoch i16
//! 53 base_sequence i32
//! 57 record_count i32
//! 61 records                    compressed as one piece
//! ```
//!
//! Nothing here copies a record: [`RecordIter`] walks the payload and hands out slices. Headers keep their order, their
//! duplicates and keys that are not UTF-8, byte for byte.

mod batch;
mod builder;
mod compress;
mod crc;
#[allow(clippy::module_inception)] // the file is about one record, the module about all of it
mod record;

pub use batch::{
    BATCH_HEADER_BYTES, BATCH_OVERHEAD_BYTES, Batch, BatchError, BatchHeader, BatchRecords, Batches,
    DELETE_HORIZON_BIT, TimestampType, batches, check_crc, set_base_offset, set_create_time, set_leader_epoch,
    set_log_append_time, set_producer,
};
pub use builder::{BatchBuilder, BuildError, record_bytes_max};
pub use compress::{Codec, CompressError, DecompressError, compress, decompress};
pub use crc::crc32c;
pub use record::{Header, HeaderIter, Headers, Record, RecordError, RecordIter};
