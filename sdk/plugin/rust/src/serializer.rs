//! What a serializer is.

use crate::answer::{ColumnSaid, Pieces, Refusal, Refusals};
use crate::assets::Assets;
use crate::reads::Reads;
use crate::record::{ABSENT, Batch, Record, kind};

/// Checks and rewrites records before they are stored. Make it a plugin with [`serializer!`](crate::serializer!).
///
/// The same record should always get the same verdict: the broker may throw an instance away and start another at any
/// time, and several may serve one topic at once.
pub trait Serializer: Sized {
    /// Which parts of a record are looked at. Reading less makes the plugin faster.
    const READS: Reads;

    /// The codes that refusals may have: letters a to z, digits, `.` and `-`, at most 48 of them each.
    const CODES: &'static [&'static str] = &[];

    /// Whether it has a [`decode`](Self::decode) for views.
    const DECODES: bool = false;

    /// More pairs for the manifest, such as `("config.schema", "{…}")` or `("limits.memory-bytes", "1048576")`. Name,
    /// version and description of the crate are there anyway.
    const MANIFEST: &'static [(&'static str, &'static str)] = &[];

    /// Takes the topic's `ottla.serializer.config`, the empty text where none is set. An error refuses the configuration
    /// and is shown to the user who set it.
    fn new(config: &str) -> Result<Self, String>;

    /// The same with the assets that `MANIFEST` asks for.
    fn with_assets(config: &str, _assets: Assets<'_>) -> Result<Self, String> {
        Self::new(config)
    }

    /// What is to be stored of one record.
    fn encode(&self, record: &Record<'_>) -> Verdict;

    /// What a view shows of one stored record.
    fn decode(&self, _record: &Record<'_>) -> Verdict {
        Verdict::Accept
    }

    /// The verdicts on a batch, for rules that look at more than one record: one for each, in their order. An error fails
    /// the batch.
    fn encode_batch(&self, batch: &Batch<'_>, verdicts: &mut Verdicts) -> Result<(), String> {
        for record in batch {
            verdicts.push(self.encode(&record));
        }
        Ok(())
    }

    /// The same for views.
    fn decode_batch(&self, batch: &Batch<'_>, verdicts: &mut Verdicts) -> Result<(), String> {
        for record in batch {
            verdicts.push(self.decode(&record));
        }
        Ok(())
    }
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Accept,
    /// Parts of it are replaced.
    Rewrite(Rewrite),
    /// Its producer gets an error, for the whole batch.
    Reject(Refusal),
    /// It goes to a dead-letter topic where the topic has one; otherwise it is rejected.
    DeadLetter(Refusal),
    /// A view does not show it; for `decode` alone, with `("shape", "may-drop")` in `MANIFEST`.
    Drop,
}

/// New parts of a record; the others stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::option_option, reason = "kept, null, or bytes")]
pub struct Rewrite {
    key: Option<Option<Vec<u8>>>,
    value: Option<Option<Vec<u8>>>,
    headers: Option<Vec<NewHeader>>,
}

/// Name and value of a header; the value may be null.
pub type NewHeader = (Vec<u8>, Option<Vec<u8>>);

impl Rewrite {
    /// With another value.
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(Some(value.into())), ..Self::default() }
    }

    /// With another key.
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(Some(key.into())), ..Self::default() }
    }

    /// With these headers in place of all that it has.
    pub fn headers(headers: impl Into<Vec<NewHeader>>) -> Self {
        Self { headers: Some(headers.into()), ..Self::default() }
    }

    /// With a null value.
    pub fn null_value() -> Self {
        Self { value: Some(None), ..Self::default() }
    }

    /// Both: what `other` replaces is replaced by it.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { key: other.key.or(self.key), value: other.value.or(self.value), headers: other.headers.or(self.headers) }
    }
}

/// The verdicts on a batch.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// Empty as long as all are accepted.
    numbers: Vec<u8>,
    records: usize,
    key: Pieces,
    value: Pieces,
    header_counts: Vec<i32>,
    header_names: Pieces,
    header_values: Pieces,
    headers: usize,
    refusals: Refusals,
}

impl Verdicts {
    /// The verdict on the next record.
    pub fn push(&mut self, verdict: Verdict) {
        let at = self.records;
        self.records += 1;
        let number = match verdict {
            Verdict::Accept if self.numbers.is_empty() => return,
            Verdict::Accept => 0,
            Verdict::Rewrite(rewrite) => {
                self.rewrite(at, &rewrite);
                1
            }
            Verdict::Reject(refusal) => {
                self.refusals.set(at, &refusal);
                2
            }
            Verdict::DeadLetter(refusal) => {
                self.refusals.set(at, &refusal);
                3
            }
            Verdict::Drop => 4,
        };
        self.numbers.resize(at, 0);
        self.numbers.push(number);
    }

    fn rewrite(&mut self, at: usize, rewrite: &Rewrite) {
        if let Some(key) = &rewrite.key {
            self.key.set(at, key.as_deref());
        }
        if let Some(value) = &rewrite.value {
            self.value.set(at, value.as_deref());
        }
        if let Some(headers) = &rewrite.headers {
            self.header_counts.resize(at, ABSENT);
            self.header_counts.push(headers.len() as i32);
            for (name, value) in headers {
                self.header_names.set(self.headers, Some(name));
                self.header_values.set(self.headers, value.as_deref());
                self.headers += 1;
            }
        }
    }

    /// One number per record, or none where all are accepted, and the columns.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))] // only a component answers
    pub(crate) fn finish(self) -> (Vec<u8>, Vec<ColumnSaid>) {
        let records = self.records;
        let mut columns: Vec<ColumnSaid> = Vec::new();
        columns.extend(self.key.column(kind::KEY, records));
        columns.extend(self.value.column(kind::VALUE, records));
        if !self.header_counts.is_empty() {
            let mut counts = self.header_counts;
            counts.resize(records, ABSENT);
            columns.push((kind::HEADER_COUNTS, Vec::new(), counts));
            columns.extend(self.header_names.column(kind::HEADER_NAMES, self.headers));
            columns.extend(self.header_values.column(kind::HEADER_VALUES, self.headers));
        }
        columns.extend(self.refusals.columns(records));
        (self.numbers, columns)
    }

    /// How many verdicts there are.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }
}

/// Makes a type that implements [`Serializer`] the plugin of this crate, whose `crate-type` must be
/// `cdylib`. On other targets than WebAssembly it only checks the type, so that `cargo test` works.
#[macro_export]
macro_rules! serializer {
    ($plugin:ty) => {
        $crate::__plugin!($plugin, Serializer, serializer, {
            fn encode(
                context: Pairs,
                record_count: u32,
                columns: ::std::vec::Vec<Column>,
            ) -> ::std::result::Result<Answer, ::std::string::String> {
                PLUGIN.with_borrow(|plugin| kind::encode(plugin.as_ref(), &context, record_count, &columns))
            }

            fn decode(
                context: Pairs,
                record_count: u32,
                columns: ::std::vec::Vec<Column>,
            ) -> ::std::result::Result<Answer, ::std::string::String> {
                PLUGIN.with_borrow(|plugin| kind::decode(plugin.as_ref(), &context, record_count, &columns))
            }
        });
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_accepted_is_nothing_said() {
        let mut verdicts = Verdicts::default();
        (0..10).for_each(|_| verdicts.push(Verdict::Accept));
        assert_eq!((verdicts.len(), verdicts.finish()), (10, (Vec::new(), Vec::new())));
    }

    #[test]
    fn what_is_rewritten_and_refused_has_columns() {
        let mut verdicts = Verdicts::default();
        let headers = vec![(b"h".to_vec(), None), (b"i".to_vec(), Some(b"1".to_vec()))];
        verdicts.push(Verdict::Accept);
        verdicts.push(Verdict::Rewrite(Rewrite::value("new").and(Rewrite::headers(headers))));
        verdicts.push(Verdict::Reject(Refusal::new("schema", "no name")));
        verdicts.push(Verdict::Accept);
        let (numbers, columns) = verdicts.finish();
        assert_eq!(numbers, [0, 1, 2, 0]);
        let expected = [
            (2, b"new".to_vec(), vec![-2, 3, -2, -2]),
            (4, vec![], vec![-2, 2, -2, -2]),
            (5, b"hi".to_vec(), vec![1, 1]),
            (6, b"1".to_vec(), vec![-1, 1]),
            (40, b"no name".to_vec(), vec![-2, -2, 7, -2]),
            (41, b"schema".to_vec(), vec![-2, -2, 6, -2]),
        ];
        assert_eq!(columns, expected);
    }
}
