//! The machines of this crate as a driver meets them: conversations as text, and random ones against a model.

mod fetch_sessions;
mod golden;
mod print;
mod properties;
mod script;
mod stage;
