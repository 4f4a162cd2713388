//! A dead-letter policy bound to a topic: it decides what becomes of records that failed.

use std::fmt;
use std::sync::Arc;

use crate::answer;
use crate::binding::{Binding, Loaded, Setup, asked, context};
use crate::call_error::CallError;
use crate::columns::Columns;
use crate::contract::Said;
use crate::digest::Digest;
use crate::manifest::{Manifest, shorten};
use crate::partitioner::log;
use crate::reads::{Fact, Reads};

/// Longest delay that a policy may ask for: 7 days.
const DELAY_MS_MAX: i64 = 7 * 24 * 60 * 60 * 1000;
/// Longest name of a topic.
const TARGET_BYTES_MAX: usize = 249;

/// What is to become of a record that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// What happens without a policy.
    Default,
    /// It is tried again, at consumers.
    Retry {
        /// After so long; none: at once.
        delay_ms: Option<u64>,
    },
    /// It goes to a dead-letter topic.
    DeadLetter {
        /// Which; none: the first of the binding.
        target: Option<String>,
    },
    /// It is forgotten, where the binding allows it.
    Drop,
    /// It and what follows of its key wait, at consumers.
    Park {
        /// For so long; none: until an operator says so.
        delay_ms: Option<u64>,
    },
    /// Its partition waits, at consumers.
    Pause {
        /// For so long; none: until an operator says so.
        delay_ms: Option<u64>,
    },
    /// Its producer gets an error, on produce.
    Reject,
    /// It is stored as it is, on produce.
    Accept,
}

/// Where the failures were; nothing else about them reaches the policy besides their columns.
#[derive(Debug, Clone, Copy)]
pub struct FailureContext<'a> {
    /// Name of the topic.
    pub topic: &'a str,
    /// At which point of their way: produce, share, group, view or redrive.
    pub stage: &'a str,
}

/// A dead-letter policy for one topic. Calls block and may come from any thread.
pub struct DeadLetterPolicy {
    binding: Binding,
}

impl DeadLetterPolicy {
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

    /// Which parts of a record, and which facts, the columns must hold.
    pub fn reads(&self) -> &Reads {
        self.binding.reads()
    }

    /// Asks what is to become of failures: one action for each, in their order. Blocks for as long as the limits allow.
    pub fn decide(&self, context_of: &FailureContext<'_>, columns: &Columns) -> Result<Vec<Action>, CallError> {
        let mut pairs = context(self.reads(), context_of.topic, "");
        pairs.retain(|(name, _)| *name != "partition");
        if self.reads().facts.contains(&Fact::Stage) {
            pairs.push(("stage", context_of.stage));
        }
        let mut actions = Vec::with_capacity(columns.len());
        self.binding.ask(
            columns,
            size_of::<u8>(),
            |plugin, store, chunk| plugin.decide(store, asked(chunk, &pairs)),
            |chunk, said: Said<u8>, bytes_max| {
                let (expected, found) = (chunk.records, said.numbers.len());
                if found != expected {
                    return Err(CallError::WrongCount { expected, found });
                }
                let columns = answer::Columns::check(said.columns, expected, bytes_max)?;
                log(self.digest(), &columns.log);
                for (at, &number) in said.numbers.iter().enumerate() {
                    actions.push(action(number, at, &columns)?);
                }
                Ok(())
            },
        )?;
        Ok(actions)
    }
}

/// An action by its number. One that no version knows yet counts as what happens without a policy.
fn action(number: u8, at: usize, columns: &answer::Columns) -> Result<Action, CallError> {
    Ok(match number {
        1 => Action::Retry { delay_ms: delay_ms(at, columns)? },
        2 => Action::DeadLetter { target: target(at, columns)? },
        3 => Action::Drop,
        4 => Action::Park { delay_ms: delay_ms(at, columns)? },
        5 => Action::Pause { delay_ms: delay_ms(at, columns)? },
        6 => Action::Reject,
        7 => Action::Accept,
        _ => Action::Default,
    })
}

fn delay_ms(at: usize, columns: &answer::Columns) -> Result<Option<u64>, CallError> {
    let column = columns.delay_ms.as_ref();
    let long = column.and_then(|bytes| bytes.as_chunks::<8>().0.get(at)).map_or(-1, |long| i64::from_le_bytes(*long));
    match long {
        -1 => Ok(None),
        0..=DELAY_MS_MAX => Ok(Some(long as u64)),
        other => Err(answer::wrong(format!("a delay of {other} ms, 0 to {DELAY_MS_MAX} are allowed"))),
    }
}

fn target(at: usize, columns: &answer::Columns) -> Result<Option<String>, CallError> {
    let Some(name) = columns.target.as_ref().and_then(|column| column.piece_slowly(at)) else { return Ok(None) };
    match std::str::from_utf8(name) {
        Ok(name) if name.len() <= TARGET_BYTES_MAX => Ok(Some(name.to_owned())),
        _ => Err(answer::wrong(format!(
            "the target {:?} is no name of a topic",
            shorten(&String::from_utf8_lossy(name))
        ))),
    }
}

impl fmt::Debug for DeadLetterPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterPolicy")
            .field("digest", self.digest())
            .field("config", &self.binding.config())
            .finish_non_exhaustive()
    }
}
