//! The client against a broker that lies, stalls and hangs up.

mod admin;
mod broker;
mod cluster;
mod connecting;
mod consuming;
mod failing_over;
mod producing;
mod seeds;
mod staying;
