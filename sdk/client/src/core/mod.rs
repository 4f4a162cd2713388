//! Decisions without sockets and clocks: what goes where, in which order, under which sequence number. Time comes in as a
//! number, so that whole conversations can be replayed in tests.

pub(crate) mod backoff;
pub(crate) mod batch;
pub(crate) mod lane;
pub(crate) mod metadata;
pub(crate) mod murmur2;
pub(crate) mod outbox;
pub(crate) mod sequence;
pub(crate) mod waiting;
