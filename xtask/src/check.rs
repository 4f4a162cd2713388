//! `cargo xtask test`: set up, build, run every suite, count. The last line is the one to read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::shell::{SELECTION, Shell, cargo, shell};
use crate::suite::{self, Counts, Outcome};
use crate::{guests, layers, prove, setup, wheel};

/// No suite is worth waiting longer for: the whole run has 40 minutes on two cores.
const SUITE_LIMIT: Duration = Duration::from_mins(10);
const BUILD_LIMIT: Duration = Duration::from_mins(30);

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

    let suites = suites(root)?;
    // Lints are pure computation and the suites mostly wait for disks and timers, so they share the machine.
    let lints = std::thread::scope(|scope| {
        let lints = scope.spawn(|| lints(root, &wanted));
        for suite in suites.iter().filter(|suite| wanted(&suite.name)) {
            let run = shell(&suite.program, &[]).at(&suite.package);
            outcomes.push(suite::run(root, &suite.name, run, Counts::Cargo, SUITE_LIMIT));
        }
        if wanted("prove") {
            let prove = prove::program(root).args(&["--size", "commit"]);
            outcomes.push(suite::run(root, "prove", prove, Counts::Prove, SUITE_LIMIT));
        }
        if wanted("python") {
            outcomes.push(python(root));
        }
        lints.join().unwrap_or_default()
    });
    outcomes.extend(lints);
    if wanted("doctests") {
        let doctests = cargo(root, &["test", "--doc", "--no-fail-fast"]).args(SELECTION);
        outcomes.push(suite::run(root, "doctests", doctests, Counts::Cargo, SUITE_LIMIT));
    }
    Ok(summary(&outcomes, started))
}

/// The gates alone, or those whose name contains one of `names`.
pub(crate) fn lint(root: &Path, names: &[String]) -> ExitCode {
    let started = Instant::now();
    let outcomes = lints(root, &|lint| names.is_empty() || names.iter().any(|name| lint.contains(name.as_str())));
    summary(&outcomes, started)
}

fn list(root: &Path) -> Result<()> {
    for suite in suites(root)? {
        println!("{}", suite.name);
    }
    println!("prove\npython\nfmt\nclippy\ndoc\nlayers\ndeny\ndoctests");
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
    let broker_and_tests = cargo(root, &["build", "--bins", "--tests"]).args(SELECTION);
    failed(suite::run(root, "build", broker_and_tests, Counts::ExitCode, BUILD_LIMIT));
    failed(suite::run(root, "build-canary", prove::canaries(root), Counts::ExitCode, BUILD_LIMIT));
    if let Err(error) = guests::build(root) {
        failed(Outcome::broken("build-plugins", &error));
    }
    if let Err(error) = wheel::build(root).and_then(|wheel| wheel::install(root, &wheel)) {
        failed(Outcome::broken("build-wheel", &error));
    }
    outcomes
}

/// One test program. Run by itself, it does not wait for the lock that clippy holds.
struct Suite {
    name: String,
    program: PathBuf,
    /// Cargo runs tests in the directory of their package, and so do we.
    package: PathBuf,
}

/// Every test program of the workspace, the crates' own tests first.
fn suites(root: &Path) -> Result<Vec<Suite>> {
    let words = ["build", "--bins", "--tests", "--quiet", "--message-format=json"];
    let messages = cargo(root, &words).args(SELECTION).quiet().context("the tests do not compile")?;
    let mut suites: Vec<Suite> = messages.lines().filter_map(suite).collect();
    suites.sort_by_key(|suite| (suite.package.ends_with("tests"), suite.name.clone()));
    Ok(suites)
}

/// A test program out of one of Cargo's messages.
fn suite(message: &str) -> Option<Suite> {
    // What a program was built as is in its profile; `test` of its target says only what it could be.
    if !between(message, "\"profile\":{", "}")?.contains("\"test\":true") {
        return None;
    }
    let program = PathBuf::from(between(message, "\"executable\":\"", "\"")?);
    let package = Path::new(between(message, "\"manifest_path\":\"", "\"")?).parent()?.to_path_buf();
    let target = between(message, "\"target\":{", "}")?;
    let (kind, name) = (between(target, "\"kind\":[\"", "\"")?, between(target, "\"name\":\"", "\"")?);
    let crate_name = package_name(between(message, "\"package_id\":\"", "\"")?)?;
    let name = match kind {
        "test" if crate_name == "ottla-tests" => name.to_owned(),
        "test" => format!("{crate_name}-{name}"),
        "bin" => format!("{crate_name}-bin-{name}"),
        _ => crate_name.to_owned(),
    };
    Some(Suite { name, program, package })
}

/// `path+file:///…/broker/log#ottla-log@0.1.0`, or `path+file:///…/xtask#0.1.0` where the directory has the name.
fn package_name(id: &str) -> Option<&str> {
    let (path, version) = id.rsplit_once('#')?;
    match version.split_once('@') {
        Some((name, _)) => Some(name),
        None => path.rsplit('/').next(),
    }
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
    if wanted("layers") {
        outcomes.push(match layers::check(root) {
            Ok(()) => Outcome::passed("layers"),
            Err(error) => Outcome::broken("layers", &error),
        });
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_in_the_messages_of_cargo() {
        let message = r#"{"reason":"compiler-artifact","package_id":"path+file:///c/broker/log#ottla-log@0.1.0","manifest_path":"/c/broker/log/Cargo.toml","target":{"kind":["test"],"crate_types":["bin"],"name":"journal","src_path":"/c/x.rs","test":true},"profile":{"opt_level":"3","test":true},"features":[],"filenames":[],"executable":"/c/target/release/deps/journal-1","fresh":true}"#;
        let found = suite(message).expect("a test program");
        assert_eq!(found.name, "ottla-log-journal");
        assert_eq!(found.program, Path::new("/c/target/release/deps/journal-1"));
        assert_eq!(found.package, Path::new("/c/broker/log"));
        let binary = message.replace(r#""test":true},"features""#, r#""test":false},"features""#);
        assert!(suite(&binary).is_none(), "the broker itself is no test");
        assert_eq!(package_name("path+file:///c/xtask#0.1.0"), Some("xtask"));
    }
}
