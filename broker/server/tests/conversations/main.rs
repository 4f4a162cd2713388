//! Conversations with a real broker in this process: what it answers, in which order, and what it says no to.

mod admin;
mod bad_groups;
mod configs;
mod fetch_sessions;
mod fetching;
mod groups;
mod limits;
mod offsets;
mod protocol;
mod telemetry;
mod topics;
