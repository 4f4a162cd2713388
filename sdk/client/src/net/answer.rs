//! A response as it arrived, and how much memory reading it may take.

use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::{ApiKey, ApiVersion, DecodeBudget, Message, Reader};

use crate::error::ConnectionError;

/// Structs are larger than their wire form: a partition's metadata takes 26 bytes there and over 100 in memory. Sixteen
/// times the input covers every honest response and bounds a hostile one.
const BUDGET_FACTOR: usize = 16;
const BUDGET_BYTES_ALWAYS: usize = 64 * 1024;
const BUDGET_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A response frame whose correlation id has been checked.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) frame: Bytes,
    pub(crate) version: ApiVersion,
    pub(crate) address: Arc<str>,
}

impl Answer {
    /// The message in it, borrowed from the frame.
    pub(crate) fn decode<'a, M: Message<'a>>(&'a self) -> Result<M, ConnectionError> {
        let version = self.version.0;
        let budget = self.frame.len().saturating_mul(BUDGET_FACTOR).min(BUDGET_BYTES_MAX) + BUDGET_BYTES_ALWAYS;
        let header_has_tags = M::KEY != ApiKey::ApiVersions && M::KEY.is_flexible(version);
        let mut header = Reader::new(&self.frame, version, header_has_tags);
        let read = header.array::<4>().and_then(|_| header.skip_tagged_fields()).and_then(|()| {
            let body = Reader::new(header.rest(), version, M::KEY.is_flexible(version));
            M::decode(&mut body.with_budget(DecodeBudget::of_bytes(budget)))
        });
        read.map_err(|error| ConnectionError::Malformed {
            address: Arc::clone(&self.address),
            api: M::KEY.name(),
            reason: error.to_string().into(),
        })
    }
}
