//! How `ottla consume` prints a record: a text with `{fields}` in it.

use ottla_client::RecordRef;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
    Header(String),
}

impl Template {
    /// Reads a template: `{key}`, `{value}`, `{topic}`, `{partition}`, `{offset}`, `{timestamp}`, `{headers}`,
    /// `{header:NAME}`; `\n`, `\t`, `\0`, `\\`; `{{` and `}}` are braces.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let (taken, piece) = match c {
                '{' if rest.starts_with("{{") => (2, Err(b'{')),
                '}' if rest.starts_with("}}") => (2, Err(b'}')),
                '{' => {
                    let end = rest.find('}').ok_or("a { is never closed; write {{ for the brace itself")?;
                    (end + 1, Ok(Piece::parse(rest.get(1..end).unwrap_or_default())?))
                }
                '\\' => (2, Err(escape(rest.as_bytes().get(1).copied())?)),
                c => {
                    let mut bytes = [0; 4];
                    plain.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes());
                    rest = rest.get(c.len_utf8()..).unwrap_or_default();
                    continue;
                }
            };
            match piece {
                Err(byte) => plain.push(byte),
                Ok(piece) => {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(piece);
                }
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Ok(Self { pieces })
    }

    /// Writes a record. A null key or value is written as nothing.
    pub(crate) fn write(&self, record: RecordRef<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Topic => out.extend_from_slice(record.topic().as_bytes()),
                Piece::Partition => out.extend_from_slice(record.partition().to_string().as_bytes()),
                Piece::Offset => out.extend_from_slice(record.offset().to_string().as_bytes()),
                Piece::Timestamp => out.extend_from_slice(record.timestamp_ms().to_string().as_bytes()),
                Piece::Key => out.extend_from_slice(record.key().unwrap_or_default()),
                Piece::Value => out.extend_from_slice(record.value().unwrap_or_default()),
                Piece::Headers => write_headers(record, out),
                Piece::Header(name) => {
                    let found = record.headers().filter(|(key, _)| *key == name.as_bytes()).last();
                    out.extend_from_slice(found.and_then(|(_, value)| value).unwrap_or_default());
                }
            }
        }
    }
}

impl Piece {
    fn parse(field: &str) -> Result<Self, String> {
        Ok(match field {
            "topic" => Self::Topic,
            "partition" => Self::Partition,
            "offset" => Self::Offset,
            "timestamp" => Self::Timestamp,
            "key" => Self::Key,
            "value" => Self::Value,
            "headers" => Self::Headers,
            _ => match field.strip_prefix("header:") {
                Some(name) if !name.is_empty() => Self::Header(name.to_owned()),
                _ => {
                    return Err(format!(
                        "there is no field {{{field}}}: use key, value, topic, partition, offset, timestamp, headers \
                         or header:NAME"
                    ));
                }
            },
        })
    }
}

fn escape(byte: Option<u8>) -> Result<u8, String> {
    match byte {
        Some(b'n') => Ok(b'\n'),
        Some(b't') => Ok(b'\t'),
        Some(b'0') => Ok(0),
        Some(b'\\') => Ok(b'\\'),
        _ => Err("only \\n, \\t, \\0 and \\\\ are known after a backslash".to_owned()),
    }
}

fn write_headers(record: RecordRef<'_>, out: &mut Vec<u8>) {
    for (at, (key, value)) in record.headers().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read() {
        let template = Template::parse(r"{{{offset}}} {key}\t{header:a}é\n").unwrap();
        let expected = [
            Piece::Text(b"{".to_vec()),
            Piece::Offset,
            Piece::Text(b"} ".to_vec()),
            Piece::Key,
            Piece::Text(b"\t".to_vec()),
            Piece::Header("a".to_owned()),
            Piece::Text("é\n".as_bytes().to_vec()),
        ];
        assert_eq!(template.pieces, expected);
        for bad in ["{", "{nonsense}", "{header:}", "\\", r"\q", "{}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
