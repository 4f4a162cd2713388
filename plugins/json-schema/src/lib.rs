//! Refuses records whose value does not fit a JSON Schema. The README has the rule, word by word.

use ottla_plugin::{Reads, Record, Refusal, Serializer, Verdict, serializer};
use ottla_schema::Schema;

/// The rule; its configuration is the schema.
struct JsonSchema {
    schema: Schema,
}

impl Serializer for JsonSchema {
    const READS: Reads = Reads::VALUE;
    const CODES: &'static [&'static str] = &["not-json", "schema"];
    const MANIFEST: &'static [(&'static str, &'static str)] =
        &[("config.schema", r#"{"type":["object","boolean"]}"#), ("license", "Apache-2.0")];

    fn new(config: &str) -> Result<Self, String> {
        if config.is_empty() {
            return Err("the configuration is the JSON Schema that values must fit; it is empty".to_owned());
        }
        Ok(Self { schema: Schema::parse(config).map_err(|error| error.to_string())? })
    }

    fn encode(&self, record: &Record<'_>) -> Verdict {
        // A null value deletes the key of a compacted topic: there is nothing to check.
        let Some(value) = record.value() else { return Verdict::Accept };
        let value = match serde_json::from_slice(value) {
            Ok(value) => value,
            Err(error) => return Verdict::Reject(Refusal::new("not-json", error.to_string())),
        };
        match self.schema.check(&value) {
            Ok(()) => Verdict::Accept,
            Err(misfit) => Verdict::Reject(Refusal::new("schema", misfit.to_string())),
        }
    }
}

serializer!(JsonSchema);

#[cfg(test)]
mod tests {
    use ottla_plugin::testing::{load_serializer, record};

    use super::*;

    const ORDER: &str = r#"{"type":"object","required":["id","amount"],
        "properties":{"id":{"type":"string","minLength":1},"amount":{"type":"integer","minimum":1}}}"#;

    #[test]
    fn what_fits_is_accepted_and_the_rest_is_told_why() {
        let plugin = load_serializer::<JsonSchema>(ORDER).unwrap();
        let told = |value: &str| match plugin.encode(record().value(value)) {
            Verdict::Accept => "accepted".to_owned(),
            Verdict::Reject(refusal) => format!("{refusal:?}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(r#"{"id":"a","amount":3,"more":[1]}"#), "accepted");
        assert!(told(r#"{"id":"a","amount":0}"#).contains("/amount: is 0, at least 1 is wanted"));
        assert!(told(r#"{"id":"a"}"#).contains(r#"the value: has no \"amount\""#));
        assert!(told("hello").contains("not-json"));
        assert!(told("").contains("not-json"));
        assert_eq!(plugin.encode(record().key("deleted")), Verdict::Accept);
    }

    #[test]
    fn a_configuration_that_is_no_schema_is_refused() {
        for (config, told) in
            [("", "it is empty"), ("{", "no JSON"), (r#"{"uniqueItems":true}"#, "#/uniqueItems is not supported")]
        {
            let Err(error) = load_serializer::<JsonSchema>(config).map(|_| ()) else { panic!("{config}") };
            assert!(error.contains(told), "{error}");
        }
    }
}
