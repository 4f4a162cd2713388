//! Ratios of Ottla against raw ceilings, in interleaved runs.
//!
//! Every row pairs Ottla with a bare loop of the same system calls under the same load generator, runs them A B A B, and
//! reports the ratio of each pair: minimum, median, maximum. An absolute figure is never printed alone, because on a
//! shared machine it says more about the neighbours than about the code.
//!
//! The layout follows a run: [`area`] says what is compared, [`peer`] starts the two servers as processes of their own,
//! [`frames`] makes their requests, [`load`] drives them, [`members`] does for groups, [`pairs`] interleaves the runs, [`report`] prints the table and the JSON rows.

mod area;
mod beside;
mod frames;
mod load;
mod members;
mod pairs;
mod peer;
mod raw;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measure Ottla beside the bare system calls it is made of.
#[derive(Parser)]
#[command(name = "cargo xtask bench", version, max_term_width = 100)]
struct Cli {
    /// What to measure; everything when left out
    #[arg(value_enum)]
    area: Option<area::Area>,

    /// Also write the rows as JSON: an array of {name, ratio, of, min, median, max, pairs}
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Interleaved pairs per row
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,

    /// Bytes that one run moves, in MiB
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(16..=16_384))]
    run_mib: u64,

    /// Compare with another build of the broker instead of the bare loop, in the rows that can
    #[arg(long, value_name = "OTTLA")]
    against: Option<PathBuf>,

    /// Only rows whose name contains this, as `ingest` or `egress/1MiB/50`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    only: String,

    /// Every combination of the matrices, for hours
    #[arg(long, conflicts_with = "quick")]
    full: bool,

    /// One short pair per row: to see that everything works
    #[arg(long)]
    quick: bool,

    #[command(subcommand)]
    child: Option<Child>,
}

/// The raw servers run as children of the benchmark, so that their CPU time is theirs alone.
#[derive(Subcommand)]
enum Child {
    /// A bare loop, started by the benchmark itself
    #[command(name = "__raw", hide = true)]
    Raw {
        /// Which loop
        #[arg(value_enum)]
        ceiling: raw::Ceiling,
        /// A scratch directory on the file system under test
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.child {
        Some(Child::Raw { ceiling, dir }) => raw::serve(ceiling, &dir),
        None => {
            let plan = area::Plan {
                pairs: if cli.quick { 1 } else { cli.pairs },
                run_bytes: if cli.quick { 32 } else { cli.run_mib } << 20,
                against: cli.against,
                only: cli.only,
                cell_pairs: if cli.full { cli.pairs } else { 3 },
                cell_seconds: if cli.quick { 0.3 } else { 1.5 },
                full: cli.full,
                quick: cli.quick,
            };
            area::run(cli.area, &plan).and_then(|rows| report::finish(&rows, cli.json.as_deref()))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
