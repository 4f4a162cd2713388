//! A value against the nodes of a schema.

use std::fmt;

use serde_json::Value;

use crate::DEPTH_MAX;
use crate::compile::{Bounds, Index, Node, Rules, Type};

/// Checks that one value may take: a schema of choices within choices grows fast.
const STEPS_MAX: usize = 100_000;

/// The first place at which a value does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", if .at.is_empty() { "the value" } else { .at })]
pub struct Misfit {
    /// The place in the value, as a JSON pointer; empty for the whole.
    pub at: String,
    /// What is wrong there.
    pub what: String,
}

pub(crate) fn check(nodes: &[Node], value: &Value) -> Result<(), Misfit> {
    Check { nodes, steps_left: STEPS_MAX, path: Vec::new() }.node(0, value, 0)
}

struct Check<'c> {
    nodes: &'c [Node],
    steps_left: usize,
    path: Vec<Step<'c>>,
}

#[derive(Clone, Copy)]
enum Step<'c> {
    Property(&'c str),
    Item(usize),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Property(name) => write!(f, "/{name}"),
            Self::Item(number) => write!(f, "/{number}"),
        }
    }
}

impl<'c> Check<'c> {
    fn misfit(&self, what: impl Into<String>) -> Misfit {
        Misfit { at: self.path.iter().map(ToString::to_string).collect(), what: what.into() }
    }

    fn node(&mut self, index: Index, value: &'c Value, depth: usize) -> Result<(), Misfit> {
        if depth > DEPTH_MAX {
            return Err(self.misfit(format!("nests deeper than {DEPTH_MAX} levels")));
        }
        self.steps_left = self.steps_left.checked_sub(1).ok_or_else(|| self.misfit("takes too many steps to check"))?;
        let nodes = self.nodes;
        match nodes.get(index) {
            Some(Node::Rules(rules)) => self.rules(rules, value, depth),
            Some(Node::Always(true)) => Ok(()),
            _ => Err(self.misfit("is not allowed")),
        }
    }

    fn rules(&mut self, rules: &'c Rules, value: &'c Value, depth: usize) -> Result<(), Misfit> {
        if let Some(types) = rules.types.as_ref().filter(|types| !types.iter().any(|wanted| is_of(value, *wanted))) {
            let names: Vec<_> = types.iter().map(|wanted| wanted.name()).collect();
            return Err(self.misfit(format!("is {}, {} is wanted", name_of(value), names.join(" or "))));
        }
        if rules.any_value.as_ref().is_some_and(|values| !values.iter().any(|wanted| is_equal(wanted, value))) {
            return Err(self.misfit("is none of the values allowed"));
        }
        match value {
            Value::Object(properties) => {
                self.count(rules.properties_count, properties.len() as u64, "properties")?;
                if let Some(missing) = rules.required.iter().find(|name| !properties.contains_key(*name)) {
                    return Err(self.misfit(format!("has no {missing:?}")));
                }
                for (name, value) in properties {
                    if let Some(node) = rules.properties.get(name).copied().or(rules.additional) {
                        self.within(Step::Property(name), node, value, depth)?;
                    }
                }
            }
            Value::Array(items) => {
                self.count(rules.items_count, items.len() as u64, "items")?;
                if let Some(node) = rules.items {
                    for (number, item) in items.iter().enumerate() {
                        self.within(Step::Item(number), node, item, depth)?;
                    }
                }
            }
            Value::String(text) => {
                if rules.length.least.is_some() || rules.length.most.is_some() {
                    self.count(rules.length, text.chars().count() as u64, "characters")?;
                }
                if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
                    return Err(self.misfit(format!("does not match {}", pattern.as_str())));
                }
            }
            Value::Number(number) => self.number(rules, number.as_f64().unwrap_or(f64::NAN))?,
            Value::Null | Value::Bool(_) => {}
        }
        self.choices(rules, value, depth + 1)
    }

    fn within(&mut self, step: Step<'c>, node: Index, value: &'c Value, depth: usize) -> Result<(), Misfit> {
        self.path.push(step);
        self.node(node, value, depth + 1)?;
        self.path.pop();
        Ok(())
    }

    fn count(&self, bounds: Bounds, found: u64, of: &str) -> Result<(), Misfit> {
        if let Some(least) = bounds.least.filter(|least| found < *least) {
            return Err(self.misfit(format!("has {found} {of}, at least {least} are wanted")));
        }
        match bounds.most.filter(|most| found > *most) {
            Some(most) => Err(self.misfit(format!("has {found} {of}, at most {most} are allowed"))),
            None => Ok(()),
        }
    }

    fn number(&self, rules: &Rules, found: f64) -> Result<(), Misfit> {
        let wrong = |word: &str, bound: f64| Err(self.misfit(format!("is {found}, {word} {bound} is wanted")));
        match rules {
            Rules { minimum: Some(bound), .. } if found < *bound => wrong("at least", *bound),
            Rules { maximum: Some(bound), .. } if found > *bound => wrong("at most", *bound),
            Rules { above: Some(bound), .. } if found <= *bound => wrong("more than", *bound),
            Rules { below: Some(bound), .. } if found >= *bound => wrong("less than", *bound),
            _ => Ok(()),
        }
    }

    fn choices(&mut self, rules: &'c Rules, value: &'c Value, depth: usize) -> Result<(), Misfit> {
        for node in rules.reference.iter().chain(&rules.all_of) {
            self.node(*node, value, depth)?;
        }
        if !rules.any_of.is_empty() && !rules.any_of.iter().any(|node| self.fits(*node, value, depth)) {
            return Err(self.misfit("fits none of the alternatives"));
        }
        if !rules.one_of.is_empty() {
            let fitting = rules.one_of.iter().filter(|node| self.fits(**node, value, depth)).count();
            if fitting != 1 {
                return Err(self.misfit(format!("fits {fitting} of the alternatives, exactly one is wanted")));
            }
        }
        match rules.not {
            Some(node) if self.fits(node, value, depth) => Err(self.misfit("fits what it must not")),
            _ => Ok(()),
        }
    }

    fn fits(&mut self, node: Index, value: &'c Value, depth: usize) -> bool {
        let length = self.path.len();
        let fits = self.node(node, value, depth).is_ok();
        self.path.truncate(length);
        fits
    }
}

fn is_of(value: &Value, wanted: Type) -> bool {
    match (value, wanted) {
        (Value::Null, Type::Null)
        | (Value::Bool(_), Type::Boolean)
        | (Value::Number(_), Type::Number)
        | (Value::String(_), Type::String)
        | (Value::Array(_), Type::Array)
        | (Value::Object(_), Type::Object) => true,
        // 1.0 is an integer, too.
        (Value::Number(number), Type::Integer) => {
            number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        _ => false,
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Numbers by their value, not by how they are written.
fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use crate::{Schema, SchemaError};

    fn told(schema: &str, value: &str) -> String {
        let schema = Schema::parse(schema).unwrap();
        schema
            .check(&serde_json::from_str(value).unwrap())
            .map_or_else(|misfit| misfit.to_string(), |()| "fits".to_owned())
    }

    #[test]
    fn each_keyword_says_what_does_not_fit_and_where() {
        let cases = [
            (r#"{"type":"object"}"#, "[]", "the value: is an array, object is wanted"),
            (r#"{"type":["string","null"]}"#, "1", "the value: is a number, string or null is wanted"),
            (r#"{"type":"integer"}"#, "1.5", "the value: is a number, integer is wanted"),
            (r#"{"type":"integer"}"#, "2.0", "fits"),
            (r#"{"enum":["a",1]}"#, r#""b""#, "the value: is none of the values allowed"),
            (r#"{"const":1}"#, "1.0", "fits"),
            (r#"{"required":["name"]}"#, "{}", r#"the value: has no "name""#),
            (
                r#"{"properties":{"a":{"properties":{"b":{"type":"null"}}}}}"#,
                r#"{"a":{"b":1}}"#,
                "/a/b: is a number, null is wanted",
            ),
            (r#"{"properties":{"a":{}},"additionalProperties":false}"#, r#"{"a":1,"b":2}"#, "/b: is not allowed"),
            (r#"{"items":{"minimum":0}}"#, "[1,-1]", "/1: is -1, at least 0 is wanted"),
            (r#"{"maximum":5}"#, "6", "the value: is 6, at most 5 is wanted"),
            (r#"{"exclusiveMinimum":0}"#, "0", "the value: is 0, more than 0 is wanted"),
            (r#"{"exclusiveMaximum":0}"#, "0", "the value: is 0, less than 0 is wanted"),
            (r#"{"minItems":1}"#, "[]", "the value: has 0 items, at least 1 are wanted"),
            (r#"{"maxItems":1}"#, "[1,2]", "the value: has 2 items, at most 1 are allowed"),
            (r#"{"maxProperties":0}"#, r#"{"a":1}"#, "the value: has 1 properties, at most 0 are allowed"),
            (r#"{"minLength":2}"#, r#""é""#, "the value: has 1 characters, at least 2 are wanted"),
            (r#"{"pattern":"^[a-z]+$"}"#, r#""A""#, "the value: does not match ^[a-z]+$"),
            (
                r#"{"allOf":[{"type":"string"},{"minLength":2}]}"#,
                r#""a""#,
                "the value: has 1 characters, at least 2 are wanted",
            ),
            (r#"{"anyOf":[{"type":"string"},{"type":"null"}]}"#, "1", "the value: fits none of the alternatives"),
            (
                r#"{"oneOf":[{"type":"number"},{"type":"integer"}]}"#,
                "1",
                "the value: fits 2 of the alternatives, exactly one is wanted",
            ),
            (r#"{"not":{"type":"null"}}"#, "null", "the value: fits what it must not"),
            ("false", "1", "the value: is not allowed"),
            ("true", "1", "fits"),
        ];
        for (schema, value, expected) in cases {
            assert_eq!(told(schema, value), expected, "{schema}");
        }
    }

    #[test]
    fn references_stay_in_the_document_and_may_go_in_circles() {
        let tree = r##"{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"next":{"$ref":"#/$defs/tree"}}}}}"##;
        assert_eq!(told(tree, r#"{"next":{"next":{}}}"#), "fits");
        assert_eq!(told(tree, r#"{"next":{"next":1}}"#), "/next/next: is a number, object is wanted");
        assert_eq!(told(r##"{"$ref":"#"}"##, "1"), "the value: nests deeper than 32 levels");
        let away = Schema::parse(r#"{"$ref":"https://example.com/schema"}"#).unwrap_err().to_string();
        assert!(away.contains("which is not in this document"), "{away}");
        assert!(matches!(Schema::parse(r##"{"$ref":"#/nowhere"}"##), Err(SchemaError::NoTarget { .. })));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_place() {
        for (schema, told) in [
            ("{", "the schema is no JSON"),
            ("1", "# must be an object, true or false"),
            (r#"{"patternProperties":{}}"#, "#/patternProperties is not supported here"),
            (r#"{"properties":{"a":{"minlength":1}}}"#, "#/properties/a/minlength is not supported here"),
            (r#"{"type":"text"}"#, "#/type must be null, boolean"),
            (r#"{"minLength":-1}"#, "#/minLength must be a number, not negative"),
            (r#"{"pattern":"("}"#, "#/pattern must be a regular expression"),
            (r#"{"pattern":"(a{1000}){1000}"}"#, "#/pattern must be a regular expression"),
            (r#"{"anyOf":[]}"#, "#/anyOf must be a list of schemas"),
        ] {
            let error = Schema::parse(schema).unwrap_err().to_string();
            assert!(error.contains(told), "{schema}: {error}");
        }
        let deep = format!("{}true{}", r#"{"not":"#.repeat(40), "}".repeat(40));
        assert!(matches!(Schema::parse(&deep), Err(SchemaError::TooDeep { .. })));
    }

    #[test]
    fn choices_within_choices_end_in_time() {
        // Four to the power of twelve ways.
        let choice = |next: usize| vec![format!(r##"{{"$ref":"#/$defs/{next}"}}"##); 4].join(",");
        let defs: Vec<String> = (0..12).map(|n| format!(r#""{n}":{{"anyOf":[{}]}}"#, choice(n + 1))).collect();
        let bomb = format!(r##"{{"$ref":"#/$defs/0","$defs":{{{},"12":false}}}}"##, defs.join(","));
        assert_eq!(told(&bomb, "1"), "the value: fits none of the alternatives");
    }

    #[test]
    fn a_configuration_is_plain_text_or_json() {
        let schema = |text| Schema::parse(text).unwrap();
        assert!(schema(r#"{"type":"string","maxLength":0}"#).check_text("").is_ok());
        assert!(schema(r#"{"type":"string","maxLength":0}"#).check_text("field=x").is_err());
        assert!(schema(r#"{"type":"string","pattern":"^[a-z]+$"}"#).check_text("word").is_ok());
        assert!(schema(r#"{"type":"object","required":["a"]}"#).check_text(r#"{"a":1}"#).is_ok());
        let misfit = schema(r#"{"type":"object","required":["a"]}"#).check_text("{}").unwrap_err().to_string();
        assert_eq!(misfit, r#"the value: has no "a""#);
    }
}
