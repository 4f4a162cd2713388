//! What a plugin says about itself: pairs of name and text, checked here.

use std::fmt;

use ottla_schema::{Schema, SchemaError};

use crate::limits::Limits;
use crate::reads::Reads;

/// Pairs in a manifest at most.
const PAIRS_MAX: usize = 64;
/// Bytes in a manifest at most, names and texts together.
pub(crate) const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Codes that a plugin may declare.
const CODES_MAX: usize = 64;
/// Characters of a code at most.
const CODE_BYTES_MAX: usize = 48;
/// Assets that a plugin may ask for.
const ASSETS_MAX: usize = 64;

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Names the partition of every record.
    Partitioner,
    /// Checks and rewrites records before they are stored, or for readers of a view.
    Serializer,
    /// Decides what becomes of records that failed.
    DeadLetterPolicy,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Partitioner, Self::Serializer, Self::DeadLetterPolicy];
}

/// A work function of a serializer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Before records are stored.
    Encode,
    /// For readers of a view.
    Decode,
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

/// A checked manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What the plugin is for.
    pub kind: Kind,
    /// Which parts of a record it looks at.
    pub reads: Reads,
    /// What may happen to the records.
    pub shape: Shape,
    /// What a serializer does.
    pub functions: Vec<Function>,
    /// The codes that its answers may have.
    pub codes: Vec<String>,
    /// The blobs that it needs, by name.
    pub assets: Vec<String>,
    /// Most memory an instance says it needs.
    pub memory_bytes: Option<u64>,
    /// Most time one call says it needs.
    pub call_ms: Option<u64>,
    /// Most records it takes in one call.
    pub records_per_call_max: Option<u64>,
    /// Most bytes that it answers to one call.
    pub answer_bytes_max: Option<u64>,
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
    #[error("its `config.schema` cannot be used: {0}")]
    BadSchema(SchemaError),
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
            shape: Shape::of(kind),
            functions: if kind == Kind::Serializer { vec![Function::Encode] } else { Vec::new() },
            codes: Vec::new(),
            assets: Vec::new(),
            memory_bytes: None,
            call_ms: None,
            records_per_call_max: None,
            answer_bytes_max: None,
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
                        return Err(bad("kind", text, kind.expected()));
                    }
                }
                "reads" => {
                    let reads = Reads::parse(text, kind == Kind::DeadLetterPolicy);
                    manifest.reads = reads.map_err(|expected| bad("reads", text, expected))?;
                }
                "functions" if kind == Kind::Serializer => manifest.functions = functions(text)?,
                "codes" => manifest.codes = codes(text)?,
                "assets" => manifest.assets = assets(text)?,
                "shape" => manifest.shape = Shape::parse(kind, text)?,
                "limits.memory-bytes" => {
                    manifest.memory_bytes = Some(within("limits.memory-bytes", text, limits.memory_bytes)?);
                }
                "limits.call-ms" => manifest.call_ms = Some(within("limits.call-ms", text, limits.call_deadline_ms)?),
                "limits.records-per-call" => {
                    let granted = limits.records_per_call_max as u64;
                    manifest.records_per_call_max = Some(within("limits.records-per-call", text, granted)?);
                }
                "limits.answer-bytes" => {
                    let granted = limits.answer_bytes_max() as u64;
                    manifest.answer_bytes_max = Some(within("limits.answer-bytes", text, granted)?);
                }
                "config.schema" => {
                    if let Err(error) = Schema::parse(text) {
                        return Err(ManifestError::BadSchema(error));
                    }
                    manifest.config_schema = Some(text.clone());
                }
                "name" | "version" | "description" | "license" => {}
                free if free.starts_with("x-") || free.starts_with("hint.") => {}
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

impl Shape {
    /// What holds where the manifest does not say it.
    const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Partitioner | Kind::DeadLetterPolicy => Self::MayRoute,
            Kind::Serializer => Self::SameCount,
        }
    }

    fn parse(kind: Kind, text: &str) -> Result<Self, ManifestError> {
        match (kind, text) {
            (Kind::Partitioner | Kind::DeadLetterPolicy, "may-route") => Ok(Self::MayRoute),
            (Kind::Serializer, "same-count") => Ok(Self::SameCount),
            (Kind::Serializer, "may-drop") => Ok(Self::MayDrop),
            (Kind::Partitioner, _) => Err(bad("shape", text, "`may-route`, as for every partitioner")),
            (Kind::DeadLetterPolicy, _) => Err(bad("shape", text, "`may-route`, as for every dead-letter policy")),
            (Kind::Serializer, _) => Err(bad("shape", text, "`same-count`, or `may-drop` for views")),
        }
    }
}

impl Kind {
    const fn expected(self) -> &'static str {
        match self {
            Self::Partitioner => "the kind of the interface it exports: `partitioner`",
            Self::Serializer => "the kind of the interface it exports: `serializer`",
            Self::DeadLetterPolicy => "the kind of the interface it exports: `dead-letter-policy`",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Partitioner => "partitioner",
            Self::Serializer => "serializer",
            Self::DeadLetterPolicy => "dead-letter-policy",
        })
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn functions(text: &str) -> Result<Vec<Function>, ManifestError> {
    let wrong = || bad("functions", text, "`encode`, `decode` or both");
    let mut functions = Vec::new();
    for item in items(text) {
        functions.push(match item {
            "encode" => Function::Encode,
            "decode" => Function::Decode,
            _ => return Err(wrong()),
        });
    }
    if functions.is_empty() { Err(wrong()) } else { Ok(functions) }
}

/// Whether a text may be a code: it becomes the label of a metric and a header.
pub(crate) fn is_code(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    (1..=CODE_BYTES_MAX).contains(&text.len()) && text.bytes().all(legal)
}

fn codes(text: &str) -> Result<Vec<String>, ManifestError> {
    let codes: Vec<String> = items(text).map(str::to_owned).collect();
    if codes.len() > CODES_MAX || !codes.iter().all(|code| is_code(code)) {
        return Err(bad("codes", text, "at most 64 codes of 1 to 48 letters a-z, digits, `.` and `-`"));
    }
    Ok(codes)
}

fn assets(text: &str) -> Result<Vec<String>, ManifestError> {
    let assets: Vec<String> = items(text).map(str::to_owned).collect();
    if assets.len() > ASSETS_MAX {
        return Err(bad("assets", text, "at most 64 names"));
    }
    Ok(assets)
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

    fn parse_as(kind: Kind, pairs: &[(&str, &str)]) -> Result<Manifest, ManifestError> {
        let pairs = pairs.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
        Manifest::parse(kind, pairs, &Limits::default())
    }

    fn parse(pairs: &[(&str, &str)]) -> Result<Manifest, ManifestError> {
        parse_as(Kind::Partitioner, pairs)
    }

    #[test]
    fn a_manifest_says_what_is_read_and_needed() {
        let manifest = parse(&[
            ("kind", "partitioner"),
            ("reads", "key, value-prefix:16,headers,topic"),
            ("shape", "may-route"),
            ("codes", "schema, no-such.tenant"),
            ("assets", "tenants"),
            ("limits.memory-bytes", "1048576"),
            ("limits.call-ms", "5"),
            ("limits.records-per-call", "100"),
            ("limits.answer-bytes", "1000"),
            ("config.schema", r#"{"type":"string"}"#),
            ("hint.of-a-later-release", "passed over"),
            ("x-colour", "blue"),
        ])
        .unwrap();
        assert_eq!(manifest.reads.names(), ["key", "value-prefix:16", "headers", "topic"]);
        assert_eq!((manifest.memory_bytes, manifest.call_ms), (Some(1 << 20), Some(5)));
        assert_eq!((manifest.records_per_call_max, manifest.answer_bytes_max), (Some(100), Some(1000)));
        assert_eq!(
            (manifest.codes, manifest.assets.len()),
            (vec!["schema".to_owned(), "no-such.tenant".to_owned()], 1)
        );
        assert_eq!((manifest.shape, manifest.functions.len()), (Shape::MayRoute, 0));
    }

    #[test]
    fn a_serializer_encodes_unless_it_says_more_and_a_policy_reads_facts() {
        let serializer = |pairs: &[(&str, &str)]| {
            let mut all = vec![("kind", "serializer")];
            all.extend(pairs);
            parse_as(Kind::Serializer, &all).unwrap()
        };
        assert_eq!(serializer(&[]).functions, [Function::Encode]);
        let both = serializer(&[("functions", "encode, decode"), ("shape", "may-drop")]);
        assert_eq!((both.functions, both.shape), (vec![Function::Encode, Function::Decode], Shape::MayDrop));
        let policy = parse_as(Kind::DeadLetterPolicy, &[("kind", "dead-letter-policy"), ("reads", "cause,partition")]);
        assert_eq!(policy.unwrap().reads.names(), ["cause", "partition"]);
    }

    #[test]
    fn what_the_host_does_not_understand_is_refused() {
        let partitioner = ("kind", "partitioner");
        for (pairs, message) in [
            (vec![], "it has no `kind`"),
            (vec![("kind", "serializer")], "`kind` is `serializer`"),
            (vec![partitioner, partitioner], "`kind` is there twice"),
            (vec![partitioner, ("needs", "network")], "it asks for `needs`"),
            (vec![partitioner, ("functions", "encode")], "it asks for `functions`"),
            (vec![partitioner, ("reads", "everything")], "`reads` is `everything`"),
            (vec![partitioner, ("reads", "value-prefix:-1")], "`reads` is"),
            (vec![partitioner, ("reads", "value,value-prefix:9")], "either"),
            (vec![partitioner, ("reads", "cause")], "`reads` is `cause`"),
            (vec![partitioner, ("shape", "may-drop")], "`shape` is `may-drop`"),
            (vec![partitioner, ("codes", "Schema")], "`codes` is `Schema`"),
            (vec![partitioner, ("limits.memory-bytes", "99999999999")], "more than the 33554432 that are granted"),
            (vec![partitioner, ("limits.call-ms", "0")], "a number above zero"),
            (vec![partitioner, ("limits.records-per-call", "5000")], "more than the 4096 that are granted"),
            (vec![partitioner, ("config.schema", "{")], "its `config.schema` cannot be used: the schema is no JSON"),
            (vec![partitioner, ("config.schema", r#"{"uniqueItems":true}"#)], "#/uniqueItems is not supported here"),
        ] {
            let error = parse(&pairs).unwrap_err().to_string();
            assert!(error.contains(message), "{pairs:?}: {error}");
        }
        let huge = "y".repeat(MANIFEST_BYTES_MAX);
        assert!(matches!(parse(&[partitioner, ("x-y", &huge)]), Err(ManifestError::TooLarge { .. })));
        let serializer = ("kind", "serializer");
        let wrong = parse_as(Kind::Serializer, &[serializer, ("functions", "guess")]).unwrap_err().to_string();
        assert!(wrong.contains("`encode`, `decode` or both"), "{wrong}");
    }
}
