//! Where settings come from: the defaults, then a TOML file, then `--set key=value`, later ones winning.

use std::path::{Path, PathBuf};

use toml::de::{DeInteger, DeTable, DeValue};

use super::kafka::{KafkaSettings, Standing};
use super::nearest::did_you_mean;
use super::{Config, SETTINGS, Setting};

/// Why settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {source}")]
    NotToml {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A line of the file says something wrong.
    #[error("{path}, line {line}: {source}")]
    InFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        source: Box<LoadError>,
    },
    /// A name that is no setting.
    #[error("{name:?} is no setting{}", advice(name))]
    UnknownSetting {
        /// The name.
        name: String,
    },
    /// A setting of Kafka that would mislead if it were ignored.
    #[error("{name} is a setting of Kafka that Ottla refuses: {why}")]
    Refused {
        /// The name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A value that its setting does not accept.
    #[error("{name}: {wrong}")]
    BadValue {
        /// The setting.
        name: String,
        /// What is wrong with the value.
        wrong: String,
    },
    /// An argument of `--set` without an equals sign.
    #[error("{pair:?} is not KEY=VALUE")]
    NotAPair {
        /// The argument.
        pair: String,
    },
}

/// Reads a TOML file over `config`. `num.partitions = 3`, `"num.partitions" = 3` and a `[num]` table mean the same;
/// only the quoted form can say both `"max.connections"` and `"max.connections.per.ip"`.
pub fn load_file(config: &mut Config, path: &Path) -> Result<(), LoadError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })?;
    let table = DeTable::parse(&text)
        .map_err(|source| LoadError::NotToml { path: path.to_owned(), source: Box::new(source) })?;
    set_table(config, "", table.get_ref()).map_err(|Misplaced { at, error }| {
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        LoadError::InFile { path: path.to_owned(), line, source: Box::new(error) }
    })
}

/// An error, and the position of what is wrong in the file.
struct Misplaced {
    at: usize,
    error: LoadError,
}

fn set_table(config: &mut Config, prefix: &str, table: &DeTable<'_>) -> Result<(), Misplaced> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        let at = key.span().start;
        let text = match value.get_ref() {
            DeValue::Table(inner) => {
                set_table(config, &name, inner)?;
                continue;
            }
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => whole_number(number),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Array(_) | DeValue::Datetime(_) => {
                let wrong = "a text, a number, true or false is wanted".to_owned();
                return Err(Misplaced { at, error: LoadError::BadValue { name, wrong } });
            }
        };
        set_one(config, &name, &text).map_err(|error| Misplaced { at, error })?;
    }
    Ok(())
}

/// TOML writes whole numbers in decimal digits, or in others behind `0x`, `0o` and `0b`.
fn whole_number(number: &DeInteger<'_>) -> String {
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => number.to_string(),
        // The setting says what it wants instead.
        Err(_) => number.as_str().to_owned(),
    }
}

/// Reads one `KEY=VALUE` over `config`.
pub fn set_pair(config: &mut Config, pair: &str) -> Result<(), LoadError> {
    let (name, value) = pair.split_once('=').ok_or_else(|| LoadError::NotAPair { pair: pair.to_owned() })?;
    set_one(config, name.trim(), value)
}

fn set_one(config: &mut Config, name: &str, value: &str) -> Result<(), LoadError> {
    let Some(setting) = Setting::find(name) else {
        return match KafkaSettings::find(name) {
            None => Err(LoadError::UnknownSetting { name: name.to_owned() }),
            Some(KafkaSettings { standing: Standing::Refused, why, .. }) => {
                Err(LoadError::Refused { name: name.to_owned(), why })
            }
            Some(KafkaSettings { standing: Standing::WithoutEffect, why, .. }) => {
                tracing::warn!("{name} has no effect: {why}");
                Ok(())
            }
        };
    };
    (setting.set)(config, value).map_err(|wrong| LoadError::BadValue { name: name.to_owned(), wrong })
}

/// What to do about a name that is no setting.
fn advice(name: &str) -> String {
    if name.starts_with("zookeeper.") {
        return ": Ottla needs no ZooKeeper: leave it out".to_owned();
    }
    let near = did_you_mean(name, SETTINGS.iter().map(|setting| setting.name));
    format!("{near}; `ottla serve --help` lists them all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_write_names_dotted_quoted_or_as_tables() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ottla.toml");
        for text in ["num.partitions = 7", "\"num.partitions\" = 7", "[num]\npartitions = 7", "num.partitions = \"7\""]
        {
            std::fs::write(&path, text).unwrap();
            let mut config = Config::default();
            load_file(&mut config, &path).unwrap();
            assert_eq!(config.num_partitions, 7, "{text}");
        }
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_likely_one() {
        let wrong = set_pair(&mut Config::default(), "num.partition=3").unwrap_err().to_string();
        assert!(wrong.contains("num.partitions"), "{wrong}");
        let wrong = set_pair(&mut Config::default(), "xyz=3").unwrap_err().to_string();
        assert!(!wrong.contains("did you mean"), "{wrong}");
    }

    #[test]
    fn a_bad_value_in_a_file_is_told_with_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ottla.toml");
        for (text, line, wrong) in [
            ("node.id = 3\n\nnum.partitions = \"many\"\n", 3, "num.partitions: \"many\" is not a number"),
            ("# Ours\n[num]\npartitions = 0\n", 3, "num.partitions: 0 is outside"),
            ("node.id = 3\nnum.partition = 3\n", 2, "\"num.partition\" is no setting"),
            ("node.id = [1]\n", 1, "node.id: a text, a number"),
        ] {
            std::fs::write(&path, text).unwrap();
            let told = load_file(&mut Config::default(), &path).unwrap_err().to_string();
            assert!(told.starts_with(&format!("{}, line {line}: ", path.display())), "{told}");
            assert!(told.contains(wrong), "{told}");
        }
        std::fs::write(&path, "num.partitions = 0x10\nlog.cleaner.min.cleanable.ratio = 0.25\n").unwrap();
        let mut config = Config::default();
        load_file(&mut config, &path).unwrap();
        assert_eq!((config.num_partitions, config.cleaner_min_dirty_ratio), (16, 0.25));
    }

    #[test]
    fn a_setting_of_kafka_that_means_nothing_here_gets_no_wrong_guess() {
        let told = |pair| set_pair(&mut Config::default(), pair).unwrap_err().to_string();
        let zookeeper = told("zookeeper.connect=localhost:2181");
        assert!(zookeeper.contains("no ZooKeeper") && !zookeeper.contains("did you mean"), "{zookeeper}");
        assert!(told("max.connection.per.ip=3").contains("max.connections.per.ip"));
    }

    #[test]
    fn a_setting_of_kafka_is_taken_without_effect_or_refused_with_the_reason() {
        let mut config = Config::default();
        set_pair(&mut config, "num.io.threads=8").unwrap();
        assert_eq!(config, Config::default());
        let wrong = set_pair(&mut config, "ssl.keystore.location=/k").unwrap_err().to_string();
        assert!(wrong.contains("ssl.keystore.location") && wrong.contains("TLS"), "{wrong}");
    }

    #[test]
    fn pairs_keep_equals_signs_of_the_value() {
        let mut config = Config::default();
        set_pair(&mut config, "log.dir=/tmp/a=b").unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/tmp/a=b"));
        assert!(matches!(set_pair(&mut config, "log.dir"), Err(LoadError::NotAPair { .. })));
        assert!(matches!(set_pair(&mut config, "max.connections=-1"), Err(LoadError::BadValue { .. })));
    }
}
