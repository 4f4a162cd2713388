//! JSON Schema within bounds: a part of draft 2020-12 that needs no network, no unbounded time and no deep stack.
//!
//! Used by the plugin host for configurations, and by the `json-schema` plugin for records.
//!
//! Supported: `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `minProperties`, `maxProperties`, `items`,
//! `minItems`, `maxItems`, `minLength`, `maxLength`, `pattern`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`,
//! `allOf`, `anyOf`, `oneOf`, `not`, `$ref` within the document, `$defs` and `definitions`. Annotations are passed over. Any other
//! keyword is an error: a rule that is not understood must not seem to hold.
//!
//! A value that nests deeper than [`DEPTH_MAX`] does not fit.

mod compile;
mod validate;

use serde_json::Value;

pub use compile::SchemaError;
pub use validate::Misfit;

use compile::Node;

/// How deep a schema and a value may nest, references included.
pub const DEPTH_MAX: usize = 32;
/// Bytes of a schema at most.
pub const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Bytes of one pattern at most.
pub const PATTERN_BYTES_MAX: usize = 512;

/// A schema, ready to check values.
#[derive(Debug)]
pub struct Schema {
    nodes: Vec<Node>,
}

impl Schema {
    /// Reads a schema. The error names the keyword, by its place in the document, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooLarge { bytes: text.len() });
        }
        let document: Value = serde_json::from_str(text).map_err(|error| SchemaError::NotJson(error.to_string()))?;
        Ok(Self { nodes: compile::compile(&document)? })
    }

    /// Checks a value. The error is the first misfit, by its place in the value.
    pub fn check(&self, value: &Value) -> Result<(), Misfit> {
        validate::check(&self.nodes, value)
    }

    /// Checks text that may be JSON or not: it fits if it does as a text, or as the JSON that it is. For configurations,
    /// some of which are plain words.
    pub fn check_text(&self, text: &str) -> Result<(), Misfit> {
        let plain = self.check(&Value::String(text.to_owned()));
        match serde_json::from_str(text) {
            Ok(json) if plain.is_err() => self.check(&json),
            _ => plain,
        }
    }
}
