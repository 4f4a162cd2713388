//! What a dead-letter policy is.

use crate::answer::{ColumnSaid, Pieces};
use crate::assets::Assets;
use crate::reads::Reads;
use crate::record::{Batch, Record, kind};

/// Decides what becomes of records that failed. Make it a plugin with [`dead_letter_policy!`](crate::dead_letter_policy!).
///
/// The same failure should always get the same answer: there is no clock and no randomness inside.
pub trait DeadLetterPolicy: Sized {
    /// Which parts of a record, and which facts about its failure, are looked at.
    const READS: Reads;

    /// More pairs for the manifest. Name, version and description of the crate are there anyway.
    const MANIFEST: &'static [(&'static str, &'static str)] = &[];

    /// Takes the topic's `ottla.dead.letter.config`, the empty text where none is set. An error refuses the configuration
    /// and is shown to the user who set it.
    fn new(config: &str) -> Result<Self, String>;

    /// The same with the assets that `MANIFEST` asks for.
    fn with_assets(config: &str, _assets: Assets<'_>) -> Result<Self, String> {
        Self::new(config)
    }

    /// What becomes of one record that failed.
    fn decide(&self, failed: &Record<'_>) -> Action;

    /// The same for all failures of a call, for rules that look at more than one: one action for each, in their order.
    fn decide_batch(&self, batch: &Batch<'_>, actions: &mut Actions) -> Result<(), String> {
        for failed in batch {
            actions.push(self.decide(&failed));
        }
        Ok(())
    }
}

/// What becomes of a record that failed. One that is not possible at its stage counts as [`Action::Default`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// What happens without a policy.
    Default,
    /// It is tried again, at consumers; at once, or after so many milliseconds.
    Retry(Option<u64>),
    /// It goes to this dead-letter topic of the binding, or to the first of them.
    DeadLetter(Option<String>),
    /// It is forgotten, where the binding allows it.
    Drop,
    /// It and what follows of its key wait, at consumers, for so many milliseconds or until an operator says so.
    Park(Option<u64>),
    /// Its partition waits, at consumers, for so many milliseconds or until an operator says so.
    Pause(Option<u64>),
    /// Its producer gets an error, on produce.
    Reject,
    /// It is stored as it is, on produce.
    Accept,
}

/// The actions for the failures of a call.
#[derive(Debug, Default)]
pub struct Actions {
    numbers: Vec<u8>,
    delays_ms: Vec<i64>,
    targets: Pieces,
}

impl Actions {
    /// What becomes of the next failure.
    pub fn push(&mut self, action: Action) {
        let at = self.numbers.len();
        let mut delay = |delay_ms: Option<u64>| {
            self.delays_ms.resize(at, -1);
            self.delays_ms.push(delay_ms.map_or(-1, |ms| i64::try_from(ms).unwrap_or(i64::MAX)));
        };
        self.numbers.push(match action {
            Action::Default => 0,
            Action::Retry(delay_ms) => {
                delay(delay_ms);
                1
            }
            Action::DeadLetter(target) => {
                if let Some(target) = target {
                    self.targets.set(at, Some(target.as_bytes()));
                }
                2
            }
            Action::Drop => 3,
            Action::Park(delay_ms) => {
                delay(delay_ms);
                4
            }
            Action::Pause(delay_ms) => {
                delay(delay_ms);
                5
            }
            Action::Reject => 6,
            Action::Accept => 7,
        });
    }

    /// One number per failure, and the columns.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))] // only a component answers
    pub(crate) fn finish(mut self) -> (Vec<u8>, Vec<ColumnSaid>) {
        let failures = self.numbers.len();
        let mut columns: Vec<ColumnSaid> = Vec::new();
        if !self.delays_ms.is_empty() {
            self.delays_ms.resize(failures, -1);
            let bytes = self.delays_ms.iter().flat_map(|delay| delay.to_le_bytes()).collect();
            columns.push((kind::DELAY_MS, bytes, Vec::new()));
        }
        columns.extend(self.targets.column(kind::TARGET, failures));
        (self.numbers, columns)
    }
}

/// Makes a type that implements [`DeadLetterPolicy`] the plugin of this crate, whose `crate-type` must be
/// `cdylib`. On other targets than WebAssembly it only checks the type, so that `cargo test` works.
#[macro_export]
macro_rules! dead_letter_policy {
    ($plugin:ty) => {
        $crate::__plugin!($plugin, DeadLetterPolicy, policy, {
            fn decide(
                context: Pairs,
                failure_count: u32,
                columns: ::std::vec::Vec<Column>,
            ) -> ::std::result::Result<Answer, ::std::string::String> {
                PLUGIN.with_borrow(|plugin| kind::decide(plugin.as_ref(), &context, failure_count, &columns))
            }
        });
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_and_targets_are_told_where_there_are_some() {
        let mut actions = Actions::default();
        for action in [
            Action::Default,
            Action::DeadLetter(Some("dlq.a".to_owned())),
            Action::Retry(Some(5)),
            Action::Park(None),
            Action::Drop,
            Action::Reject,
            Action::Accept,
        ] {
            actions.push(action);
        }
        let (numbers, columns) = actions.finish();
        assert_eq!(numbers, [0, 2, 1, 4, 3, 6, 7]);
        let delays = [-1_i64, -1, 5, -1, -1, -1, -1].iter().flat_map(|delay| delay.to_le_bytes()).collect();
        let targets = vec![-2, 5, -2, -2, -2, -2, -2];
        assert_eq!(columns, [(80, delays, vec![]), (81, b"dlq.a".to_vec(), targets)]);
    }
}
