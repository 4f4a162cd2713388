//! A serializer bound to a topic: it accepts, rewrites or refuses each record before it is stored, and turns stored records
//! into what a view shows.

use std::fmt;
use std::sync::Arc;

use crate::answer::{self, Refused, wrong};
use crate::binding::{Binding, Loaded, Setup, asked, context};
use crate::call_error::CallError;
use crate::columns::{ABSENT, Columns, Flat};
use crate::contract::Said;
use crate::digest::Digest;
use crate::manifest::{Function, Manifest, Shape};
use crate::partitioner::{Context, log, partition_text};
use crate::reads::Reads;

/// The numbers of the verdicts, as `plugins/wit/README.md` lists them.
mod verdict {
    pub(super) const ACCEPT: u8 = 0;
    pub(super) const REWRITE: u8 = 1;
    pub(super) const REJECT: u8 = 2;
    pub(super) const DEAD_LETTER: u8 = 3;
    pub(super) const DROP: u8 = 4;
}

/// A serializer for one topic. Calls block and may come from any thread.
pub struct Serializer {
    binding: Binding,
}

/// What a serializer says about the records of a batch.
#[derive(Debug, Default)]
pub struct Serialized {
    /// Records it refuses, in the order of the batch.
    pub refused: Vec<Refused>,
    /// How many records it rewrites.
    pub rewritten: usize,
    calls: Vec<Call>,
}

/// The answer to one call.
#[derive(Debug)]
struct Call {
    records: usize,
    /// Empty: all are accepted.
    verdicts: Vec<u8>,
    columns: answer::Columns,
}

/// What is to become of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It stays as it is.
    Accept,
    /// Parts of it are replaced.
    Rewrite(Rewrite<'a>),
    /// It is refused: [`Serialized::refused`] has the reason.
    Refuse,
    /// A view does not show it.
    Drop,
}

/// New parts of a record. What is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite<'a> {
    /// The key, null where the inner one is none.
    pub key: Option<Option<&'a [u8]>>,
    /// The value.
    pub value: Option<Option<&'a [u8]>>,
    /// All headers: names and values.
    pub headers: Option<Vec<NewHeader<'a>>>,
}

/// Name and value of a header; the value may be null.
pub type NewHeader<'a> = (&'a [u8], Option<&'a [u8]>);

impl Serializer {
    pub(crate) fn new(plugin: Arc<Loaded>, setup: Setup) -> Result<Self, CallError> {
        Ok(Self { binding: Binding::new(plugin, setup)? })
    }

    /// The plugin's name in the store.
    pub fn digest(&self) -> &Digest {
        self.binding.digest()
    }

    /// Linear memory of its instances, those that wait for a call included, in bytes.
    pub fn memory_held_bytes(&self) -> u64 {
        self.binding.memory_held_bytes()
    }

    /// What the plugin says about itself.
    pub fn manifest(&self) -> &Manifest {
        self.binding.manifest()
    }

    /// Which parts of a record the columns must hold.
    pub fn reads(&self) -> &Reads {
        self.binding.reads()
    }

    /// Asks what is to be stored. Blocks for as long as the limits allow.
    pub fn encode(&self, context_of: &Context<'_>, columns: &Columns) -> Result<Serialized, CallError> {
        self.ask(Function::Encode, context_of, columns)
    }

    /// Asks what a view shows. Blocks for as long as the limits allow.
    pub fn decode(&self, context_of: &Context<'_>, columns: &Columns) -> Result<Serialized, CallError> {
        self.ask(Function::Decode, context_of, columns)
    }

    fn ask(&self, function: Function, context_of: &Context<'_>, columns: &Columns) -> Result<Serialized, CallError> {
        let partition = partition_text(self.reads(), context_of);
        let pairs = context(self.reads(), context_of.topic, &partition);
        let may_drop = function == Function::Decode && self.manifest().shape == Shape::MayDrop;
        let mut serialized = Serialized::default();
        self.binding.ask(
            columns,
            size_of::<u8>(),
            |plugin, store, chunk| match function {
                Function::Encode => plugin.encode(store, asked(chunk, &pairs)),
                Function::Decode => plugin.decode(store, asked(chunk, &pairs)),
            },
            |chunk, said: Said<u8>, bytes_max| {
                let (expected, found) = (chunk.records, said.numbers.len());
                if found != expected && found != 0 {
                    return Err(CallError::WrongCount { expected, found });
                }
                let columns = answer::Columns::check(said.columns, expected, bytes_max)?;
                log(self.digest(), &columns.log);
                for (at, &number) in said.numbers.iter().enumerate() {
                    match number {
                        verdict::ACCEPT => {}
                        verdict::REWRITE => serialized.rewritten += 1,
                        verdict::REJECT | verdict::DEAD_LETTER => {
                            let dead_letter = number == verdict::DEAD_LETTER;
                            let codes = &self.manifest().codes;
                            serialized.refused.push(columns.refused(at, chunk.first, codes, dead_letter)?);
                        }
                        verdict::DROP if may_drop => {}
                        other => return Err(wrong(format!("record {} has the verdict {other}", chunk.first + at))),
                    }
                }
                serialized.calls.push(Call { records: expected, verdicts: said.numbers, columns });
                Ok(())
            },
        )?;
        Ok(serialized)
    }
}

impl Serialized {
    /// Whether every record stays as it is.
    pub fn is_accepted(&self) -> bool {
        self.refused.is_empty() && self.calls.iter().all(|call| call.verdicts.iter().all(|it| *it == verdict::ACCEPT))
    }

    /// The verdict on every record, in the order of the batch.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict<'_>> {
        self.calls.iter().flat_map(|call| Verdicts { call, at: 0, walk: Walk::default() })
    }
}

/// The verdicts of one call.
struct Verdicts<'a> {
    call: &'a Call,
    at: usize,
    walk: Walk,
}

/// Where the pieces of the next record begin.
#[derive(Debug, Default)]
struct Walk {
    key: usize,
    value: usize,
    header: usize,
    header_names: usize,
    header_values: usize,
}

impl<'a> Iterator for Verdicts<'a> {
    type Item = Verdict<'a>;

    fn next(&mut self) -> Option<Verdict<'a>> {
        if self.at == self.call.records {
            return None;
        }
        let rewrite = self.rewrite();
        let number = self.call.verdicts.get(self.at).copied().unwrap_or(verdict::ACCEPT);
        self.at += 1;
        Some(match number {
            verdict::ACCEPT => Verdict::Accept,
            verdict::REWRITE => Verdict::Rewrite(rewrite),
            verdict::DROP => Verdict::Drop,
            _ => Verdict::Refuse,
        })
    }
}

impl<'a> Verdicts<'a> {
    /// The pieces of the next record, whatever its verdict: they are walked either way.
    fn rewrite(&mut self) -> Rewrite<'a> {
        let columns = &self.call.columns;
        let part =
            |flat: &'a Option<Flat>, walked: &mut usize| flat.as_ref().and_then(|flat| piece(flat, self.at, walked));
        let key = part(&columns.key, &mut self.walk.key);
        let value = part(&columns.value, &mut self.walk.value);
        let headers = columns.headers.as_ref().and_then(|said| {
            let count = said.counts.get(self.at).copied().filter(|count| *count != ABSENT)?;
            let walk = &mut self.walk;
            let headers = (0..count).map(|_| {
                let name = piece(&said.names, walk.header, &mut walk.header_names).flatten().unwrap_or_default();
                let value = piece(&said.values, walk.header, &mut walk.header_values).flatten();
                walk.header += 1;
                (name, value)
            });
            Some(headers.collect())
        });
        Rewrite { key, value, headers }
    }
}

/// A piece and, in `walked`, where the next one begins. The outer none: unchanged; the inner one: null.
#[expect(clippy::option_option, reason = "absent, null, or bytes")]
fn piece<'a>(flat: &'a Flat, at: usize, walked: &mut usize) -> Option<Option<&'a [u8]>> {
    let length = *flat.lengths.get(at)?;
    if length == ABSENT {
        return None;
    }
    let Ok(length) = usize::try_from(length) else { return Some(None) };
    let piece = flat.bytes.get(*walked..*walked + length);
    *walked += length;
    Some(piece)
}

impl fmt::Debug for Serializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serializer")
            .field("digest", self.digest())
            .field("config", &self.binding.config())
            .finish_non_exhaustive()
    }
}
