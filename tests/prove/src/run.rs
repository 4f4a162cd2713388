//! Running tests and their canaries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Parser;
use ottla_tests::broker::Builder;
use ottla_tests::{Broker, artifact};

use crate::report::{CanaryVerdict, Line, Outcome, Verdict, Violation};
use crate::seed::Seed;
use crate::tests::{ALL, Size, Test};
use crate::{t10_crash_points, t29_old_formats};

/// Which promise a canary breaks.
const CANARY: &str = "OTTLA_CANARY";

/// Fault tests with counts, seeds and canaries.
#[derive(Debug, Parser)]
struct Arguments {
    /// How much is run
    #[arg(long, value_enum, default_value = "commit")]
    size: Size,
    /// The seed of the run; without one it follows from the clock
    #[arg(long)]
    seed: Option<u64>,
    /// Cases of each test, instead of what the size asks for
    #[arg(long)]
    cases: Option<u64>,
    /// Writes the report as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leaves the canaries out: for finding a fault, proves nothing
    #[arg(long)]
    no_canaries: bool,
    /// Keeps data directories of this build as those of release VERSION, in tests/prove/formats
    #[arg(long, value_name = "VERSION")]
    keep_format: Option<String>,
    /// Does one thing to a log directory: what a test of crashes runs and kills
    #[arg(long, hide = true, requires = "at")]
    act: Option<String>,
    /// The log directory of `--act`
    #[arg(long, hide = true)]
    at: Option<PathBuf>,
    /// Runs one test as it is and prints its outcome as JSON: how a canary is run
    #[arg(long, hide = true)]
    raw: bool,
    /// Tests whose name contains one of these (all, when there are none), or `list`
    names: Vec<String>,
}

/// How a test runs its cases.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The broker.
    pub program: PathBuf,
    /// The promise that it breaks on purpose.
    pub canary: Option<String>,
    /// How many cases.
    pub cases: u64,
    /// Where they begin.
    pub seed: u64,
    /// Whether everything is run that there is to run.
    pub size: Size,
}

impl Setting {
    /// A sound broker, for making data.
    pub(crate) fn sound() -> Setting {
        Setting { program: artifact::ottla(), canary: None, cases: 1, seed: 1, size: Size::Commit }
    }

    /// A broker to be started.
    pub fn broker(&self) -> Builder {
        let builder = Broker::builder().program(self.program.clone());
        self.canary.iter().fold(builder, |builder, promise| builder.env(CANARY, promise))
    }

    /// Whether a canary has been noticed, so that no more cases are needed.
    pub fn is_decided(&self, outcome: &Outcome) -> bool {
        self.canary.is_some() && !outcome.violations.is_empty()
    }

    /// Runs cases, `together` of them at a time, each time with the seed that brings them back. A panic is trouble.
    pub fn each(&self, outcome: &mut Outcome, together: u64, mut run: impl FnMut(u64, u64, &mut Outcome)) {
        let mut begun = 0;
        while begun < self.cases && !self.is_decided(outcome) && outcome.troubles.len() < TROUBLES_MAX {
            let now = together.min(self.cases - begun);
            let seed = Seed::of_case(self.seed, begun / together);
            begun += now;
            let caught = catch_unwind(AssertUnwindSafe(|| run(seed, now, outcome)));
            if let Err(panic) = caught {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                outcome.troubles.push(Violation { seed, cases: now, what: text.unwrap_or_default() });
            }
        }
    }
}

/// After this many cases that could not be judged a test stops.
const TROUBLES_MAX: usize = 5;

/// The program.
pub fn main() -> ExitCode {
    // A panic is caught and reported with its case; where it came from is one line.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    match prove(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prove(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.names.iter().any(|name| name == "list") {
        for Test { name, shows, cases: [commit, night, release], .. } in ALL {
            println!("{name:<16} {commit:>6} / {night:>6} / {release:>6}  {shows}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(act), Some(at)) = (&arguments.act, &arguments.at) {
        t10_crash_points::act(act, at)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(version) = &arguments.keep_format {
        t29_old_formats::keep(version)?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted: Vec<&Test> = ALL.iter().filter(|test| is_wanted(test, arguments)).collect();
    if wanted.is_empty() {
        bail!("no test is called so; `list` shows them");
    }
    if arguments.raw {
        return raw(arguments, &wanted);
    }
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs());
    let seed = arguments.seed.unwrap_or_else(clock);
    let size = format!("{:?}", arguments.size).to_lowercase();
    let mut lines = Vec::new();
    for test in wanted {
        let line = one(test, arguments, seed);
        println!("{}", line.text(&size));
        lines.push(line);
    }
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&lines)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let count = |verdict| lines.iter().filter(|line| line.verdict() == verdict).count();
    let failed = count(Verdict::Failed);
    let mut not_run = 0;
    for Line { test, outcome, .. } in &lines {
        // A kind of case that cannot run here counts like a test that cannot.
        for why in outcome.not_run.iter().chain(outcome.partly.iter().filter(|_| outcome.not_run.is_none())) {
            ottla_tests::skip::test(test, why);
            not_run += 1;
        }
    }
    println!("{} proven, {failed} failed, {not_run} not run", count(Verdict::Proven));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_wanted(test: &Test, arguments: &Arguments) -> bool {
    match arguments.names.as_slice() {
        [] => true,
        names => names.iter().any(|name| test.name.contains(&name.to_lowercase())),
    }
}

/// One test with its canaries.
fn one(test: &Test, arguments: &Arguments, seed: u64) -> Line {
    let begun = Instant::now();
    let cases = arguments.cases.unwrap_or_else(|| test.cases_of(arguments.size));
    let setting = Setting { program: artifact::ottla(), canary: None, cases, seed, size: arguments.size };
    let outcome = (test.run)(&setting);
    let mut canaries = Vec::new();
    if outcome.not_run.is_none() && !arguments.no_canaries {
        for (promise, within) in test.canaries {
            canaries.push(canary(test, promise, *within, seed));
        }
    }
    Line {
        test: test.name.to_owned(),
        shows: test.shows.to_owned(),
        seed,
        took_ms: begun.elapsed().as_millis(),
        outcome,
        canaries,
    }
}

/// The same test against a build that breaks `promise`.
fn canary(test: &Test, promise: &str, within: u64, seed: u64) -> CanaryVerdict {
    let ran = if test.in_process {
        elsewhere(test, promise, within, seed)
    } else {
        let (program, canary) = (artifact::ottla_canary(), Some(promise.to_owned()));
        Ok((test.run)(&Setting { program, canary, cases: within, seed, size: Size::Commit }))
    };
    let (red, what) = match ran {
        Err(error) => (false, format!("it could not be run: {error:#}")),
        Ok(outcome) => match (outcome.violations.first(), outcome.troubles.first()) {
            (Some(violation), _) => (true, format!("after {} cases: {}", outcome.cases, first_line(&violation.what))),
            (None, Some(trouble)) => (false, format!("nothing but trouble: {}", first_line(&trouble.what))),
            (None, None) => (false, format!("unnoticed in {} cases", outcome.cases)),
        },
    };
    CanaryVerdict { promise: promise.to_owned(), red, what }
}

/// Runs it in the build of this program whose log breaks promises.
fn elsewhere(test: &Test, promise: &str, within: u64, seed: u64) -> Result<Outcome> {
    let mut command = Command::new(beside("ottla-prove-canary")?);
    command.args(["--raw", test.name, "--cases", &within.to_string(), "--seed", &seed.to_string()]);
    let output = command.env(CANARY, promise).output().context("cannot start ottla-prove-canary")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let last = printed.lines().last().with_context(|| format!("{}", String::from_utf8_lossy(&output.stderr)))?;
    serde_json::from_str(last).with_context(|| format!("it printed {last}"))
}

fn beside(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let path = here.parent().unwrap_or(Path::new(".")).join(name);
    if !path.exists() {
        bail!("{} is not there: `cargo xtask prove` builds it", path.display());
    }
    Ok(path)
}

fn raw(arguments: &Arguments, wanted: &[&Test]) -> Result<ExitCode> {
    let [test] = wanted else { bail!("one test at a time") };
    let cases = arguments.cases.unwrap_or_else(|| test.cases_of(arguments.size));
    let canary = std::env::var(CANARY).ok();
    let program = if canary.is_some() { artifact::ottla_canary() } else { artifact::ottla() };
    let seed = arguments.seed.unwrap_or(1);
    let outcome = (test.run)(&Setting { program, canary, cases, seed, size: arguments.size });
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(ExitCode::SUCCESS)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
