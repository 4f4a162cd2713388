//! The Kafka protocol: bounded decoding, encoding, record batches. No I/O, no async, no unsafe.
//!
//! What it promises: no input makes it panic, allocate more than its [`DecodeBudget`] (4 × the input + 64 KiB) or loop;
//! every fault of the bytes is a typed error that names the field and maps to a Kafka error code.
//! What it never does: open a socket, copy record data while decoding, guess the meaning of a version it does not know.
//!
//! The modules, in the order in which bytes meet them:
//!
//! 1. [`frame`]: the 4-byte length in front of everything, capped before memory is taken.
//! 2. [`budget`]: what one frame may make the decoder allocate.
//! 3. [`primitive`]: [`Reader`], [`Writer`] and the trait [`Wire`]: integers, varints, strings, arrays, tagged fields.
//! 4. [`api`]: which API keys and versions Ottla speaks, and what is missing: the only list of it.
//! 5. [`header`]: request and response headers; whole frames in one call.
//! 6. [`message`]: one file per API, each a page of plain structs. `#[derive(Wire)]` does the rest.
//! 7. [`error_code`]: Kafka's error codes.
//! 8. [`number`]: newtypes for the numbers that travel (offsets, epochs, sequences).
//! 9. [`record`]: the record batch (v2): header, CRC, compression, records, building new batches.
//! 10. [`consumer_protocol`]: what classic consumers say to each other inside group messages.
//! 11. [`offsets_topic`]: the records of `__consumer_offsets`.
//! 12. [`otlp`]: the metrics that clients push.
//!
//! To add an API: a row in [`api::APIS`] with its variant in [`ApiKey`], a file in `message/`, a line in
//! [`for_every_api!`], a fuzz target. The tests then compare every version of it with another implementation. The row says
//! `not served` until the broker has a handler.

#![forbid(unsafe_code)]

// The derive names this crate by its full path, also in here.
extern crate self as ottla_wire;

#[macro_use]
pub mod primitive;

pub mod api;
pub mod budget;
pub mod consumer_protocol;
pub mod error_code;
pub mod frame;
pub mod header;
pub mod message;
pub mod number;
pub mod offsets_topic;
pub mod otlp;
pub mod record;
#[cfg(any(test, feature = "sample"))]
pub mod sample;

pub use api::{APIS, Api, ApiKey, ApiVersion, VersionRange};
pub use budget::DecodeBudget;
pub use error_code::ErrorCode;
pub use header::{RequestHeader, decode_request, decode_response, encode_request, encode_response, split_request};
pub use message::{Message, Request};
pub use number::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
pub use ottla_wire_derive::Wire;
pub use primitive::{DecodeError, DecodeFault, Reader, Str, Wire, Writer};
pub use uuid::Uuid;
