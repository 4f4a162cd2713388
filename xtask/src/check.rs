//! `cargo xtask test`: set up, build, run every suite, count. The last line is the one to read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::shell::{Shell, cargo, shell};
use crate::suite::{self, Counts, Outcome};
use crate::{guests, setup, wheel};

/// No suite is worth waiting longer for: the whole run has 40 minutes on two cores.
const SUITE_LIMIT: Duration = Duration::from_mins(10);
const BUILD_LIMIT: Duration = Duration::from_mins(30);

/// Crates with tests inside. The whole-system tests, the wheel and the guests have suites of their own.
const NOT_IN_CRATES: &[&str] = &["ottla-tests", "ottla-python"];

/// Runs the suites whose name contains one of `names` (all, when there are none).
pub(crate) fn test(root: &Path, names: &[String]) -> Result<ExitCode> {
    let started = Instant::now();
    let wanted = |suite: &str| names.is_empty() || names.iter().any(|name| suite.contains(name.as_str()));
    if names.iter().any(|name| name == "list") {
        list(root)?;
        return Ok(ExitCode::SUCCESS);
    }

    let missing = setup::run(root)?;
    let mut outcomes = Vec::new();
    for thing in &missing {
        outcomes.push(Outcome::not_run(thing.what, &thing.why));
    }

    println!("building the broker, the tests, the plugins and the wheel …");
    outcomes.extend(build(root));
    println!("built after {} s", started.elapsed().as_secs());

    if wanted("crates") {
        outcomes.push(crates(root));
    }
    let suites = system_suites(root)?;
    // Lints are pure computation and the suites mostly wait for disks and timers, so they share the machine.
    let lints = std::thread::scope(|scope| {
        let lints = scope.spawn(|| lints(root, &wanted));
        for (name, binary) in suites.iter().filter(|(name, _)| wanted(name)) {
            let run = shell(binary, &[]).at(&root.join("tests"));
            outcomes.push(suite::run(root, name, run, Counts::Cargo, SUITE_LIMIT));
        }
        if wanted("python") {
            outcomes.push(python(root));
        }
        lints.join().unwrap_or_default()
    });
    outcomes.extend(lints);
    Ok(summary(&outcomes, started))
}

/// The gates alone.
pub(crate) fn lint(root: &Path) -> ExitCode {
    let started = Instant::now();
    let outcomes = lints(root, &|_| true);
    summary(&outcomes, started)
}

fn list(root: &Path) -> Result<()> {
    println!("crates");
    let manifest = fs::read_to_string(root.join("tests/Cargo.toml"))?;
    let mut in_test = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_test = line == "[[test]]";
        } else if let (true, Some(name)) = (in_test, line.strip_prefix("name = ")) {
            println!("{}", name.trim_matches('"'));
        }
    }
    println!("python\nfmt\nclippy\ndoc\ndeny");
    Ok(())
}

/// Everything is compiled before the first test runs. Only what failed leaves an outcome here.
fn build(root: &Path) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut failed = |outcome: Outcome| {
        if outcome.failed > 0 {
            outcomes.push(outcome);
        }
    };
    let release = ["build", "--release", "--package", "ottla-broker", "--bin"];
    let broker = cargo(root, &release).args(&["ottla"]);
    let canary = cargo(root, &release).args(&["ottla-canary", "--features", "canary-no-fsync"]);
    for (name, command) in [("build-broker", broker), ("build-canary", canary), ("build-crates", crate_tests(root))] {
        failed(suite::run(root, name, command, Counts::ExitCode, BUILD_LIMIT));
    }
    if let Err(error) = guests::build(root) {
        failed(Outcome::broken("build-plugins", &error));
    }
    if let Err(error) = wheel::build(root).and_then(|wheel| wheel::install(root, &wheel)) {
        failed(Outcome::broken("build-wheel", &error));
    }
    outcomes
}

fn crate_tests(root: &Path) -> Shell {
    let command = cargo(root, &["test", "--release", "--no-fail-fast", "--workspace", "--no-run"]);
    NOT_IN_CRATES.iter().fold(command, |command, package| command.args(&["--exclude", package]))
}

fn crates(root: &Path) -> Outcome {
    let command = cargo(root, &["test", "--release", "--no-fail-fast", "--workspace"]);
    let command = NOT_IN_CRATES.iter().fold(command, |command, package| command.args(&["--exclude", package]));
    suite::run(root, "crates", command, Counts::Cargo, BUILD_LIMIT)
}

/// The whole-system tests, as programs: run without cargo, they do not wait for the lock that clippy holds.
fn system_suites(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let words = ["test", "--release", "--package", "ottla-tests", "--no-run", "--message-format=json"];
    let messages = cargo(root, &words).quiet().context("the whole-system tests do not compile")?;
    let mut suites: Vec<(String, PathBuf)> = messages
        .lines()
        .filter_map(|message| {
            let executable = between(message, "\"executable\":\"", "\"")?;
            let kind = between(message, "\"kind\":[\"", "\"")?;
            let name = between(message, "\"target\":", "}").and_then(|target| between(target, "\"name\":\"", "\""))?;
            let name = if kind == "lib" { "harness" } else { name };
            Some((name.to_owned(), PathBuf::from(executable)))
        })
        .collect();
    suites.sort();
    Ok(suites)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(&rest[..rest.find(after)?])
}

fn python(root: &Path) -> Outcome {
    let python = root.join("target/venv-ottla/bin/python");
    if !python.exists() {
        return Outcome::not_run("python", "there is no environment with the wheel in it (target/venv-ottla)");
    }
    let pytest =
        shell(python, &["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "bindings/python/tests"]).at(root);
    suite::run(root, "python", pytest, Counts::Pytest, SUITE_LIMIT)
}

fn lints(root: &Path, wanted: &(dyn Fn(&str) -> bool + Sync)) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut gate = |name: &str, command: Shell| {
        if wanted(name) {
            outcomes.push(suite::run(root, name, command, Counts::ExitCode, BUILD_LIMIT));
        }
    };
    gate("fmt", cargo(root, &["fmt", "--all", "--check"]));
    let clippy = ["clippy", "--release", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    gate("clippy", cargo(root, &clippy));
    let doc = cargo(root, &["doc", "--release", "--workspace", "--no-deps", "--quiet", "--document-private-items"]);
    gate("doc", doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"));
    let deny = root.join("target/tools/bin/cargo-deny");
    if deny.exists() {
        gate("deny", shell(deny, &["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]).at(root));
    } else if wanted("deny") {
        outcomes.push(Outcome::not_run("deny", "cargo-deny is not installed (target/tools)"));
    }
    outcomes
}

fn summary(outcomes: &[Outcome], started: Instant) -> ExitCode {
    println!("\n{:=<80}", "");
    for outcome in outcomes {
        println!("{}", outcome.line());
    }
    for reason in outcomes.iter().flat_map(|outcome| &outcome.reasons) {
        println!("skipped: {reason}");
    }
    let total = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let failed = total(|outcome| outcome.failed);
    println!("took {} s", started.elapsed().as_secs());
    println!(
        "{} passed, {failed} failed, {} skipped",
        total(|outcome| outcome.passed),
        total(|outcome| outcome.skipped)
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
