//! What a guest says about records besides its numbers, checked: nothing of it is believed before.

use crate::call_error::CallError;
use crate::columns::{ABSENT, Flat, NULL, kind};
use crate::contract::ColumnSaid;
use crate::manifest::shorten;

/// Columns of an answer at most.
const COLUMNS_MAX: usize = 16;
/// Bytes of a reason at most.
const REASON_BYTES_MAX: i32 = 1024;
/// Lines that a guest may log with one answer; more are passed over.
const LOG_LINES_MAX: usize = 64;

/// A record that a plugin refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the batch.
    pub record: usize,
    /// For machines: one of the codes that the manifest declares.
    pub code: Option<String>,
    /// For people.
    pub reason: String,
    /// Whether the plugin wants it dead-lettered, rather than its batch refused.
    pub dead_letter: bool,
}

/// The columns of an answer, each with as many entries as it has to have.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) key: Option<Flat>,
    pub(crate) value: Option<Flat>,
    pub(crate) headers: Option<HeadersSaid>,
    reason: Option<Flat>,
    code: Option<Flat>,
    pub(crate) delay_ms: Option<Vec<u8>>,
    pub(crate) target: Option<Flat>,
    pub(crate) log: Vec<String>,
}

/// New headers of some records.
#[derive(Debug, Default)]
pub(crate) struct HeadersSaid {
    /// How many each record gets; [`ABSENT`] where it keeps its own.
    pub(crate) counts: Vec<i32>,
    pub(crate) names: Flat,
    pub(crate) values: Flat,
}

impl Columns {
    /// Checks the columns of an answer for so many records, of at most so many bytes.
    pub(crate) fn check(said: Vec<ColumnSaid>, records: usize, bytes_max: usize) -> Result<Self, CallError> {
        if said.len() > COLUMNS_MAX {
            return Err(wrong(format!("{} columns, {COLUMNS_MAX} are allowed", said.len())));
        }
        let bytes: usize = said.iter().map(|column| column.bytes.len() + size_of_val(&*column.lengths)).sum();
        if bytes > bytes_max {
            return Err(wrong(format!("{bytes} bytes, {bytes_max} are allowed for this call")));
        }
        let mut columns = Self::default();
        let (mut counts, mut names, mut values) = (None, None, None);
        for ColumnSaid { kind, bytes, lengths } in said {
            let flat = Flat { bytes, lengths };
            match kind {
                kind::KEY => once(&mut columns.key, kind, pieces(flat, kind, records)?)?,
                kind::VALUE => once(&mut columns.value, kind, pieces(flat, kind, records)?)?,
                kind::REASON => once(&mut columns.reason, kind, pieces(flat, kind, records)?)?,
                kind::CODE => once(&mut columns.code, kind, pieces(flat, kind, records)?)?,
                kind::TARGET => once(&mut columns.target, kind, pieces(flat, kind, records)?)?,
                kind::HEADER_COUNTS => once(&mut counts, kind, ints(flat, kind, records)?)?,
                kind::HEADER_NAMES => once(&mut names, kind, flat)?,
                kind::HEADER_VALUES => once(&mut values, kind, flat)?,
                kind::DELAY_MS if flat.bytes.len() == records * size_of::<i64>() => {
                    once(&mut columns.delay_ms, kind, flat.bytes)?;
                }
                kind::DELAY_MS => return Err(wrong(format!("column {kind} has {} bytes", flat.bytes.len()))),
                kind::LOG => columns.log = lines(&flat),
                // Of a later version of the contract.
                _ => {}
            }
        }
        columns.headers = headers(counts, names, values)?;
        Ok(columns)
    }

    /// Why a record was refused. Codes that the manifest does not declare would be labels without bound.
    pub(crate) fn refused(
        &self,
        at: usize,
        first: usize,
        codes: &[String],
        dead_letter: bool,
    ) -> Result<Refused, CallError> {
        let record = first + at;
        let piece =
            |column: &Option<Flat>| column.as_ref().and_then(|column| column.piece_slowly(at)).map(<[u8]>::to_vec);
        let reason = piece(&self.reason).unwrap_or_default();
        if reason.len() > REASON_BYTES_MAX as usize {
            return Err(wrong(format!("a reason of {} bytes, {REASON_BYTES_MAX} are allowed", reason.len())));
        }
        let code = piece(&self.code).map(|code| String::from_utf8_lossy(&code).into_owned());
        if let Some(unknown) = code.as_ref().filter(|code| !codes.contains(code)) {
            let declared = if codes.is_empty() { "none".to_owned() } else { codes.join(", ") };
            let what =
                format!("record {record} has the code {:?}; `codes` of the manifest has {declared}", shorten(unknown));
            return Err(wrong(what));
        }
        let reason = String::from_utf8_lossy(&reason);
        let reason = if reason.is_empty() { "the plugin gave no reason".to_owned() } else { told(&reason) };
        Ok(Refused { record, code, reason, dead_letter })
    }
}

/// A reason without control characters.
fn told(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

pub(crate) fn wrong(what: String) -> CallError {
    CallError::WrongAnswer { what }
}

fn once<T>(place: &mut Option<T>, kind: u32, found: T) -> Result<(), CallError> {
    if place.replace(found).is_some() {
        return Err(wrong(format!("column {kind} is there twice")));
    }
    Ok(())
}

/// Pieces for each record whose lengths add up to their bytes.
fn pieces(flat: Flat, kind: u32, records: usize) -> Result<Flat, CallError> {
    if flat.lengths.len() != records {
        return Err(wrong(format!("column {kind} has {} lengths for {records} records", flat.lengths.len())));
    }
    sound(flat, kind, ABSENT)
}

fn sound(flat: Flat, kind: u32, least: i32) -> Result<Flat, CallError> {
    if let Some(length) = flat.lengths.iter().find(|length| **length < least) {
        return Err(wrong(format!("column {kind} has the length {length}")));
    }
    let bytes: usize = flat.lengths.iter().map(|&length| usize::try_from(length).unwrap_or(0)).sum();
    if bytes != flat.bytes.len() {
        return Err(wrong(format!(
            "the lengths of column {kind} add up to {bytes}, it has {} bytes",
            flat.bytes.len()
        )));
    }
    Ok(flat)
}

fn ints(flat: Flat, kind: u32, records: usize) -> Result<Vec<i32>, CallError> {
    if flat.lengths.len() != records || !flat.bytes.is_empty() {
        let (lengths, bytes) = (flat.lengths.len(), flat.bytes.len());
        return Err(wrong(format!("column {kind} has {lengths} numbers for {records} records, and {bytes} bytes")));
    }
    Ok(flat.lengths)
}

fn headers(
    counts: Option<Vec<i32>>,
    names: Option<Flat>,
    values: Option<Flat>,
) -> Result<Option<HeadersSaid>, CallError> {
    let Some(counts) = counts else {
        return match (names, values) {
            (None, None) => Ok(None),
            _ => Err(wrong(format!("headers without column {}", kind::HEADER_COUNTS))),
        };
    };
    if let Some(count) = counts.iter().find(|count| **count < 0 && **count != ABSENT) {
        return Err(wrong(format!("a header count of {count}")));
    }
    let headers: usize = counts.iter().map(|&count| usize::try_from(count).unwrap_or(0)).sum();
    let (names, values) = (names.unwrap_or_default(), values.unwrap_or_default());
    if names.lengths.len() != headers || values.lengths.len() != headers {
        let (names, values) = (names.lengths.len(), values.lengths.len());
        return Err(wrong(format!("{headers} headers are counted, there are {names} names and {values} values")));
    }
    let names = sound(names, kind::HEADER_NAMES, 0)?;
    let values = sound(values, kind::HEADER_VALUES, NULL)?;
    Ok(Some(HeadersSaid { counts, names, values }))
}

fn lines(flat: &Flat) -> Vec<String> {
    let mut bytes = &flat.bytes[..];
    let mut lines = Vec::new();
    for &length in flat.lengths.iter().take(LOG_LINES_MAX) {
        let Some((line, rest)) = bytes.split_at_checked(usize::try_from(length).unwrap_or(0)) else { break };
        bytes = rest;
        lines.push(shorten(&String::from_utf8_lossy(line)));
    }
    lines
}

impl Flat {
    /// The piece of one entry, for the few that are refused: all before it are walked.
    pub(crate) fn piece_slowly(&self, at: usize) -> Option<&[u8]> {
        let before: usize = self.lengths.iter().take(at).map(|&length| usize::try_from(length).unwrap_or(0)).sum();
        let length = usize::try_from(*self.lengths.get(at)?).ok()?;
        self.bytes.get(before..before + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: u32, bytes: &[u8], lengths: &[i32]) -> ColumnSaid {
        ColumnSaid { kind, bytes: bytes.to_vec(), lengths: lengths.to_vec() }
    }

    fn checked(columns: Vec<ColumnSaid>) -> Result<Columns, CallError> {
        Columns::check(columns, 2, 1000)
    }

    #[test]
    fn each_way_of_lying_is_told_apart() {
        let cases = [
            (vec![said(2, b"ab", &[1])], "column 2 has 1 lengths for 2 records"),
            (vec![said(2, b"ab", &[1, 2])], "the lengths of column 2 add up to 3, it has 2 bytes"),
            (vec![said(2, b"ab", &[i32::MAX, i32::MAX])], "the lengths of column 2 add up to 4294967294"),
            (vec![said(2, b"", &[-3, -1])], "column 2 has the length -3"),
            (vec![said(2, b"", &[-1, -1]), said(2, b"", &[-1, -1])], "column 2 is there twice"),
            (vec![said(4, b"", &[1, 0])], "1 headers are counted, there are 0 names and 0 values"),
            (vec![said(4, b"", &[-1, 0])], "a header count of -1"),
            (vec![said(4, b"x", &[0, 0])], "2 numbers for 2 records, and 1 bytes"),
            (vec![said(5, b"", &[])], "headers without column 4"),
            (vec![said(80, b"1234567", &[])], "column 80 has 7 bytes"),
            (vec![said(2, &[0; 999], &[999, 0])], "1007 bytes, 1000 are allowed"),
            ((0..17).map(|kind| said(900 + kind, b"", &[])).collect(), "17 columns, 16 are allowed"),
        ];
        for (columns, told) in cases {
            let error = checked(columns).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_a_later_contract_has_is_passed_over() {
        assert!(checked(vec![said(999, b"anything", &[-7, 3])]).is_ok());
    }

    #[test]
    fn a_reason_is_shown_and_a_code_must_be_declared() {
        let columns = vec![said(40, b"bad\x1bkey", &[-1, 7]), said(41, b"keyother", &[3, 5])];
        let columns = checked(columns).unwrap();
        let codes = ["key".to_owned()];
        let first = columns.refused(0, 10, &codes, true).unwrap();
        let none = "the plugin gave no reason".to_owned();
        assert_eq!(first, Refused { record: 10, code: Some("key".to_owned()), reason: none, dead_letter: true });
        let error = columns.refused(1, 10, &codes, false).unwrap_err().to_string();
        assert!(error.contains(r#"record 11 has the code "other"; `codes` of the manifest has key"#), "{error}");
        let long = checked(vec![said(40, &[b'x'; 900], &[0, 900])]).unwrap();
        assert_eq!(long.refused(1, 0, &[], false).unwrap().reason.len(), 900);
    }
}
