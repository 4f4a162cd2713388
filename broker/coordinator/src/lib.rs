//! Consumer groups, committed offsets, fetch sessions and the sequences of idempotent producers as state machines:
//! input and time in, effects out. No log, no socket, no clock, no thread, no randomness.

#![forbid(unsafe_code)]
