//! A broker in the process of its test, for tests of `broker/server` that look inside. Tests from outside, against the
//! `ottla` binary, use `ottla_tests::Broker`.
//!
//! | module | owns |
//! |---|---|
//! | `broker` | [`TestBroker`]: starts, stops, crashes and starts again on the same data; topics and plugins |
//! | `client` | [`Client`]: one socket that speaks whole messages or raw bytes; [`fetch`], [`produce_request`] |
//! | `batches` | [`batch`] of values, and [`said`], whose records say what they are |
//! | `guest` | [`digit`] and [`verdict`], plugins whose answers a test reads off its keys |

#![allow(clippy::missing_panics_doc, reason = "panicking is how a harness reports, everywhere")]

mod batches;
mod broker;
mod client;
mod guest;

use std::time::Duration;

pub use self::batches::{Said, batch, said};
pub use self::broker::TestBroker;
pub use self::client::{Answer, Answered, Client, NEWEST, fetch, produce_request};
pub use self::guest::{digit, verdict};

/// Long enough for a slow machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_mins(1);
