//! Where settings come from: the defaults, then a TOML file, then `--set key=value`, later ones winning.

use std::path::{Path, PathBuf};

use super::kafka::{KafkaSettings, Standing};
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
    /// A name that is no setting.
    #[error("{name:?} is no setting{}; `ottla serve --help` lists them all", nearest(name).map(|near| format!(" (did you mean {near:?}?)")).unwrap_or_default())]
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
    let table: toml::Table =
        text.parse().map_err(|source| LoadError::NotToml { path: path.to_owned(), source: Box::new(source) })?;
    set_table(config, "", &table)
}

fn set_table(config: &mut Config, prefix: &str, table: &toml::Table) -> Result<(), LoadError> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => set_table(config, &name, inner)?,
            toml::Value::String(text) => set_one(config, &name, text)?,
            toml::Value::Integer(number) => set_one(config, &name, &number.to_string())?,
            toml::Value::Float(number) => set_one(config, &name, &number.to_string())?,
            toml::Value::Boolean(flag) => set_one(config, &name, &flag.to_string())?,
            toml::Value::Array(_) | toml::Value::Datetime(_) => {
                let wrong = "a text, a number, true or false is wanted".to_owned();
                return Err(LoadError::BadValue { name, wrong });
            }
        }
    }
    Ok(())
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

/// The setting a mistyped name most likely meant: the one that shares the most three-letter pieces with it.
fn nearest(name: &str) -> Option<&'static str> {
    let pieces: Vec<&[u8]> = name.as_bytes().windows(3).collect();
    let shared = |known: &str| known.as_bytes().windows(3).filter(|piece| pieces.contains(piece)).count();
    let (score, best) = SETTINGS.iter().map(|setting| (shared(setting.name), setting.name)).max()?;
    (score * 2 > pieces.len()).then_some(best)
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
