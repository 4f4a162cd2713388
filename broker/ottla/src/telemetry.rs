//! What is said on stderr while a command runs: the log lines of the broker, for people or as JSON, and the warnings of the
//! tools.

use std::fmt::{self, Debug, Display, Write};
use std::io::{IsTerminal, stderr};

use jiff::Timestamp;
use ottla_broker::config::{Config, LogFormat};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::Handle;

/// The variables that choose what is logged where `ottla.log.level` does not, the first that is set.
const LEVEL_VARIABLES: [&str; 2] = ["OTTLA_LOG", "RUST_LOG"];
const LEVEL_DEFAULT: &str = "info";

/// A level that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{source_name}={text:?} is no level: {wrong}; error, warn, info, debug and trace are levels, ottla_broker=debug,info is several"
)]
pub(crate) struct LevelError {
    source_name: String,
    text: String,
    wrong: String,
}

/// Gives the log another filter, or says what is wrong with it.
type Change = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The filter of the log, and how it is given another one.
pub(crate) struct Lead {
    /// As for `RUST_LOG`.
    pub(crate) filter: String,
    /// Gives the log another one, or says what is wrong with it.
    pub(crate) change: Change,
}

/// Begins the log of the broker. Calling it again, as tests do, changes nothing.
pub(crate) fn init(config: &Config) -> Result<Lead, LevelError> {
    let filter = filter(config.log_level.as_deref(), |name| std::env::var(name).ok())?;
    let text = filter.to_string();
    let lines = tracing_subscriber::fmt().with_writer(stderr).with_env_filter(filter);
    let change = match config.log_format {
        LogFormat::Json => {
            let lines = lines.event_format(JsonLines).with_filter_reloading();
            let change = change(lines.reload_handle());
            let _ = lines.try_init();
            change
        }
        LogFormat::Text => {
            let lines = lines.with_target(false).with_ansi(stderr().is_terminal()).with_filter_reloading();
            let change = change(lines.reload_handle());
            let _ = lines.try_init();
            change
        }
    };
    Ok(Lead { filter: text, change })
}

fn change<S: 'static>(handle: Handle<EnvFilter, S>) -> Change {
    Box::new(move |text| {
        let filter = EnvFilter::try_new(text).map_err(|wrong| wrong.to_string())?;
        handle.reload(filter).map_err(|wrong| wrong.to_string())
    })
}

/// Begins to tell of trouble on the way to the broker: what a tool waits for. With `-v` and `-vv` it tells more.
pub(crate) fn init_tool(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let lines = tracing_subscriber::fmt().with_writer(stderr).with_env_filter(EnvFilter::new(level));
    let _ = lines.event_format(ToolLines).try_init();
}

fn filter(setting: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, LevelError> {
    let of_variables = || {
        let set = LEVEL_VARIABLES.into_iter().filter_map(|name| Some((name, variable(name)?)));
        set.into_iter().find(|(_, text)| !text.is_empty())
    };
    let (source_name, text) = match setting {
        Some(text) => ("ottla.log.level", text.to_owned()),
        None => of_variables().unwrap_or(("the default", LEVEL_DEFAULT.to_owned())),
    };
    EnvFilter::try_new(&text).map_err(|wrong| LevelError {
        source_name: source_name.to_owned(),
        text,
        wrong: wrong.to_string(),
    })
}

/// One JSON object per line: `time`, `level`, `target`, `message` and the fields of the event.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Fields::of(event).0;
        let metadata = event.metadata();
        line.insert("time".to_owned(), Timestamp::now().to_string().into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        line.insert("target".to_owned(), metadata.target().into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// `ottla: ` and what happened, as the tools write their failures.
struct ToolLines;

impl<S, N> FormatEvent<S, N> for ToolLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::of(event).0;
        let message = fields.remove("message");
        // A line of progress may stand there.
        let clear = if stderr().is_terminal() { "\r\x1b[K" } else { "" };
        write!(writer, "{clear}ottla: {}", message.as_ref().and_then(Value::as_str).unwrap_or_default())?;
        for (name, value) in &fields {
            match value {
                Value::String(text) => write!(writer, " {name}={text}")?,
                other => write!(writer, " {name}={other}")?,
            }
        }
        writeln!(writer)
    }
}

/// The message and the fields of an event.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Self(Map::new());
        event.record(&mut fields);
        fields
    }

    fn text(&mut self, field: &Field, value: impl Display) {
        let mut text = String::new();
        let _ = write!(text, "{value}");
        self.0.insert(field.name().to_owned(), Value::String(text));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_wins_over_the_variables_and_ottla_log_over_rust_log() {
        let variables = |name: &str| match name {
            "OTTLA_LOG" => Some("trace".to_owned()),
            "RUST_LOG" => Some("debug".to_owned()),
            _ => None,
        };
        let level =
            |setting, variables: &dyn Fn(&str) -> Option<String>| filter(setting, variables).unwrap().to_string();
        assert_eq!(level(Some("warn"), &variables), "warn");
        assert_eq!(level(None, &variables), "trace");
        assert_eq!(level(None, &|name| variables(name).filter(|_| name == "RUST_LOG")), "debug");
        assert_eq!(level(None, &|_| None), "info");
        let wrong = filter(Some("ottla_broker=loud"), variables).unwrap_err().to_string();
        assert!(wrong.contains("ottla.log.level") && wrong.contains("loud"), "{wrong}");
    }
}
