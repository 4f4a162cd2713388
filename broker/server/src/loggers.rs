//! The levels of the log, by target, which admin tools change while the broker runs: the *broker loggers* of Kafka. They hold
//! until the process ends, as there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use parking_lot::Mutex;

/// The logger whose level every target without one of its own has.
pub const ROOT: &str = "root";
/// The targets that can always be named: the crates that log. Those of their modules are behind them, `ottla_broker::groups`.
const CRATES: [&str; 7] =
    ["ottla", "ottla_broker", "ottla_coordinator", "ottla_front", "ottla_log", "ottla_plugin_host", "ottla_stage"];
/// Kafka's names of levels, and what they are in the filter of the log.
const LEVELS: [(&str, &str); 6] = [
    ("FATAL", "error"),
    ("ERROR", "error"),
    ("WARN", "warn"),
    ("INFO", "info"),
    ("DEBUG", "debug"),
    ("TRACE", "trace"),
];
/// The name of a target has so many bytes at most, and so many targets have a level of their own at most.
const NAME_BYTES_MAX: usize = 256;
const SET_MAX: usize = 1000;

/// Why a level was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LoggerError {
    /// Nothing logs under this name.
    #[error(
        "Logger {name} does not exist! Targets are root, the crates of the broker (ottla_broker) and their modules."
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// There is no such level.
    #[error(
        "Cannot set the log level of logger {name} to {level} as it is not a supported log level. Valid log levels are FATAL, ERROR, WARN, INFO, DEBUG, TRACE"
    )]
    BadLevel {
        /// The logger.
        name: String,
        /// The level.
        level: String,
    },
    /// Every target needs one.
    #[error("Removing the log level of the root logger is not allowed")]
    RootRemoved,
    /// Too many targets have levels of their own.
    #[error("{SET_MAX} loggers have a level of their own already; remove some first")]
    TooMany,
    /// The log belongs to a process that embeds the broker.
    #[error("the log of this process is not led by its broker")]
    NotLed,
    /// The log did not take the new filter.
    #[error("the log refuses the filter {filter}: {why}")]
    Refused {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Gives the log of the process a filter, written as for `RUST_LOG`.
type Apply = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The levels of the log of this process.
#[derive(Default)]
pub struct Loggers {
    led: OnceLock<Led>,
    /// The levels that were set since the start.
    set: Mutex<BTreeMap<String, &'static str>>,
}

struct Led {
    /// The filter of the start.
    started: String,
    apply: Apply,
}

/// A change: a level by Kafka's name, or none to go back to that of the start.
pub type LevelChange<'a> = (&'a str, Option<&'a str>);

impl Loggers {
    /// Leads the log: `started` is its filter now, `apply` gives it another one. The first call counts.
    pub fn lead(&self, started: &str, apply: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) {
        let _ = self.led.set(Led { started: started.to_owned(), apply: Box::new(apply) });
    }

    /// Every logger with its level by Kafka's name, and whether it was set since the start.
    pub fn levels(&self) -> Vec<(String, &'static str, bool)> {
        let Some(led) = self.led.get() else { return Vec::new() };
        let set = self.set.lock();
        let started = directives(&led.started);
        let mut names: Vec<&str> = [ROOT].into_iter().chain(CRATES).collect();
        names.extend(started.keys().copied());
        names.extend(set.keys().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        let level = |name: &str| {
            let mut target = name;
            loop {
                if let Some(level) = set.get(target).copied().or_else(|| started.get(target).copied()) {
                    return level;
                }
                match target.rsplit_once("::") {
                    Some((parent, _)) => target = parent,
                    None if target == ROOT => return "ERROR",
                    None => target = ROOT,
                }
            }
        };
        names.iter().map(|name| ((*name).to_owned(), level(name), set.contains_key(*name))).collect()
    }

    /// Changes levels, all or none; with `validate_only` the changes are only checked.
    pub fn change(&self, changes: &[LevelChange<'_>], validate_only: bool) -> Result<(), LoggerError> {
        let led = self.led.get().ok_or(LoggerError::NotLed)?;
        let mut set = self.set.lock();
        let mut next = set.clone();
        for (name, level) in changes {
            if !is_known(name) {
                return Err(LoggerError::Unknown { name: (*name).to_owned() });
            }
            match level {
                None if *name == ROOT => return Err(LoggerError::RootRemoved),
                None => drop(next.remove(*name)),
                Some(level) => {
                    let bad = || LoggerError::BadLevel { name: (*name).to_owned(), level: (*level).to_owned() };
                    let known = LEVELS.iter().find(|(known, _)| *known == *level).ok_or_else(bad)?;
                    next.insert((*name).to_owned(), known.0);
                }
            }
        }
        if next.len() > SET_MAX {
            return Err(LoggerError::TooMany);
        }
        if !validate_only {
            let filter = filter(&led.started, &next);
            (led.apply)(&filter).map_err(|why| LoggerError::Refused { filter, why })?;
            *set = next;
        }
        Ok(())
    }
}

impl fmt::Debug for Loggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loggers").field(&self.levels()).finish()
    }
}

fn is_known(name: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let of_crate = |known: &str| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    name == ROOT || (name.len() <= NAME_BYTES_MAX && name.chars().all(of_name) && CRATES.into_iter().any(of_crate))
}

/// The levels in a filter, by target. What is more than a target and a level (spans, fields) stays in force and is not shown.
fn directives(filter: &str) -> BTreeMap<&str, &'static str> {
    let level = |text: &str| {
        let found = LEVELS.iter().rev().find(|(_, known)| known.eq_ignore_ascii_case(text.trim()))?;
        // Rust has no level beyond ERROR.
        Some(found.0)
    };
    let directive = |text| match str::split_once(text, '=') {
        Some((target, text)) if !target.contains('[') => Some((target.trim(), level(text)?)),
        Some(_) => None,
        None => Some((ROOT, level(text)?)),
    };
    filter.split(',').filter_map(directive).collect()
}

/// The filter of the start, and over it what was set.
fn filter(started: &str, set: &BTreeMap<String, &'static str>) -> String {
    let mut filter = started.to_owned();
    for (name, level) in set {
        if !filter.is_empty() {
            filter.push(',');
        }
        if name != ROOT {
            filter.push_str(name);
            filter.push('=');
        }
        filter.push_str(LEVELS.iter().find(|(known, _)| known == level).map_or("error", |(_, level)| level));
    }
    filter
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn led(started: &str) -> (Loggers, Arc<Mutex<String>>) {
        let (loggers, applied) = (Loggers::default(), Arc::new(Mutex::new(String::new())));
        let out = Arc::clone(&applied);
        loggers.lead(started, move |filter| {
            filter.clone_into(&mut out.lock());
            Ok(())
        });
        (loggers, applied)
    }

    fn level(loggers: &Loggers, name: &str) -> (&'static str, bool) {
        let found = loggers.levels().into_iter().find(|(known, ..)| known == name).unwrap();
        (found.1, found.2)
    }

    #[test]
    fn a_target_has_its_own_level_or_that_of_what_it_is_part_of() {
        let (loggers, applied) = led("ottla_log=debug,info");
        assert_eq!(level(&loggers, "root"), ("INFO", false));
        assert_eq!(level(&loggers, "ottla_log"), ("DEBUG", false));
        loggers.change(&[("ottla_log::commit", Some("TRACE")), ("ottla_broker", Some("WARN"))], false).unwrap();
        assert_eq!(*applied.lock(), "ottla_log=debug,info,ottla_broker=warn,ottla_log::commit=trace");
        assert_eq!(level(&loggers, "ottla_log::commit"), ("TRACE", true));
        assert_eq!(level(&loggers, "ottla_broker"), ("WARN", true));
        loggers.change(&[("ottla_broker", None), ("root", Some("ERROR"))], false).unwrap();
        assert_eq!(level(&loggers, "ottla_broker"), ("ERROR", false));
        assert_eq!(*applied.lock(), "ottla_log=debug,info,ottla_log::commit=trace,error");
    }

    #[test]
    fn a_change_that_is_refused_changes_nothing() {
        let (loggers, applied) = led("info");
        let wrong: [(&[LevelChange<'_>], &str); 5] = [
            (&[("ottla_log", Some("DEBUG")), ("kafka.server", Some("DEBUG"))], "Logger kafka.server does not exist"),
            (&[("ottla_logs", Some("DEBUG"))], "Logger ottla_logs does not exist"),
            (&[("ottla_log[x]=trace,a", Some("DEBUG"))], "does not exist"),
            (&[("ottla_log", Some("LOUD"))], "LOUD"),
            (&[("root", None)], "root"),
        ];
        for (changes, part) in wrong {
            let told = loggers.change(changes, false).unwrap_err().to_string();
            assert!(told.contains(part), "{told}");
        }
        loggers.change(&[("ottla_log", Some("DEBUG"))], true).unwrap();
        assert_eq!((applied.lock().as_str(), level(&loggers, "ottla_log")), ("", ("INFO", false)));
        assert!(matches!(Loggers::default().change(&[], false), Err(LoggerError::NotLed)));
    }
}
