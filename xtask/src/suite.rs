//! One suite: a command whose output is kept in a file, counted, and shown only when something failed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::shell::{Ended, Shell};

/// Tests write one line per test they could not run, and why, into the file that this variable names.
const SKIPS_VARIABLE: &str = "OTTLA_SKIPS";

/// How to read what a suite prints.
#[derive(Clone, Copy)]
pub(crate) enum Counts {
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`, any number of such lines.
    Cargo,
    /// `2 failed, 10 passed, 1 skipped in 3.21s`.
    Pytest,
    /// `9 proven, 1 failed, 2 not run`, with a line about each of them above.
    Prove,
    /// It has no tests inside: the exit code is the one result.
    ExitCode,
}

/// What came of one suite.
#[derive(Default, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) suite: String,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// Why tests were skipped, a line each.
    pub(crate) reasons: Vec<String>,
    pub(crate) seconds: u64,
}

impl Outcome {
    /// A suite that could not be run at all, because something it needs is not there.
    pub(crate) fn not_run(suite: &str, why: &str) -> Outcome {
        Outcome { suite: suite.to_owned(), skipped: 1, reasons: vec![format!("{suite}: {why}")], ..Outcome::default() }
    }

    /// One result, and that is good.
    pub(crate) fn passed(suite: &str) -> Outcome {
        Outcome { suite: suite.to_owned(), passed: 1, ..Outcome::default() }
    }

    pub(crate) fn broken(suite: &str, why: &anyhow::Error) -> Outcome {
        println!("---- {suite}\n{why:#}\n----");
        Outcome { suite: suite.to_owned(), failed: 1, ..Outcome::default() }
    }

    pub(crate) fn line(&self) -> String {
        let Outcome { suite, passed, failed, skipped, seconds, .. } = self;
        format!("{suite:<44} {passed:>5} passed {failed:>4} failed {skipped:>4} skipped {seconds:>5} s")
    }
}

/// Runs `shell` as the suite `name`, prints one line, or everything it said when something failed.
pub(crate) fn run(root: &Path, name: &str, shell: Shell, counts: Counts, limit: Duration) -> Outcome {
    match attempt(root, name, shell, counts, limit) {
        Ok(outcome) => {
            println!("{}", outcome.line());
            outcome
        }
        Err(error) => Outcome::broken(name, &error),
    }
}

fn attempt(root: &Path, name: &str, shell: Shell, counts: Counts, limit: Duration) -> Result<Outcome> {
    let logs = root.join("target/test-logs");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("{name}.log"));
    let skips = logs.join(format!("{name}.skips"));
    fs::write(&skips, "")?;

    let words = shell.words().to_owned();
    let started = Instant::now();
    let ended = shell.env(SKIPS_VARIABLE, &skips).logged(&log, limit)?;
    let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();

    let mut outcome = count(&output, counts);
    name.clone_into(&mut outcome.suite);
    outcome.seconds = started.elapsed().as_secs();
    take_skips(&mut outcome, &skips)?;
    let trouble = match ended {
        Ended::TimedOut => Some(format!("ended after {} s", limit.as_secs())),
        Ended::Exited(status) if !status.success() => Some(status.to_string()),
        Ended::Exited(_) => None,
    };
    match (counts, &trouble) {
        (Counts::ExitCode, None) => outcome.passed = 1,
        // A suite that stopped before it could count its failures has at least this one.
        (_, Some(_)) if outcome.failed == 0 => outcome.failed = 1,
        _ => {}
    }
    if outcome.failed > 0 {
        println!("---- {name}: {words}\n{output}---- {name}: {}", trouble.unwrap_or_default());
    }
    Ok(outcome)
}

/// Tests that found at run time that they cannot run have counted as passed: they are moved over.
fn take_skips(outcome: &mut Outcome, skips: &PathBuf) -> Result<()> {
    for line in fs::read_to_string(skips)?.lines() {
        outcome.passed = outcome.passed.saturating_sub(1);
        outcome.skipped += 1;
        outcome.reasons.push(line.to_owned());
    }
    Ok(())
}

fn count(output: &str, counts: Counts) -> Outcome {
    let mut outcome = Outcome::default();
    for line in output.lines() {
        match counts {
            Counts::Cargo => {
                if let Some(result) = line.strip_prefix("test result: ") {
                    outcome.passed += number_before(result, "passed");
                    outcome.failed += number_before(result, "failed");
                    outcome.skipped += number_before(result, "ignored");
                } else if let Some((test, _)) = line.split_once(" ... ignored") {
                    outcome.reasons.push(format!(
                        "{}: marked #[ignore]{}",
                        test.trim_start_matches("test "),
                        reason(line)
                    ));
                }
            }
            Counts::Pytest => {
                let is_summary = line.contains(" in ") && line.contains(" passed")
                    || line.contains(" in ") && line.contains(" failed")
                    || line.contains(" in ") && line.contains(" error");
                if is_summary {
                    outcome.passed = number_before(line, "passed");
                    outcome.failed = number_before(line, "failed") + number_before(line, "error");
                    outcome.skipped = number_before(line, "skipped");
                } else if line.starts_with("SKIPPED") {
                    outcome.reasons.push(line.to_owned());
                }
            }
            Counts::Prove if line.ends_with(" not run") => {
                // Those that did not run have left their reasons, and are moved over with them.
                outcome.passed = number_before(line, "proven") + number_before(line, "not run");
                outcome.failed = number_before(line, "failed");
            }
            Counts::Prove | Counts::ExitCode => {}
        }
    }
    outcome
}

/// `… ignored, takes an hour` → `, takes an hour`.
fn reason(line: &str) -> &str {
    line.split_once("ignored").map_or("", |(_, reason)| reason)
}

/// The number in front of the first `word`: `12` of `ok. 12 passed; 0 failed`.
fn number_before(text: &str, word: &str) -> usize {
    let Some(at) = text.find(word) else { return 0 };
    text[..at].split_whitespace().next_back().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cargo_result_line_counts() {
        let output = "running 3 tests\ntest a ... ok\ntest slow ... ignored, takes an hour\n\
                      test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s\n\
                      test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let outcome = count(output, Counts::Cargo);
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (7, 2, 1));
        assert_eq!(outcome.reasons, ["slow: marked #[ignore], takes an hour"]);
    }

    #[test]
    fn the_pytest_summary_counts_errors_as_failures() {
        let output = "....F.\nSKIPPED [1] test_x.py:3: no broker\n\
                      ===== 1 failed, 10 passed, 1 skipped, 2 errors in 3.21s =====\n";
        let outcome = count(output, Counts::Pytest);
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (10, 3, 1));
        assert_eq!(outcome.reasons.len(), 1);
    }

    #[test]
    fn what_is_not_proven_on_this_machine_is_counted_by_its_reason() {
        let output =
            "t01 proven 20 cases\nt02 not run 0 cases\n     not run: no loop devices\n1 proven, 0 failed, 1 not run\n";
        let outcome = count(output, Counts::Prove);
        assert_eq!((outcome.passed, outcome.failed), (2, 0));
    }

    #[test]
    fn output_without_results_counts_nothing() {
        assert_eq!(count("error: could not compile `ottla-log`\n", Counts::Cargo), Outcome::default());
        assert_eq!(count("12 passed\n", Counts::ExitCode), Outcome::default());
    }
}
