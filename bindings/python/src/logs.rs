//! The core's log lines, through Python's `logging`: logger `ottla.<module>`, level checked before anything is written.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::events::{self, News};

/// Python's numbers of the levels.
const DEBUG: u8 = 10;
const INFO: u8 = 20;
const WARNING: u8 = 30;
const ERROR: u8 = 40;

/// What Python's logger `ottla` wants to hear, as of the last client made.
static LEVEL: AtomicU8 = AtomicU8::new(WARNING);

/// Called whenever a client is made, with the effective level of the logger `ottla`.
#[pyfunction]
#[pyo3(name = "_set_log_level")]
pub(crate) fn set_level(level: u8) {
    LEVEL.store(level, Ordering::Relaxed);
}

/// Called when the module is imported.
pub(crate) fn install() {
    // Fails only if there is one already: that one then serves this module too.
    tracing::subscriber::set_global_default(Bridge).ok();
}

fn python_level(level: Level) -> u8 {
    match level {
        Level::ERROR => ERROR,
        Level::WARN => WARNING,
        Level::INFO => INFO,
        Level::DEBUG | Level::TRACE => DEBUG,
    }
}

/// One line on its way.
#[derive(Debug)]
pub(crate) struct Line {
    level: u8,
    target: &'static str,
    text: String,
}

impl Line {
    /// A logging set-up that raises must not end the thread.
    pub(crate) fn write(&self, py: Python<'_>) {
        if let Err(error) = self.log(py) {
            error.write_unraisable(py, None);
        }
    }

    fn log(&self, py: Python<'_>) -> PyResult<()> {
        let module = self.target.strip_prefix("ottla_client").unwrap_or(self.target).trim_start_matches("::");
        let name = if module.is_empty() { "ottla".to_owned() } else { format!("ottla.{}", module.replace("::", ".")) };
        let logger = py.import(intern!(py, "logging"))?.call_method1(intern!(py, "getLogger"), (name,))?;
        logger.call_method1(intern!(py, "log"), (self.level, "%s", self.text.as_str()))?;
        Ok(())
    }
}

struct Bridge;

impl Subscriber for Bridge {
    /// The level can change: every call asks.
    fn register_callsite(&self, _metadata: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with("ottla")
            && python_level(*metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(queue) = events::current() else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        queue.push(News::Logged(Line {
            level: python_level(*metadata.level()),
            target: metadata.target(),
            text: text.finish(),
        }));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// `message field=value …`
#[derive(Debug, Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(self) -> String {
        self.message + &self.fields
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
