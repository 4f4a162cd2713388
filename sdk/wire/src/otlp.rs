//! What a client pushes (KIP-714): `MetricsData` of OpenTelemetry's protocol, version 1, as protobuf.
//!
//! Only what a broker shows is read: the numbers of gauges and sums with their attributes. Reading allocates for the attributes
//! of one point at a time and is linear in the bytes, however they are nested: the depth of the messages is that of this code.

use std::fmt::Write;

/// A number that a client measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<'a> {
    /// The metric, such as `org.apache.kafka.producer.connection.creation.rate`.
    pub metric: &'a str,
    /// What the number is about, as `name=value` with commas in between; empty where it is about all of the client.
    pub attributes: String,
    /// The number.
    pub value: f64,
}

/// Why the metrics of a client do not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the metrics are no MetricsData of OpenTelemetry: {0}")]
pub struct OtlpError(&'static str);

/// Hands every number in `bytes` to `take`, in order. Returns how many metrics were passed over because they are no numbers that
/// count from the start of the client: histograms, summaries, and sums that only say the difference to the push before.
pub fn points<'a>(bytes: &'a [u8], mut take: impl FnMut(Point<'a>)) -> Result<usize, OtlpError> {
    const RESOURCE_METRICS: u32 = 1;
    const SCOPE_METRICS: u32 = 2;
    const METRICS: u32 = 2;
    let mut passed_over = 0;
    for resource in messages(bytes, RESOURCE_METRICS) {
        for scope in messages(resource?, SCOPE_METRICS) {
            for metric in messages(scope?, METRICS) {
                passed_over += usize::from(!read_metric(metric?, &mut take)?);
            }
        }
    }
    Ok(passed_over)
}

/// Whether the metric has numbers that can be shown.
fn read_metric<'a>(bytes: &'a [u8], take: &mut impl FnMut(Point<'a>)) -> Result<bool, OtlpError> {
    const NAME: u32 = 1;
    const GAUGE: u32 = 5;
    const SUM: u32 = 7;
    const POINTS: u32 = 1;
    const TEMPORALITY: u32 = 2;
    const DELTA: u64 = 1;
    let (mut name, mut numbers) = ("", None);
    for field in Fields(bytes) {
        match field? {
            (NAME, Value::Bytes(bytes)) => name = text(bytes)?,
            (GAUGE | SUM, Value::Bytes(bytes)) => numbers = Some(bytes),
            _ => {}
        }
    }
    let Some(numbers) = numbers else { return Ok(false) };
    let delta = |field: &Result<_, _>| matches!(field, Ok((TEMPORALITY, Value::Number(DELTA))));
    if Fields(numbers).any(|field| delta(&field)) {
        return Ok(false);
    }
    for point in messages(numbers, POINTS) {
        if let Some((attributes, value)) = read_point(point?)? {
            take(Point { metric: name, attributes, value });
        }
    }
    Ok(true)
}

/// The attributes and the number; none for a point that has no number.
fn read_point(bytes: &[u8]) -> Result<Option<(String, f64)>, OtlpError> {
    const AS_DOUBLE: u32 = 4;
    const AS_INT: u32 = 6;
    const ATTRIBUTES: u32 = 7;
    let (mut attributes, mut value) = (String::new(), None);
    for field in Fields(bytes) {
        match field? {
            (AS_DOUBLE, Value::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
            (AS_INT, Value::Fixed64(bits)) => value = Some(bits.cast_signed() as f64),
            (ATTRIBUTES, Value::Bytes(bytes)) => read_attribute(bytes, &mut attributes)?,
            _ => {}
        }
    }
    Ok(value.map(|value| (attributes, value)))
}

fn read_attribute(bytes: &[u8], out: &mut String) -> Result<(), OtlpError> {
    const KEY: u32 = 1;
    const VALUE: u32 = 2;
    const TEXT: u32 = 1;
    const BOOL: u32 = 2;
    const INT: u32 = 3;
    const DOUBLE: u32 = 4;
    let (mut key, mut value) = ("", None);
    for field in Fields(bytes) {
        match field? {
            (KEY, Value::Bytes(bytes)) => key = text(bytes)?,
            (VALUE, Value::Bytes(bytes)) => value = Some(bytes),
            _ => {}
        }
    }
    let comma = if out.is_empty() { "" } else { "," };
    // Writing to a text cannot fail.
    let _ = write!(out, "{comma}{key}=");
    for field in Fields(value.unwrap_or_default()) {
        let _ = match field? {
            (TEXT, Value::Bytes(bytes)) => write!(out, "{}", text(bytes)?),
            (BOOL, Value::Number(number)) => write!(out, "{}", number != 0),
            (INT, Value::Number(number)) => write!(out, "{}", number.cast_signed()),
            (DOUBLE, Value::Fixed64(bits)) => write!(out, "{}", f64::from_bits(bits)),
            // Lists, maps and bytes: no client of Kafka has them.
            _ => Ok(()),
        };
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, OtlpError> {
    std::str::from_utf8(bytes).map_err(|_| OtlpError("a text is not UTF-8"))
}

/// The messages in a field that repeats.
fn messages(bytes: &[u8], wanted: u32) -> impl Iterator<Item = Result<&[u8], OtlpError>> {
    Fields(bytes).filter_map(move |field| match field {
        Ok((number, Value::Bytes(bytes))) if number == wanted => Some(Ok(bytes)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// The value of a field, by its wire type.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a protobuf message. Ends with the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u32, Value<'a>), OtlpError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| OtlpError("a field has no number"))?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| OtlpError("a length is too large"))?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                self.array::<4>()?;
                Value::Fixed32
            }
            _ => return Err(OtlpError("a wire type does not exist")),
        };
        Ok((number, value))
    }

    fn varint(&mut self) -> Result<u64, OtlpError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(OtlpError("a number is too long"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], OtlpError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(OtlpError("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], OtlpError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(OtlpError("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), OtlpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        varint(number << 3 | 2, &mut out);
        varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    }

    fn fixed64(number: u64, bits: u64) -> Vec<u8> {
        let mut out = Vec::new();
        varint(number << 3 | 1, &mut out);
        out.extend_from_slice(&bits.to_le_bytes());
        out
    }

    fn number(number: u64, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        varint(number << 3, &mut out);
        varint(value, &mut out);
        out
    }

    fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
        field(7, &[field(1, key.as_bytes()), field(2, value)].concat())
    }

    fn data(metrics: &[Vec<u8>]) -> Vec<u8> {
        let metrics: Vec<u8> = metrics.iter().flat_map(|metric| field(2, metric)).collect();
        field(1, &[field(1, b""), field(2, &metrics)].concat())
    }

    /// Metric, attributes and number.
    type Found = (String, String, f64);

    fn read(bytes: &[u8]) -> Result<(Vec<Found>, usize), OtlpError> {
        let mut found = Vec::new();
        let passed_over = points(bytes, |point| found.push((point.metric.to_owned(), point.attributes, point.value)))?;
        Ok((found, passed_over))
    }

    #[test]
    fn gauges_and_sums_are_read_with_their_attributes() {
        let gauge = [fixed64(4, 1.5_f64.to_bits()), attribute("node", &number(3, 7)), attribute("t", &field(1, b"x"))];
        let gauge = [field(1, b"a.gauge"), field(5, &field(1, &gauge.concat()))].concat();
        let sum = [field(1, &fixed64(6, (-3_i64).cast_unsigned())), number(2, 2), number(3, 1)].concat();
        let sum = [field(1, b"a.sum"), field(7, &sum)].concat();
        let (found, passed_over) = read(&data(&[gauge, sum])).unwrap();
        let expected = [("a.gauge", "node=7,t=x", 1.5), ("a.sum", "", -3.0)];
        assert_eq!(found, expected.map(|(name, about, value)| (name.to_owned(), about.to_owned(), value)));
        assert_eq!(passed_over, 0);
    }

    #[test]
    fn histograms_and_differences_are_passed_over_and_counted() {
        let histogram = [field(1, b"h"), field(9, b"")].concat();
        let delta = [field(1, b"d"), field(7, &[field(1, &fixed64(6, 1)), number(2, 1)].concat())].concat();
        assert_eq!(read(&data(&[histogram, delta])).unwrap(), (Vec::new(), 2));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let point = [fixed64(4, 1.5_f64.to_bits()), attribute("node", &field(1, b"1"))].concat();
        let whole = data(&[[field(1, b"a.gauge"), field(5, &field(1, &point))].concat()]);
        for end in 1..whole.len() {
            assert!(read(&whole[..end]).is_err(), "cut at {end}");
        }
        assert!(read(&[0xff; 40]).is_err());
        assert_eq!(
            read(b"\x0a\xff\xff\xff\xff\x0f").unwrap_err().to_string(),
            OtlpError("it ends too early").to_string()
        );
    }
}
