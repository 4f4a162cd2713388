//! `ottla debug`: what a person needs who looks into trouble from afar.
//!
//! 1. [`bundle`]: the file, and its page of contents.
//! 2. `running`: what a running broker answers: cluster, settings, topics, groups, plugins, metrics.
//! 3. `directory`: what lies in a data directory: metadata, files with sizes, the check of the log.
//! 4. `process`: the process of the broker and its log lines; `machine`: what it runs on.
//! 5. `mask`: secrets, and words that may quote records, are left out of all of it.

mod bundle;
mod directory;
mod machine;
mod mask;
mod process;
mod running;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use ottla_broker::config::{Config, SETTINGS, load_file};
use ottla_broker::log_dirs;
use ottla_client::ClientConfig;
use serde_json::{Value, json};

use self::bundle::Bundle;
use super::failure::{Failure, Kind};
use super::output::Output;
use super::progress::human_bytes;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Write one file with everything that helps to look into trouble, and no records
    #[command(after_long_help = BUNDLE_HELP)]
    Bundle(BundleArgs),
}

const BUNDLE_HELP: &str = "\
Asks the running broker, if one answers, and reads the data directory, if it is there; either is enough. In the file (tar.gz):
version, settings, topics and groups with their settings and positions, plugins by digest, metrics, the last lines of the
broker's log, the files of the data directory with their sizes, the process and the machine. README.txt in it says what each
file is and what could not be had.

Not in it: records, their keys, components of plugins. Left out where they would be: values of settings that hold secrets
or a plugin's configuration, and words of plugins in the log, which may quote records. Names of topics, groups, members and
hosts are in it.

Examples:
  ottla debug bundle
  ottla debug bundle --data-dir /srv/ottla --verify trouble.tar.gz
  ottla debug bundle --bootstrap broker:9092 --metrics broker:9100 --broker-log /var/log/ottla.log";

/// Arguments of `ottla debug bundle`.
#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    /// The file to write [default: ottla-debug-TIME.tar.gz]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The data directory of the broker
    #[arg(long, value_name = "DIR", default_value = "./ottla-data")]
    data_dir: PathBuf,
    /// The settings file of a broker that does not run
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Where the log lines of the broker are [default: where its stderr goes, if that is a file]
    #[arg(long, value_name = "FILE")]
    broker_log: Option<PathBuf>,
    /// Where the broker serves metrics [default: what its `metrics.listener` says]
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
    /// Check the log as `ottla log verify` does, which reads all of it
    #[arg(long)]
    verify: bool,
}

/// Runs one of them.
pub(crate) async fn run(command: DebugCommand, config: ClientConfig, output: &mut Output) -> Result<(), Failure> {
    match command {
        DebugCommand::Bundle(args) => write_bundle(&args, config, output).await,
    }
}

async fn write_bundle(args: &BundleArgs, config: ClientConfig, output: &mut Output) -> Result<(), Failure> {
    let now = Timestamp::now();
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut bundle = Bundle::new(format!("ottla-debug-{stamp}"), now.as_second());
    bundle.add_json("version.json", "The version of this program, which may not be the broker's", &version());
    let addresses = config.bootstrap.join(",");
    let running = running::gather(config, args.metrics.as_deref(), &mut bundle).await;
    if let Err(error) = &running {
        bundle.missing("the running broker", &format!("{addresses} does not answer as one: {error}"));
    }
    let is_there = directory::gather(&args.data_dir, args.verify, &mut bundle);
    let process = process::Found::on(&args.data_dir);
    if running.is_err() && !is_there && process.is_none() {
        let data_dir = args.data_dir.display();
        let failure = Failure::new(
            Kind::NotFound,
            format!("no broker answers at {addresses}, and {data_dir} holds nothing of one"),
        );
        return Err(failure.hint("name one of them: --bootstrap HOST:PORT, --data-dir DIR"));
    }
    settings_of_file(args.config.as_deref(), running.is_ok(), &mut bundle);
    process::gather(process.as_ref(), args.broker_log.as_deref(), &mut bundle);
    let mut directories = vec![args.data_dir.clone()];
    directories.extend(log_dirs::of_data_dir(&args.data_dir));
    machine::gather(&directories, &mut bundle);

    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("ottla-debug-{stamp}.tar.gz")));
    let (files, missing) = (bundle.names(), bundle.all_missing().to_vec());
    let bytes = bundle
        .write(&file)
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot write {}: {error}", file.display())))?;
    let words = format!(
        "{} ({}, {} files; README.txt in it says what they are). No records and no keys are in it; names of topics, \
         groups, members and hosts are",
        file.display(),
        human_bytes(bytes),
        files.len(),
    );
    output.say(&words, &json!({ "file": file, "bytes": bytes, "files": files, "missing": missing }))?;
    if !output.is_json() {
        for part in &missing {
            output.line(&format!("  without {part}"))?;
        }
    }
    Ok(())
}

fn version() -> Value {
    json!({
        "ottla": env!("CARGO_PKG_VERSION"),
        "program": std::env::current_exe().ok(),
        "debug_assertions": cfg!(debug_assertions),
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    })
}

/// The settings of a file, where no broker says which are in force.
fn settings_of_file(file: Option<&Path>, is_running: bool, bundle: &mut Bundle) {
    let Some(file) = file else {
        if !is_running {
            bundle.missing("the settings", "no broker runs, and no settings file was named (--config FILE.toml)");
        }
        return;
    };
    let (mut config, defaults) = (Config::default(), Config::default());
    match load_file(&mut config, file) {
        Ok(()) => {
            let settings = SETTINGS.iter().map(|setting| {
                let value = (setting.show)(&config);
                let is_default = value == (setting.show)(&defaults);
                let value = mask::value(setting.name, &value);
                json!({ "setting": setting.name, "value": value, "default": is_default })
            });
            let what = format!("What {} says, and the defaults of everything else", file.display());
            bundle.add_json("settings-of-file.json", &what, &settings.collect());
        }
        Err(error) => bundle.missing("the settings file", &error.to_string()),
    }
}
