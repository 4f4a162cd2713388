//! How one setting is written as text: parsing, showing, and the Kafka type that admin tools display.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ottla_front::HostPort;

/// The type of a setting as Kafka's DescribeConfigs names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// `true` or `false`.
    Boolean,
    /// Free text.
    String,
    /// A 32-bit number.
    Int,
    /// A 64-bit number.
    Long,
    /// A floating-point number.
    Double,
    /// Comma-separated texts; APPEND and SUBTRACT work on these alone.
    List,
}

impl ValueKind {
    /// The code that DescribeConfigs v3+ carries.
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }

    /// The word that `ottla serve --help` shows.
    pub fn word(self) -> &'static str {
        match self {
            Self::Boolean => "true|false",
            Self::String => "text",
            Self::Int | Self::Long => "number",
            Self::Double => "fraction",
            Self::List => "list",
        }
    }
}

/// A value that a setting can hold. `show` writes what `parse` reads.
pub trait SettingValue: Sized {
    /// Kafka's name for the type.
    const KIND: ValueKind;
    /// Whether there may be none, written as the empty text.
    const OPTIONAL: bool = false;
    /// Reads the value, or says in plain words what would have been right.
    fn parse(text: &str) -> Result<Self, String>;
    /// Writes the value.
    fn show(&self) -> String;
}

/// Which values of a type a setting accepts.
pub trait Allowed<T>: Debug {
    /// Whether this is one of them.
    fn allows(&self, value: &T) -> bool;
}

impl<T: PartialOrd + Debug> Allowed<T> for RangeInclusive<T> {
    fn allows(&self, value: &T) -> bool {
        self.contains(value)
    }
}

/// No value at all is always one of them.
impl<T: PartialOrd + Debug> Allowed<Option<T>> for RangeInclusive<T> {
    fn allows(&self, value: &Option<T>) -> bool {
        value.as_ref().is_none_or(|value| self.contains(value))
    }
}

/// Says what would have been right if this is not.
pub fn check_allowed<T>(allowed: &impl Allowed<T>, value: &T, text: &str) -> Result<(), String> {
    if allowed.allows(value) { Ok(()) } else { Err(format!("{text} is outside {allowed:?}")) }
}

macro_rules! number {
    ($($type:ty => $kind:ident),+) => {$(
        impl SettingValue for $type {
            const KIND: ValueKind = ValueKind::$kind;
            fn parse(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| format!("{text:?} is not a number between {} and {}", <$type>::MIN, <$type>::MAX))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}
number!(i32 => Int, u32 => Long, i64 => Long, u64 => Long, usize => Long);

impl SettingValue for f64 {
    const KIND: ValueKind = ValueKind::Double;
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(format!("{text:?} is not a number")),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for bool {
    const KIND: ValueKind = ValueKind::Boolean;
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "true" | "TRUE" | "True" => Ok(true),
            "false" | "FALSE" | "False" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for String {
    const KIND: ValueKind = ValueKind::String;
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl SettingValue for PathBuf {
    const KIND: ValueKind = ValueKind::String;
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path is needed".to_owned()) } else { Ok(Self::from(text)) }
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// Paths, separated by commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathList(pub Vec<PathBuf>);

impl SettingValue for PathList {
    const KIND: ValueKind = ValueKind::List;
    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let paths = text.split(',').map(str::trim);
        paths.map(PathBuf::parse).collect::<Result<_, _>>().map(Self)
    }
    fn show(&self) -> String {
        self.0.iter().map(PathBuf::show).collect::<Vec<_>>().join(",")
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    const KIND: ValueKind = T::KIND;
    const OPTIONAL: bool = true;
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }
    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

/// Declares an enum whose variants have fixed spellings, usable as a setting.
macro_rules! spelled {
    ($(#[$doc:meta])+ $name:ident { $( $(#[$variant_doc:meta])+ $variant:ident = $spelling:literal ),+ $(,)? }) => {
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $( $(#[$variant_doc])+ $variant ),+ }

        impl $name {
            /// The spelling used in settings and on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $spelling ),+ }
            }
        }

        impl $crate::config::value::SettingValue for $name {
            const KIND: $crate::config::value::ValueKind = $crate::config::value::ValueKind::String;
            fn parse(text: &str) -> Result<Self, String> {
                match text.trim() {
                    $( $spelling => Ok(Self::$variant), )+
                    _ => Err(format!("{text:?} is none of: {}", [$($spelling),+].join(", "))),
                }
            }
            fn show(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}
pub(crate) use spelled;

/// Kafka's `PLAINTEXT://HOST:PORT` is understood as well.
impl SettingValue for HostPort {
    const KIND: ValueKind = ValueKind::String;
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || format!("{text:?} is not HOST:PORT, such as 127.0.0.1:9092");
        let rest = text.trim();
        let rest = rest.strip_prefix("PLAINTEXT://").unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(wanted)?;
        let port = port.parse().map_err(|_| wanted())?;
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(['/', ',', '[', ']']) {
            return Err(wanted());
        }
        Ok(Self { host: host.to_owned(), port })
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_usual_spelling() {
        for (text, host, port) in [
            ("127.0.0.1:9092", "127.0.0.1", 9092),
            ("localhost:0", "localhost", 0),
            ("[::1]:9092", "::1", 9092),
            ("PLAINTEXT://broker.example:1", "broker.example", 1),
        ] {
            let read = HostPort::parse(text).unwrap();
            assert_eq!((read.host.as_str(), read.port), (host, port));
            assert_eq!(HostPort::parse(&read.show()), Ok(read));
        }
        for text in ["", "9092", ":9092", "host:", "host:99999", "SSL://host:1", "a:1,b:2"] {
            assert!(HostPort::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_absent_value_is_the_empty_text() {
        assert_eq!(Option::<i32>::parse(""), Ok(None));
        assert_eq!(Option::<i32>::parse("3"), Ok(Some(3)));
        assert_eq!(None::<i32>.show(), "");
    }
}
