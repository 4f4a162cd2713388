//! A schema as nodes that name each other by number, so that references may go in circles.

use std::collections::HashMap;

use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::{DEPTH_MAX, PATTERN_BYTES_MAX, SCHEMA_BYTES_MAX};

/// Bytes that a compiled pattern may take.
const PATTERN_COMPILED_BYTES_MAX: usize = 64 << 10;
/// Keywords that say nothing about which values fit.
const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "$anchor",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "$defs",
    "definitions",
];

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum SchemaError {
    #[error("the schema is no JSON: {0}")]
    NotJson(String),
    #[error("the schema has {bytes} bytes, {SCHEMA_BYTES_MAX} are allowed")]
    TooLarge { bytes: usize },
    #[error("{at} nests deeper than {DEPTH_MAX} levels")]
    TooDeep { at: String },
    #[error("{at} must be {expected}")]
    Malformed { at: String, expected: &'static str },
    #[error("{at} is not supported here; what is stands in the README of plugins/json-schema")]
    Unsupported { at: String },
    #[error("{at} refers to {target:?}, which is not in this document")]
    NoTarget { at: String, target: String },
}

/// The number of a node.
pub(crate) type Index = usize;

/// One schema.
#[derive(Debug)]
pub(crate) enum Node {
    /// Not compiled yet.
    Pending,
    /// `true` and `false`.
    Always(bool),
    /// All of these rules.
    Rules(Box<Rules>),
}

#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) types: Option<Vec<Type>>,
    pub(crate) any_value: Option<Vec<Value>>,
    pub(crate) properties: HashMap<String, Index>,
    pub(crate) additional: Option<Index>,
    pub(crate) required: Vec<String>,
    pub(crate) items: Option<Index>,
    pub(crate) properties_count: Bounds,
    pub(crate) items_count: Bounds,
    pub(crate) length: Bounds,
    pub(crate) pattern: Option<Regex>,
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) above: Option<f64>,
    pub(crate) below: Option<f64>,
    pub(crate) all_of: Vec<Index>,
    pub(crate) any_of: Vec<Index>,
    pub(crate) one_of: Vec<Index>,
    pub(crate) not: Option<Index>,
    pub(crate) reference: Option<Index>,
}

/// A least and a greatest count.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) least: Option<u64>,
    pub(crate) most: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Null, "null"),
        (Self::Boolean, "boolean"),
        (Self::Integer, "integer"),
        (Self::Number, "number"),
        (Self::String, "string"),
        (Self::Array, "array"),
        (Self::Object, "object"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }

    fn parse(value: &Value) -> Option<Self> {
        let text = value.as_str()?;
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(known, _)| *known)
    }
}

/// The nodes of a document, the root first.
pub(crate) fn compile(document: &Value) -> Result<Vec<Node>, SchemaError> {
    let mut compiler = Compiler { document, nodes: Vec::new(), by_pointer: HashMap::new() };
    compiler.node(document, "#", 0)?;
    Ok(compiler.nodes)
}

struct Compiler<'d> {
    document: &'d Value,
    nodes: Vec<Node>,
    by_pointer: HashMap<String, Index>,
}

impl<'d> Compiler<'d> {
    /// The node of the schema at `at`; compiled once, however many refer to it.
    fn node(&mut self, schema: &'d Value, at: &str, depth: usize) -> Result<Index, SchemaError> {
        if let Some(index) = self.by_pointer.get(at) {
            return Ok(*index);
        }
        if depth > DEPTH_MAX {
            return Err(SchemaError::TooDeep { at: at.to_owned() });
        }
        let index = self.nodes.len();
        self.nodes.push(Node::Pending);
        self.by_pointer.insert(at.to_owned(), index);
        let node = match schema {
            Value::Bool(always) => Node::Always(*always),
            Value::Object(keywords) => Node::Rules(Box::new(self.rules(keywords, at, depth)?)),
            _ => return Err(malformed(at, "an object, true or false")),
        };
        if let Some(place) = self.nodes.get_mut(index) {
            *place = node;
        }
        Ok(index)
    }

    fn rules(&mut self, keywords: &'d Map<String, Value>, at: &str, depth: usize) -> Result<Rules, SchemaError> {
        let mut rules = Rules::default();
        for (keyword, value) in keywords {
            let here = format!("{at}/{keyword}");
            let depth = depth + 1;
            match keyword.as_str() {
                "type" => rules.types = Some(types(value, &here)?),
                "enum" => rules.any_value = Some(value.as_array().ok_or_else(|| malformed(&here, "a list"))?.clone()),
                "const" => rules.any_value = Some(vec![value.clone()]),
                "properties" => {
                    let properties = value.as_object().ok_or_else(|| malformed(&here, "an object"))?;
                    for (name, schema) in properties {
                        let node = self.node(schema, &format!("{here}/{}", escaped(name)), depth)?;
                        rules.properties.insert(name.clone(), node);
                    }
                }
                "additionalProperties" => rules.additional = Some(self.node(value, &here, depth)?),
                "required" => {
                    let names = value.as_array().and_then(|names| {
                        names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
                    });
                    rules.required = names.ok_or_else(|| malformed(&here, "a list of names"))?;
                }
                "items" => rules.items = Some(self.node(value, &here, depth)?),
                "minProperties" => rules.properties_count.least = Some(count(value, &here)?),
                "maxProperties" => rules.properties_count.most = Some(count(value, &here)?),
                "minItems" => rules.items_count.least = Some(count(value, &here)?),
                "maxItems" => rules.items_count.most = Some(count(value, &here)?),
                "minLength" => rules.length.least = Some(count(value, &here)?),
                "maxLength" => rules.length.most = Some(count(value, &here)?),
                "pattern" => rules.pattern = Some(pattern(value, &here)?),
                "minimum" => rules.minimum = Some(number(value, &here)?),
                "maximum" => rules.maximum = Some(number(value, &here)?),
                "exclusiveMinimum" => rules.above = Some(number(value, &here)?),
                "exclusiveMaximum" => rules.below = Some(number(value, &here)?),
                "allOf" => rules.all_of = self.list(value, &here, depth)?,
                "anyOf" => rules.any_of = self.list(value, &here, depth)?,
                "oneOf" => rules.one_of = self.list(value, &here, depth)?,
                "not" => rules.not = Some(self.node(value, &here, depth)?),
                "$ref" => rules.reference = Some(self.reference(value, &here, depth)?),
                known if ANNOTATIONS.contains(&known) => {}
                _ => return Err(SchemaError::Unsupported { at: here }),
            }
        }
        Ok(rules)
    }

    fn list(&mut self, value: &'d Value, at: &str, depth: usize) -> Result<Vec<Index>, SchemaError> {
        let schemas = value.as_array().filter(|schemas| !schemas.is_empty());
        let schemas = schemas.ok_or_else(|| malformed(at, "a list of schemas"))?;
        schemas.iter().enumerate().map(|(number, schema)| self.node(schema, &format!("{at}/{number}"), depth)).collect()
    }

    fn reference(&mut self, value: &Value, at: &str, depth: usize) -> Result<Index, SchemaError> {
        let target = value.as_str().ok_or_else(|| malformed(at, "a text"))?;
        let missing = || SchemaError::NoTarget { at: at.to_owned(), target: target.to_owned() };
        let pointer = target.strip_prefix('#').ok_or_else(missing)?;
        let document = self.document;
        let schema = document.pointer(pointer).ok_or_else(missing)?;
        self.node(schema, target, depth)
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn malformed(at: &str, expected: &'static str) -> SchemaError {
    SchemaError::Malformed { at: at.to_owned(), expected }
}

fn types(value: &Value, at: &str) -> Result<Vec<Type>, SchemaError> {
    let types: Option<Vec<Type>> = match value {
        Value::Array(names) => names.iter().map(Type::parse).collect(),
        name => Type::parse(name).map(|known| vec![known]),
    };
    types.ok_or_else(|| malformed(at, "null, boolean, integer, number, string, array, object, or a list of these"))
}

fn count(value: &Value, at: &str) -> Result<u64, SchemaError> {
    value.as_u64().ok_or_else(|| malformed(at, "a number, not negative"))
}

fn number(value: &Value, at: &str) -> Result<f64, SchemaError> {
    value.as_f64().ok_or_else(|| malformed(at, "a number"))
}

fn pattern(value: &Value, at: &str) -> Result<Regex, SchemaError> {
    let text = value.as_str().filter(|text| text.len() <= PATTERN_BYTES_MAX);
    let text = text.ok_or_else(|| malformed(at, "a pattern of at most 512 bytes"))?;
    let compiled = RegexBuilder::new(text).size_limit(PATTERN_COMPILED_BYTES_MAX).build();
    compiled.map_err(|_| malformed(at, "a regular expression without look-around and back-references, and not huge"))
}
