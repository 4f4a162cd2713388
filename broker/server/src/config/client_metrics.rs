//! The settings of client-metrics resources (KIP-714): which clients push which of their metrics, and how often.

use std::collections::{BTreeMap, BTreeSet};

use regex::bytes::{Regex, RegexBuilder};

use super::ValueKind;
use super::topic::list_items;

/// The metric that stands for all of them.
pub const ALL_METRICS: &str = "*";
/// How often a client pushes, or asks again, where no subscription says otherwise.
pub const PUSH_INTERVAL_DEFAULT_MS: i32 = 300_000;

const METRICS: &str = "metrics";
const INTERVAL_MS: &str = "interval.ms";
const MATCH: &str = "match";
/// The shortest and the longest interval.
const INTERVAL_BOUNDS_MS: (i32, i32) = (100, 3_600_000);
/// Memory that a compiled pattern takes at most.
const PATTERN_BYTES_MAX: usize = 64 << 10;
/// How deep a pattern may nest.
const PATTERN_NESTING_MAX: u32 = 50;

/// A setting of a client-metrics resource.
pub struct ClientMetricsSetting {
    /// The dotted name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Its type as admin tools see it.
    pub kind: ValueKind,
    /// What a resource without it has.
    pub default: &'static str,
}

impl ClientMetricsSetting {
    /// The setting of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        CLIENT_METRICS_SETTINGS.iter().find(|setting| setting.name == name)
    }
}

/// The settings that a client-metrics resource has.
pub static CLIENT_METRICS_SETTINGS: &[ClientMetricsSetting] = &[
    ClientMetricsSetting {
        name: METRICS,
        doc: "Prefixes of the names of metrics that clients push, `*` for all of them. Without any, nothing is pushed.",
        kind: ValueKind::List,
        default: "",
    },
    ClientMetricsSetting {
        name: INTERVAL_MS,
        doc: "Time between two pushes of a client, in milliseconds: 100 to 3600000.",
        kind: ValueKind::Int,
        default: "300000",
    },
    ClientMetricsSetting {
        name: MATCH,
        doc: "Which clients push, as `name=pattern` each; all patterns have to match, none matches every client. The names are \
              `client_instance_id`, `client_id`, `client_software_name`, `client_software_version`, `client_source_address` and \
              `client_source_port`, the patterns regular expressions over the whole value.",
        kind: ValueKind::List,
        default: "",
    },
];

/// What patterns can look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientTrait {
    /// The id of the client instance.
    InstanceId,
    /// `client.id`.
    ClientId,
    /// The name of its software.
    SoftwareName,
    /// The version of its software.
    SoftwareVersion,
    /// Its IP address.
    SourceAddress,
    /// Its port.
    SourcePort,
}

impl ClientTrait {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "client_instance_id" => Self::InstanceId,
            "client_id" => Self::ClientId,
            "client_software_name" => Self::SoftwareName,
            "client_software_version" => Self::SoftwareVersion,
            "client_source_address" => Self::SourceAddress,
            "client_source_port" => Self::SourcePort,
            _ => return None,
        })
    }
}

/// The settings of a client-metrics resource, read.
#[derive(Debug, Clone)]
pub struct MetricsSubscription {
    /// Prefixes of the wanted metrics.
    pub metrics: BTreeSet<String>,
    /// Time between two pushes.
    pub interval_ms: i32,
    patterns: BTreeMap<ClientTrait, Regex>,
}

impl MetricsSubscription {
    /// Reads the settings that a resource was given. The error names the setting and says what is wrong.
    pub fn read(given: &BTreeMap<String, String>) -> Result<Self, (String, String)> {
        let mut read =
            Self { metrics: BTreeSet::new(), interval_ms: PUSH_INTERVAL_DEFAULT_MS, patterns: BTreeMap::new() };
        for (name, value) in given {
            let bad = |wrong: String| (name.clone(), wrong);
            match name.as_str() {
                METRICS => read.metrics = list_items(value).map(str::to_owned).collect(),
                INTERVAL_MS => {
                    let (min, max) = INTERVAL_BOUNDS_MS;
                    read.interval_ms = match value.trim().parse() {
                        Ok(ms) if (min..=max).contains(&ms) => ms,
                        _ => return Err(bad(format!("interval must be between {min} and {max} (1 hour)"))),
                    };
                }
                MATCH => {
                    for item in list_items(value) {
                        let (known, pattern) = pattern(item).map_err(bad)?;
                        read.patterns.insert(known, pattern);
                    }
                }
                _ => return Err(bad("there is no such setting".to_owned())),
            }
        }
        Ok(read)
    }

    /// Whether a client with these traits is meant.
    pub fn matches(&self, value: impl Fn(ClientTrait) -> String) -> bool {
        self.patterns.iter().all(|(known, pattern)| pattern.is_match(value(*known).as_bytes()))
    }
}

fn pattern(item: &str) -> Result<(ClientTrait, Regex), String> {
    let illegal = |why: &str| format!("Illegal client matching pattern: {item} ({why})");
    let (name, expression) = item.split_once('=').ok_or_else(|| illegal("name=pattern is wanted"))?;
    let known = ClientTrait::named(name.trim()).ok_or_else(|| illegal("clients have nothing of this name"))?;
    let compile = |expression: &str| {
        RegexBuilder::new(expression)
            .unicode(false)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .nest_limit(PATTERN_NESTING_MAX)
            .build()
    };
    let expression = expression.trim();
    // By itself first, so that the frame around it cannot make sense of what makes none.
    let compiled = compile(expression).and_then(|_| compile(&format!(r"\A(?:{expression})\z")));
    Ok((known, compiled.map_err(|_| illegal("it is no regular expression, or too large a one"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<MetricsSubscription, (String, String)> {
        let given = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        MetricsSubscription::read(&given)
    }

    #[test]
    fn every_default_is_a_value_its_own_setting_accepts() {
        for setting in CLIENT_METRICS_SETTINGS {
            let read = read(&[(setting.name, setting.default)]).unwrap();
            assert_eq!((read.interval_ms, read.metrics.len()), (PUSH_INTERVAL_DEFAULT_MS, 0), "{}", setting.name);
        }
    }

    #[test]
    fn all_patterns_have_to_match_the_whole_value() {
        let read = read(&[("match", "client_id=app-.*, client_software_name = apache-kafka-java")]).unwrap();
        let is = |id: &'static str, software: &'static str| {
            read.matches(|known| match known {
                ClientTrait::ClientId => id.to_owned(),
                ClientTrait::SoftwareName => software.to_owned(),
                _ => String::new(),
            })
        };
        assert!(is("app-1", "apache-kafka-java"));
        assert!(!is("my-app-1", "apache-kafka-java") && !is("app-1", "librdkafka"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        for (name, value) in [
            ("interval.ms", "99"),
            ("interval.ms", "often"),
            ("match", "client_id"),
            ("match", "shoe_size=44"),
            ("match", "client_id=("),
            ("match", "client_id=(((a{1,500}){1,500}){1,500})"),
            ("interval", "1000"),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap_err().0, name, "{value}");
        }
    }
}
