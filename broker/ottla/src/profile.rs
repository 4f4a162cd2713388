//! Profiles: names for the addresses of brokers, in a file of the user.
//!
//! ```toml
//! default = "local"
//!
//! [profiles.local]
//! bootstrap = "127.0.0.1:9092"
//!
//! [profiles.staging]
//! bootstrap = "kafka1.staging:9092,kafka2.staging:9092"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::failure::{Failure, Kind};

/// Where the tools look without an address and without a profile.
pub(crate) const BOOTSTRAP_DEFAULT: &str = "127.0.0.1:9092";
const FILE: &str = "ottla/profiles.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profiles {
    /// The profile where none is named.
    default: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    bootstrap: String,
}

/// The file of the user: in `$XDG_CONFIG_HOME`, or in `~/.config`.
pub(crate) fn default_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(config.join(FILE))
}

/// The addresses that a profile stands for: the one that is named, or the default of the file, if there is one.
pub(crate) fn bootstrap(file: Option<&Path>, named: Option<&str>) -> Result<String, Failure> {
    let shown = file.map_or_else(|| FILE.to_owned(), |file| file.display().to_string());
    let text = match file.map(std::fs::read_to_string) {
        Some(Ok(text)) => text,
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::new(Kind::Usage, format!("cannot read {shown}: {error}")));
        }
        Some(Err(_)) | None => String::new(),
    };
    let profiles: Profiles = toml::from_str(&text)
        .map_err(|error| Failure::new(Kind::Usage, format!("{shown}: {}", error.to_string().trim())))?;
    let Some(name) = named.or(profiles.default.as_deref()) else { return Ok(BOOTSTRAP_DEFAULT.to_owned()) };
    if let Some(profile) = profiles.profiles.get(name) {
        return Ok(profile.bootstrap.clone());
    }
    let known: Vec<&str> = profiles.profiles.keys().map(String::as_str).collect();
    let hint = if known.is_empty() {
        format!("write it: [profiles.{name}] and bootstrap = \"HOST:PORT\"")
    } else {
        format!("there are: {}", known.join(", "))
    };
    Err(Failure::new(Kind::Usage, format!("{shown} has no profile {name}")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_a_name_for_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("profiles.toml");
        let find = |named| bootstrap(Some(&file), named).map_err(|failure| failure.to_string());
        assert_eq!(find(None).unwrap(), BOOTSTRAP_DEFAULT);
        assert!(find(Some("staging")).unwrap_err().contains("no profile staging"));
        let text = "[profiles.local]\nbootstrap = \"a:1\"\n[profiles.staging]\nbootstrap = \"b:2,c:3\"\n";
        std::fs::write(&file, text).unwrap();
        assert_eq!(find(None).unwrap(), BOOTSTRAP_DEFAULT);
        assert_eq!(find(Some("staging")).unwrap(), "b:2,c:3");
        std::fs::write(&file, format!("default = \"local\"\n{text}")).unwrap();
        assert_eq!(find(None).unwrap(), "a:1");
        std::fs::write(&file, "[profiles.x]\nbootstap = \"a:1\"\n").unwrap();
        assert!(find(None).unwrap_err().contains("bootstap"));
    }
}
