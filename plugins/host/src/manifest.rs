//! What a plugin says about itself: pairs of name and text, checked here.

use std::fmt;

use crate::limits::Limits;

/// Pairs in a manifest at most.
const PAIRS_MAX: usize = 64;
/// Bytes in a manifest at most, names and texts together.
pub(crate) const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Names the partition of every record.
    Partitioner,
}

/// What may happen to the records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// They come out one for one where they were.
    SameCount,
    /// Some may go missing.
    MayDrop,
    /// They may change partition.
    MayRoute,
}

/// What a plugin looks at; only this is copied for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct Reads {
    /// The key.
    pub key: bool,
    /// The whole value.
    pub value: bool,
    /// This many first bytes of the value.
    pub value_prefix: Option<u32>,
    /// Names and values of the headers.
    pub headers: bool,
    /// The name of the topic, once per call.
    pub topic: bool,
}

/// A checked manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What the plugin is for.
    pub kind: Kind,
    /// Which parts of a record it looks at.
    pub reads: Reads,
    /// What may happen to the records.
    pub shape: Shape,
    /// Most memory an instance says it needs.
    pub memory_bytes: Option<u64>,
    /// Most time one call says it needs.
    pub call_ms: Option<u64>,
    /// JSON Schema of the configuration text.
    pub config_schema: Option<String>,
    /// All pairs as the plugin gave them.
    pub pairs: Vec<(String, String)>,
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ManifestError {
    #[error("it has no `{name}`")]
    Missing { name: &'static str },
    #[error("`{name}` is there twice")]
    Twice { name: String },
    #[error("it asks for `{name}`, which this host does not know (free names begin with `x-`)")]
    UnknownName { name: String },
    #[error("`{name}` is `{text}`, expected {expected}")]
    BadText { name: &'static str, text: String, expected: &'static str },
    #[error("it needs {wanted} for `{name}`, more than the {granted} that are granted here")]
    TooMuch { name: &'static str, wanted: u64, granted: u64 },
    #[error("it is too large ({pairs} pairs, {bytes} bytes; at most {PAIRS_MAX} and {MANIFEST_BYTES_MAX})")]
    TooLarge { pairs: usize, bytes: usize },
}

impl Manifest {
    /// Checks the pairs that a plugin of `kind` gave.
    pub fn parse(kind: Kind, pairs: Vec<(String, String)>, limits: &Limits) -> Result<Self, ManifestError> {
        let bytes = pairs.iter().map(|(name, text)| name.len() + text.len()).sum();
        if pairs.len() > PAIRS_MAX || bytes > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { pairs: pairs.len(), bytes });
        }
        let mut manifest = Self {
            kind,
            reads: Reads::default(),
            shape: Shape::MayRoute,
            memory_bytes: None,
            call_ms: None,
            config_schema: None,
            pairs: Vec::new(),
        };
        let mut kind_told = false;
        for (index, (name, text)) in pairs.iter().enumerate() {
            if pairs.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(ManifestError::Twice { name: shorten(name) });
            }
            match name.as_str() {
                "kind" => {
                    kind_told = true;
                    if text != &kind.to_string() {
                        return Err(bad("kind", text, "the kind of the interface it exports: `partitioner`"));
                    }
                }
                "reads" => manifest.reads = Reads::parse(text)?,
                "shape" => manifest.shape = Shape::parse(kind, text)?,
                "limits.memory-bytes" => {
                    manifest.memory_bytes = Some(within("limits.memory-bytes", text, limits.memory_bytes)?);
                }
                "limits.call-ms" => manifest.call_ms = Some(within("limits.call-ms", text, limits.call_deadline_ms)?),
                "config.schema" => {
                    if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_err() {
                        return Err(bad("config.schema", text, "a JSON Schema object"));
                    }
                    manifest.config_schema = Some(text.clone());
                }
                "name" | "version" | "description" | "license" => {}
                free if free.starts_with("x-") => {}
                _ => return Err(ManifestError::UnknownName { name: shorten(name) }),
            }
        }
        if !kind_told {
            return Err(ManifestError::Missing { name: "kind" });
        }
        manifest.pairs = pairs;
        Ok(manifest)
    }

    /// The text of a pair.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(found, _)| found == name).map(|(_, text)| text.as_str())
    }
}

impl Reads {
    /// Whether nothing of a record is looked at.
    pub fn nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The names of the parts, as the manifest writes them.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if self.key {
            names.push("key".to_owned());
        }
        if self.value {
            names.push("value".to_owned());
        }
        if let Some(bytes) = self.value_prefix {
            names.push(format!("value-prefix:{bytes}"));
        }
        if self.headers {
            names.push("headers".to_owned());
        }
        if self.topic {
            names.push("topic".to_owned());
        }
        names
    }

    fn parse(text: &str) -> Result<Self, ManifestError> {
        let wrong = || bad("reads", text, "a list of `key`, `value`, `value-prefix:<bytes>`, `headers`, `topic`");
        let mut reads = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part {
                "key" => reads.key = true,
                "value" => reads.value = true,
                "headers" => reads.headers = true,
                "topic" => reads.topic = true,
                _ => {
                    let bytes = part.strip_prefix("value-prefix:").ok_or_else(wrong)?;
                    reads.value_prefix = Some(bytes.parse().map_err(|_| wrong())?);
                }
            }
        }
        if reads.value && reads.value_prefix.is_some() {
            return Err(bad("reads", text, "either `value` or `value-prefix:<bytes>`"));
        }
        Ok(reads)
    }
}

impl Shape {
    fn parse(kind: Kind, text: &str) -> Result<Self, ManifestError> {
        match (kind, text) {
            (Kind::Partitioner, "may-route") => Ok(Self::MayRoute),
            (Kind::Partitioner, _) => Err(bad("shape", text, "`may-route`, as for every partitioner")),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Partitioner => "partitioner",
        })
    }
}

fn within(name: &'static str, text: &str, granted: u64) -> Result<u64, ManifestError> {
    match text.parse() {
        Ok(wanted) if wanted > granted => Err(ManifestError::TooMuch { name, wanted, granted }),
        Ok(0) | Err(_) => Err(bad(name, text, "a number above zero")),
        Ok(wanted) => Ok(wanted),
    }
}

fn bad(name: &'static str, text: &str, expected: &'static str) -> ManifestError {
    ManifestError::BadText { name, text: shorten(text), expected }
}

/// Text from a plugin may be long and may hold control characters; errors show its harmless beginning.
pub(crate) fn shorten(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let mut short: String = text
        .chars()
        .take(CHARACTERS_MAX)
        .map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Manifest, ManifestError> {
        let pairs = pairs.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
        Manifest::parse(Kind::Partitioner, pairs, &Limits::default())
    }

    #[test]
    fn a_manifest_says_what_is_read_and_needed() {
        let manifest = parse(&[
            ("kind", "partitioner"),
            ("reads", "key, value-prefix:16,headers,topic"),
            ("shape", "may-route"),
            ("limits.memory-bytes", "1048576"),
            ("limits.call-ms", "5"),
            ("config.schema", r#"{"type":"string"}"#),
            ("x-colour", "blue"),
        ])
        .unwrap();
        assert_eq!(
            manifest.reads,
            Reads { key: true, value: false, value_prefix: Some(16), headers: true, topic: true }
        );
        assert_eq!(manifest.reads.names(), ["key", "value-prefix:16", "headers", "topic"]);
        assert_eq!((manifest.memory_bytes, manifest.call_ms), (Some(1 << 20), Some(5)));
        assert_eq!(manifest.text("x-colour"), Some("blue"));
    }

    #[test]
    fn what_the_host_does_not_understand_is_refused() {
        let partitioner = ("kind", "partitioner");
        for (pairs, message) in [
            (vec![], "it has no `kind`"),
            (vec![("kind", "serializer")], "`kind` is `serializer`"),
            (vec![partitioner, partitioner], "`kind` is there twice"),
            (vec![partitioner, ("needs", "network")], "it asks for `needs`"),
            (vec![partitioner, ("reads", "everything")], "`reads` is `everything`"),
            (vec![partitioner, ("reads", "value-prefix:-1")], "`reads` is"),
            (vec![partitioner, ("reads", "value,value-prefix:9")], "either"),
            (vec![partitioner, ("shape", "may-drop")], "`shape` is `may-drop`"),
            (vec![partitioner, ("limits.memory-bytes", "99999999999")], "more than the 33554432 that are granted"),
            (vec![partitioner, ("limits.call-ms", "0")], "a number above zero"),
            (vec![partitioner, ("config.schema", "{")], "a JSON Schema object"),
        ] {
            let error = parse(&pairs).unwrap_err().to_string();
            assert!(error.contains(message), "{pairs:?}: {error}");
        }
        let huge = "y".repeat(MANIFEST_BYTES_MAX);
        assert!(matches!(parse(&[partitioner, ("x-y", &huge)]), Err(ManifestError::TooLarge { .. })));
    }
}
