//! Records out of text: one per line, one per stanza, or one JSON object per line.

use std::io::{self, BufRead};

use clap::ValueEnum;
use serde_json::Value;

/// How records are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// Every line is a value, or key and value with --key-separator
    #[default]
    Lines,
    /// Records are separated by empty lines, as in a Debian package index
    Stanzas,
    /// Every line is a JSON object: key, value, headers, partition, timestamp
    Json,
}

/// A record as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InputRecord {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp_ms: Option<i64>,
}

/// How keys are found.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRule {
    /// Lines: what stands between key and value.
    pub(crate) separator: Option<String>,
    /// Stanzas: the field whose text is the key.
    pub(crate) field: Option<String>,
}

/// Reads records one after another.
pub(crate) struct RecordReader<R> {
    from: R,
    format: InputFormat,
    keys: KeyRule,
    line: u64,
}

/// What is wrong with the input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line}: {reason}")]
    Malformed {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

impl<R: BufRead> RecordReader<R> {
    pub(crate) fn new(from: R, format: InputFormat, keys: KeyRule) -> Self {
        Self { from, format, keys, line: 0 }
    }

    /// The next record; none at the end of the input.
    pub(crate) fn next(&mut self) -> Result<Option<InputRecord>, InputError> {
        match self.format {
            InputFormat::Lines => self.line_record(),
            InputFormat::Stanzas => self.stanza_record(),
            InputFormat::Json => self.json_record(),
        }
    }

    /// The next line without its end.
    fn read_line(&mut self) -> Result<Option<Vec<u8>>, InputError> {
        let mut line = Vec::new();
        if self.from.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(Some(line))
    }

    fn malformed(&self, reason: impl Into<String>) -> InputError {
        InputError::Malformed { line: self.line, reason: reason.into() }
    }

    fn line_record(&mut self) -> Result<Option<InputRecord>, InputError> {
        let Some(line) = self.read_line()? else { return Ok(None) };
        let Some(separator) = &self.keys.separator else {
            return Ok(Some(InputRecord { value: Some(line), ..InputRecord::default() }));
        };
        let at = line.windows(separator.len().max(1)).position(|window| window == separator.as_bytes());
        let at = at.ok_or_else(|| self.malformed(format!("there is no {separator:?} in it")))?;
        let (key, value) = line.split_at(at);
        let value = value.get(separator.len()..).unwrap_or_default().to_vec();
        Ok(Some(InputRecord { key: Some(key.to_vec()), value: Some(value), ..InputRecord::default() }))
    }

    /// Lines up to an empty one, with the newlines between them and after the last one.
    fn stanza_record(&mut self) -> Result<Option<InputRecord>, InputError> {
        let mut stanza = Vec::new();
        while let Some(line) = self.read_line()? {
            match (line.is_empty(), stanza.is_empty()) {
                (true, true) => {}
                (true, false) => break,
                (false, _) => {
                    stanza.extend_from_slice(&line);
                    stanza.push(b'\n');
                }
            }
        }
        if stanza.is_empty() {
            return Ok(None);
        }
        let key = match &self.keys.field {
            None => None,
            Some(field) => Some(
                field_of(&stanza, field).ok_or_else(|| self.malformed(format!("the stanza has no {field} field")))?,
            ),
        };
        Ok(Some(InputRecord { key, value: Some(stanza), ..InputRecord::default() }))
    }

    fn json_record(&mut self) -> Result<Option<InputRecord>, InputError> {
        loop {
            let Some(line) = self.read_line()? else { return Ok(None) };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let value = serde_json::from_slice(&line).map_err(|error| self.malformed(error.to_string()))?;
            return read_json(&value).map(Some).map_err(|reason| self.malformed(reason));
        }
    }
}

/// The text of `field:` in a stanza, without the spaces around it.
fn field_of(stanza: &[u8], field: &str) -> Option<Vec<u8>> {
    stanza.split(|byte| *byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(field.as_bytes())?.strip_prefix(b":")?;
        Some(rest.trim_ascii().to_vec())
    })
}

/// What `ottla consume --json` writes reads back; fields it does not know are left alone.
fn read_json(value: &Value) -> Result<InputRecord, String> {
    let Value::Object(object) = value else { return Err("a JSON object is expected".to_owned()) };
    let bytes = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone().into_bytes())),
        Some(_) => Err(format!("{name} is not a string: JSON inside JSON has to be quoted")),
    };
    let number = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| format!("{name} is not a whole number")),
    };
    let partition = number("partition")?
        .map(|number| i32::try_from(number).map_err(|_| "partition is out of range".to_owned()))
        .transpose()?;
    let headers = match object.get("headers") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(headers)) => {
            headers.iter().map(|(name, value)| header(name, value)).collect::<Result<_, _>>()?
        }
        Some(Value::Array(headers)) => headers
            .iter()
            .map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([Value::String(name), value]) => header(name, value),
                _ => Err("a header is a pair [name, value]".to_owned()),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err("headers are an object or a list of pairs".to_owned()),
    };
    Ok(InputRecord {
        key: bytes("key")?,
        value: bytes("value")?,
        headers,
        partition,
        timestamp_ms: number("timestamp")?,
    })
}

fn header(name: &str, value: &Value) -> Result<(String, Option<Vec<u8>>), String> {
    match value {
        Value::Null => Ok((name.to_owned(), None)),
        Value::String(text) => Ok((name.to_owned(), Some(text.clone().into_bytes()))),
        _ => Err(format!("the value of header {name} is not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: InputFormat, keys: KeyRule) -> Result<Vec<InputRecord>, InputError> {
        let mut reader = RecordReader::new(text.as_bytes(), format, keys);
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok(records)
    }

    fn pair(key: &str, value: &str) -> InputRecord {
        InputRecord { key: Some(key.into()), value: Some(value.into()), ..InputRecord::default() }
    }

    #[test]
    fn lines_are_values_or_keys_and_values() {
        let plain = read("a\n\nb", InputFormat::Lines, KeyRule::default()).unwrap();
        let values: Vec<_> = plain.into_iter().filter_map(|record| record.value).collect();
        assert_eq!(values, [b"a".to_vec(), b"".to_vec(), b"b".to_vec()]);

        let keys = KeyRule { separator: Some("::".to_owned()), field: None };
        let keyed = read("k::v::w\n::\n", InputFormat::Lines, keys.clone()).unwrap();
        assert_eq!(keyed, [pair("k", "v::w"), pair("", "")]);
        let error = read("k::v\nnothing\n", InputFormat::Lines, keys).unwrap_err();
        assert!(error.to_string().starts_with("line 2:"), "{error}");
    }

    #[test]
    fn stanzas_keep_their_newlines() {
        let index = "\nPackage: bash\nSection: shells\n\n\nPackage: zsh\n long line\n";
        let keys = KeyRule { separator: None, field: Some("Package".to_owned()) };
        let records = read(index, InputFormat::Stanzas, keys.clone()).unwrap();
        let expected = [pair("bash", "Package: bash\nSection: shells\n"), pair("zsh", "Package: zsh\n long line\n")];
        assert_eq!(records, expected);
        assert!(read("Section: x\n", InputFormat::Stanzas, keys).is_err());
    }

    #[test]
    fn json_lines_say_everything() {
        let line =
            r#"{"key":"k","value":null,"headers":[["a","1"],["a",null]],"partition":3,"timestamp":7,"offset":9}"#;
        let records = read(line, InputFormat::Json, KeyRule::default()).unwrap();
        let expected = InputRecord {
            key: Some(b"k".to_vec()),
            value: None,
            headers: vec![("a".to_owned(), Some(b"1".to_vec())), ("a".to_owned(), None)],
            partition: Some(3),
            timestamp_ms: Some(7),
        };
        assert_eq!(records, [expected]);
        for bad in ["{", "[]", r#"{"value":1}"#, r#"{"partition":1e30}"#, r#"{"headers":[["a"]]}"#] {
            assert!(read(bad, InputFormat::Json, KeyRule::default()).is_err(), "{bad}");
        }
    }
}
