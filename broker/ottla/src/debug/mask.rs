//! What must not leave the machine: values of secrets, and words that may quote records.

use serde_json::Value;

const MASKED: &str = "<left out>";
/// Parts of names that say that the value is a secret.
const SECRET: [&str; 8] = ["password", "passwd", "secret", "token", "credential", "jaas", "keystore", "private"];
/// The fields of a log line that are left out: what a plugin said, and the values of a setting that is secret.
const PLUGIN_WORDS: &str = "reason";
const VALUES: [&str; 2] = ["from", "to"];

/// Whether values under this name are left out: secrets, and what is handed to a plugin, which may hold some.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part)) || name.ends_with(".config")
}

/// The value of a setting, or that there is one.
pub(super) fn value(name: &str, value: &str) -> String {
    if is_secret(name) && !value.is_empty() { MASKED.to_owned() } else { value.to_owned() }
}

/// `NAME=VALUE`, several with `separator` between them, without the values that are secret.
pub(super) fn pairs(text: &str, separator: char) -> String {
    let masked = text.split(separator).map(|word| match word.split_once('=') {
        Some((name, text)) => format!("{name}={}", value(name, text)),
        None => word.to_owned(),
    });
    masked.collect::<Vec<_>>().join(&separator.to_string())
}

/// A log line of the broker, of either format.
pub(super) fn log_line(line: &str) -> String {
    if let Ok(Value::Object(mut fields)) = serde_json::from_str(line) {
        let setting = fields.get("setting").and_then(Value::as_str).unwrap_or_default().to_owned();
        if fields.contains_key("plugin")
            && let Some(words) = fields.get_mut(PLUGIN_WORDS)
        {
            *words = MASKED.into();
        }
        for name in VALUES.iter().filter(|_| is_secret(&setting)) {
            if let Some(value) = fields.get_mut(*name) {
                *value = MASKED.into();
            }
        }
        return Value::Object(fields).to_string();
    }
    let setting = line.split_once(" setting=\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
    let cut = match line {
        line if line.contains(" plugin=\"") => PLUGIN_WORDS,
        _ if is_secret(setting) => VALUES[0],
        _ => return line.to_owned(),
    };
    match line.split_once(&format!(" {cut}=")) {
        // What is behind it cannot be told from what it says.
        Some((before, _)) => format!("{before} {cut}={MASKED}"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_words_of_plugins_are_left_out() {
        assert_eq!(value("ssl.keystore.password", "hunter2"), MASKED);
        assert_eq!(value("ottla.partitioner.config", "{\"api\":\"hunter2\"}"), MASKED);
        assert_eq!(value("num.partitions", "3"), "3");
        assert_eq!(value("ssl.keystore.password", ""), "");
        assert_eq!(pairs("rw,username=me,password=hunter2", ','), format!("rw,username=me,password={MASKED}"));
        assert_eq!(pairs("ottla --set sasl.jaas.config=x", ' '), format!("ottla --set sasl.jaas.config={MASKED}"));
    }

    #[test]
    fn log_lines_keep_everything_but_what_a_record_or_a_secret_may_be_in() {
        for (line, masked) in [
            (
                r#"WARN plugin failed, the batch was refused plugin="p" version=1 topic="t" reason="no tenant \"acme\" x" more=3"#,
                r#"WARN plugin failed, the batch was refused plugin="p" version=1 topic="t" reason=<left out>"#,
            ),
            (
                r#"{"level":"WARN","message":"plugin failed","plugin":"p","reason":"no tenant acme"}"#,
                r#"{"level":"WARN","message":"plugin failed","plugin":"p","reason":"<left out>"}"#,
            ),
            (
                r#"INFO setting changed topic="t" setting="ottla.partitioner.config" from="a" to="b" client=c"#,
                r#"INFO setting changed topic="t" setting="ottla.partitioner.config" from=<left out>"#,
            ),
            (
                r#"{"from":"a","setting":"ottla.partitioner.config","to":"b"}"#,
                r#"{"from":"<left out>","setting":"ottla.partitioner.config","to":"<left out>"}"#,
            ),
            (
                r#"INFO setting changed setting="retention.ms" from="1" to="2""#,
                r#"INFO setting changed setting="retention.ms" from="1" to="2""#,
            ),
            ("ERROR cannot accept a connection: reason=x", "ERROR cannot accept a connection: reason=x"),
        ] {
            assert_eq!(log_line(line), masked);
        }
    }
}
