//! Decisions without sockets and clocks: what goes where, in which order, under which sequence number. Time comes in as a
//! number, so that whole conversations can be replayed in tests.
//!
//! Producing: `waiting` → `outbox` → `lane` (numbers by `sequence`, records in `batch`). Consuming: `cursor` → `unpack`.
//! Both look at `metadata`.

pub(crate) mod backoff;
pub(crate) mod batch;
#[cfg(test)]
mod conversation;
pub(crate) mod cursor;
pub(crate) mod lane;
pub(crate) mod metadata;
pub(crate) mod murmur2;
pub(crate) mod outbox;
pub(crate) mod sequence;
#[cfg(test)]
mod simulation;
pub(crate) mod unpack;
pub(crate) mod waiting;
