//! What came of a test: counts, violations with their seeds, and the lines that people read.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// A broken promise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Violation {
    /// The case: `--seed <seed> --cases <cases>` runs it again.
    pub seed: u64,
    /// How many cases in a row from that seed on it takes.
    pub cases: u64,
    /// What happened.
    pub what: String,
}

/// What came of a number of cases.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Cases that ran.
    pub cases: u64,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Those of them that are gone, or other bytes stand at their offset.
    pub lost: u64,
    /// Records that are there more than once.
    pub duplicated: u64,
    /// Everything else that broke the promise.
    pub violations: Vec<Violation>,
    /// Cases that could not be judged: something outside the promise failed.
    pub troubles: Vec<Violation>,
    /// Figures worth keeping.
    pub notes: Vec<String>,
    /// Why nothing ran.
    pub not_run: Option<String>,
    /// Kinds of cases that did not run, and why; the others did.
    pub partly: Vec<String>,
}

impl Outcome {
    /// A test that this machine cannot run.
    pub fn not_run(why: impl Into<String>) -> Outcome {
        Outcome { not_run: Some(why.into()), ..Outcome::default() }
    }

    /// Whether every case ran and kept the promise.
    pub fn is_proven(&self) -> bool {
        self.violations.is_empty() && self.troubles.is_empty() && self.not_run.is_none() && self.cases > 0
    }

    /// Enters a broken promise.
    pub fn violation(&mut self, seed: u64, cases: u64, what: impl Into<String>) {
        self.violations.push(Violation { seed, cases, what: what.into() });
    }
}

/// What came of one canary.
#[derive(Clone, Debug, Serialize)]
pub struct CanaryVerdict {
    /// The promise that was broken on purpose.
    pub promise: String,
    /// Whether the harness noticed.
    pub red: bool,
    /// After how many cases, or why not.
    pub what: String,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The test's name.
    pub test: String,
    /// What it shows.
    pub shows: String,
    /// The seed of the run.
    pub seed: u64,
    /// How long it took, canaries included, in milliseconds.
    pub took_ms: u128,
    /// What came of it.
    pub outcome: Outcome,
    /// What its canaries did.
    pub canaries: Vec<CanaryVerdict>,
}

/// The three things that can come of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every case kept the promise and every canary was noticed.
    Proven,
    /// A case broke it, could not be judged, or a canary went unnoticed.
    Failed,
    /// This machine cannot run it.
    NotRun,
}

impl Line {
    /// What came of it in one word.
    pub fn verdict(&self) -> Verdict {
        if self.outcome.not_run.is_some() {
            Verdict::NotRun
        } else if self.outcome.is_proven() && self.canaries.iter().all(|canary| canary.red) {
            Verdict::Proven
        } else {
            Verdict::Failed
        }
    }

    /// The line, and below it what failed and how to run it again.
    pub fn text(&self, size: &str) -> String {
        let Line { test, seed, took_ms, outcome, canaries, .. } = self;
        let word = match self.verdict() {
            Verdict::Proven => "proven",
            Verdict::Failed => "FAILED",
            Verdict::NotRun => "not run",
        };
        let Outcome { cases, acknowledged, lost, duplicated, .. } = outcome;
        let mut text = format!(
            "{test:<16} {word:<7} {cases:>6} cases {acknowledged:>9} acknowledged {lost:>5} lost {duplicated:>4} duplicated \
             {:>4} violations {:>6.1} s  seed {seed}",
            outcome.violations.len(),
            *took_ms as f64 / 1000.0,
        );
        for canary in canaries {
            let colour = if canary.red { "red" } else { "NOT RED: the run is invalid" };
            let _ = write!(text, "\n                 canary {}: {colour} ({})", canary.promise, canary.what);
        }
        for line in outcome.not_run.iter().chain(&outcome.partly) {
            let _ = write!(text, "\n                 not run: {line}");
        }
        for note in &outcome.notes {
            let _ = write!(text, "\n                 {note}");
        }
        let failures = outcome.violations.iter().map(|it| ("broken", it));
        let failures: Vec<_> = failures.chain(outcome.troubles.iter().map(|it| ("trouble", it))).collect();
        for (kind, failure) in failures.iter().take(SHOWN_MAX) {
            let again =
                format!("cargo xtask prove {test} --size {size} --seed {} --cases {}", failure.seed, failure.cases);
            let _ = write!(text, "\n                 {kind}: {}\n                 again: {again}", failure.what);
        }
        if failures.len() > SHOWN_MAX {
            let _ = write!(text, "\n                 and {} more", failures.len() - SHOWN_MAX);
        }
        text
    }
}

/// Failures of one test that are printed; the JSON report has all of them.
const SHOWN_MAX: usize = 5;
