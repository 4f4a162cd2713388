//! The client against a broker that lies, stalls and hangs up.

mod admin;
mod broker;
mod connecting;
mod consuming;
mod failing_over;
mod producing;
mod staying;
