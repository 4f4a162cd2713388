//! `ottla log repair`: an end that was not acknowledged is cut off.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::path::PathBuf;

use clap::Args;
use ottla_log::OpenError;
use ottla_log::inspect::{Cut, Repair, RepairError, RepairPlan};
use serde_json::json;

use super::{Failure, Kind, Output, Target};
use crate::progress::human_bytes;

pub(super) const HELP: &str = "\
Cuts off what a crash left unfinished at the end of a partition, which is what the next start of the broker does as well.
Here it can be looked at first, and done to a copy.

It only ever removes what lies behind the persisted durable offset of an fsync partition and begins with a batch that does
not read. Nothing below that offset is changed, damaged or not: damage stays where it is, reads of it answer an error and
everything else can be read. A page-cache partition is left alone, because what it acknowledged may lie anywhere. The
partition gets a new leader epoch, so that consumers which saw more notice.

It refuses while a broker uses the directory, shows what it would do, and asks first.

Examples:
  ottla log repair                            everything below ./ottla-data
  ottla log repair packages:3 --dry-run       only show what would be done
  ottla log repair ./copy/log --yes           do not ask";

/// Arguments of `ottla log repair`.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    target: Target,
    /// Do not ask
    #[arg(long, short, conflicts_with = "dry_run")]
    yes: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &RepairArgs, output: &mut Output) -> Result<(), Failure> {
    let chosen = args.target.choose()?;
    let lock = |directory: &PathBuf| Ok((directory.clone(), Repair::lock(directory).map_err(failed)?));
    let locked: BTreeMap<PathBuf, Repair> = chosen.log_directories.iter().map(lock).collect::<Result<_, Failure>>()?;
    let mut cuts = Vec::new();
    for files in &chosen.partitions {
        let Some(repair) = files.directory.parent().and_then(|parent| locked.get(parent)) else { continue };
        match repair.plan(&files.name).map_err(failed)? {
            RepairPlan::Nothing => {}
            RepairPlan::Cut(cut) => {
                say(&cut, "would cut", output)?;
                cuts.push((repair, cut));
            }
            RepairPlan::Unprovable { name, reason } => {
                let json = json!({ "topic": name.topic, "partition": name.index, "left": reason });
                output.say(&format!("{name}: its end is not finished, and it is left as it is: {reason}"), &json)?;
            }
        }
    }
    if cuts.is_empty() {
        if !output.is_json() {
            output.line("nothing to repair")?;
        }
        return Ok(());
    }
    if args.dry_run {
        return Ok(());
    }
    output.flush()?;
    if !args.yes {
        agree(cuts.len())?;
    }
    for (repair, cut) in &cuts {
        repair.apply(cut).map_err(failed)?;
        say(cut, "cut", output)?;
    }
    Ok(())
}

fn say(cut: &Cut, verb: &str, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json_line(&json!({
            "topic": cut.name.topic, "partition": cut.name.index, "action": verb, "end": cut.end.get(),
            "durable": cut.durable.get(), "segment": cut.segment.get(), "position": cut.position, "bytes": cut.bytes,
            "later_segments": cut.later_segments.len(), "sound_batches": cut.sound_batches,
        }));
    }
    let (end, durable) = (cut.end.get(), cut.durable.get());
    let mut line =
        format!("{}: {verb} {} behind offset {end} (synced up to {durable})", cut.name, human_bytes(cut.bytes));
    if !cut.later_segments.is_empty() {
        let words = format!(", {} later segments among it", cut.later_segments.len());
        line.push_str(&words);
    }
    if cut.sound_batches > 0 {
        let words = format!("; {} batches of it read well but stand behind one that does not", cut.sound_batches);
        line.push_str(&words);
    }
    output.line(&line)
}

fn agree(count: usize) -> Result<(), Failure> {
    if !stdin().is_terminal() {
        let failure = Failure::new(Kind::Usage, "nothing was changed: there is nobody to ask");
        return Err(failure.hint("say --yes to do it, or --dry-run to only look"));
    }
    let what = if count == 1 { "this end".to_owned() } else { format!("these {count} ends") };
    write!(stderr(), "cut off {what}? [y/N] ")?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(Kind::Failed, "nothing was changed"))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
fn failed(error: RepairError) -> Failure {
    match &error {
        RepairError::Lock(OpenError::Locked { .. }) => {
            Failure::new(Kind::Failed, &error).hint("`ottla log verify` works beside a running broker")
        }
        _ => Failure::new(Kind::Failed, &error),
    }
}
