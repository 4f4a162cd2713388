//! `ottla plugin`: push, list, show, activate, rollback, rm.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ottla_client::{Admin, ClientConfig, ErrorCode, PluginDescription, PluginVersion};
use serde_json::{Value, json};

use super::failure::{Failure, Kind};
use super::instant::show_utc;
use super::output::Output;
use super::progress::{Progress, human_bytes};

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Upload a plugin; pushing the same name again makes its next version
    #[command(after_long_help = PUSH_HELP)]
    Push(PushArgs),
    /// List plugins
    #[command(after_long_help = LIST_HELP)]
    List,
    /// Show the versions of a plugin and the topics that use it
    #[command(after_long_help = SHOW_HELP)]
    Show {
        /// The plugin
        name: String,
    },
    /// Make a version the one that runs
    #[command(after_long_help = ACTIVATE_HELP)]
    Activate {
        /// The plugin
        name: String,
        /// The version
        #[arg(value_parser = clap::value_parser!(i32).range(1..))]
        version: i32,
    },
    /// Go back to the version that ran before, and mark the version left as bad
    #[command(after_long_help = ROLLBACK_HELP)]
    Rollback {
        /// The plugin
        name: String,
        /// Go back to this version instead
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i32).range(1..))]
        to: Option<i32>,
    },
    /// Remove a plugin, or one version of it
    #[command(after_long_help = RM_HELP)]
    Rm {
        /// The plugin
        name: String,
        /// Only this version
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        version: Option<i32>,
    },
}

/// Arguments of `ottla plugin push`.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The WebAssembly component
    file: PathBuf,
    /// Its name on the broker; the file's name without `.wasm` if not given
    #[arg(long)]
    name: Option<String>,
    /// Let this version run at once, for all topics that use the plugin
    #[arg(long)]
    activate: bool,
}

const PUSH_HELP: &str = "\
Examples:
  ottla plugin push target/plugins/by-section.wasm --name by-section
  ottla plugin push by-section.wasm                  the name is by-section
  ottla plugin push by-section.wasm --activate       the next version, which runs at once

An upload that broke off goes on where it stood when it is started again.
Then let a topic use it: ottla topic set packages ottla.partitioner=by-section";

const LIST_HELP: &str = "\
Examples:
  ottla plugin list
  ottla plugin list --json | jq -r .name";

const SHOW_HELP: &str = "\
Examples:
  ottla plugin show by-section
  ottla plugin show by-section --json | jq .active";

const ACTIVATE_HELP: &str = "\
Examples:
  ottla plugin activate by-section 2

The next batch is routed by it; the broker does not restart.";

const ROLLBACK_HELP: &str = "\
Examples:
  ottla plugin rollback by-section                   the version that ran before
  ottla plugin rollback by-section --to 2

Each call goes back further, never forward: the version that it leaves is marked bad, and no rollback returns to a bad
version unless --to names it. Activating a version takes its mark away.";

const RM_HELP: &str = "\
Examples:
  ottla plugin rm by-section --version 1
  ottla plugin rm by-section                         all versions

A plugin that a topic uses is not removed: take it from the topic first, with
ottla topic set packages --unset ottla.partitioner";

/// Runs one of them.
pub(crate) async fn run(command: PluginCommand, config: ClientConfig, output: &mut Output) -> Result<(), Failure> {
    let admin = Admin::new(config)?;
    match command {
        PluginCommand::Push(args) => push(&admin, &args, output).await,
        PluginCommand::List => list(&admin, output).await,
        PluginCommand::Show { name } => show(&admin, &name, output).await,
        PluginCommand::Activate { name, version } => {
            let active = admin.activate_plugin(&name, version).await.map_err(|error| missing(error.into()))?;
            say_active(&name, active, output)
        }
        PluginCommand::Rollback { name, to } => roll_back(&admin, &name, to, output).await,
        PluginCommand::Rm { name, version } => {
            admin.remove_plugin(&name, version).await.map_err(|error| missing(error.into()))?;
            let what = version.map_or_else(|| "all versions".to_owned(), |version| format!("version {version}"));
            output.say(&format!("removed {what} of plugin {name}"), &json!({ "name": name, "removed": version }))
        }
    }
}

async fn push(admin: &Admin, args: &PushArgs, output: &mut Output) -> Result<(), Failure> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => stem(&args.file)?,
    };
    let component = std::fs::read(&args.file).map_err(|error| unreadable(&args.file, &error))?;
    let mut progress = Progress::start();
    let pushed = admin.push_plugin(&name, &component, |state| {
        progress.show(|| match state.sent_bytes.saturating_mul(100).checked_div(state.total_bytes) {
            Some(100) | None => format!("{name}: the broker checks and compiles it"),
            Some(percent) => format!("{name}: {percent} % of {}", human_bytes(state.total_bytes)),
        });
    });
    let pushed = pushed.await.map_err(Failure::from);
    progress.clear();
    let version = pushed?.version;
    let plugin = admin.describe_plugin(&name).await?;
    let mut active = plugin.active == Some(version);
    let marked_bad = plugin.versions.iter().any(|known| known.version == version && known.marked_bad);
    if args.activate && !active {
        if marked_bad {
            let message = format!("this file is version {version} of plugin {name}, which a rollback marked as bad");
            let hint = format!("`ottla plugin activate {name} {version}` lets it run all the same");
            return Err(Failure::new(Kind::Refused, message).hint(hint));
        }
        active = admin.activate_plugin(&name, version).await? == version;
    }
    let pushed = plugin.versions.iter().find(|known| known.version == version);
    let digest = pushed.map(|known| &known.digest);
    // No topic setting names a policy yet.
    let use_it = match pushed.map_or("", |known| &known.kind) {
        "serializer" => format!(": ottla topic set TOPIC ottla.serializer={name}"),
        "partitioner" => format!(": ottla topic set TOPIC ottla.partitioner={name}"),
        _ => String::new(),
    };
    let value = json!({
        "name": name, "version": version, "digest": digest, "active": active, "bytes": component.len(),
    });
    let next = match (active, plugin.topics.is_empty()) {
        (false, _) if marked_bad => format!("marked bad by a rollback: ottla plugin activate {name} {version}"),
        (false, _) => format!("not active yet: ottla plugin activate {name} {version}"),
        (true, true) => format!("active, used by no topic yet{use_it}"),
        (true, false) => format!("active in {}", plugin.topics.join(", ")),
    };
    output.say(&format!("pushed plugin {name}, version {version}, {next}"), &value)
}

async fn roll_back(admin: &Admin, name: &str, to: Option<i32>, output: &mut Output) -> Result<(), Failure> {
    let rolled_back = admin.roll_back_plugin(name, to).await;
    let active = rolled_back.map_err(|error| {
        let failure = missing(error.into());
        match failure.code() {
            Some(ErrorCode::InvalidRequest) => failure.hint(format!(
                "`ottla plugin show {name}` lists the versions, `ottla plugin rollback {name} --to VERSION` goes to one"
            )),
            _ => failure,
        }
    })?;
    let plugin = admin.describe_plugin(name).await?;
    let bad: Vec<i32> = plugin.versions.iter().filter(|known| known.marked_bad).map(|known| known.version).collect();
    let list = bad.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let value = json!({ "name": name, "active": active, "bad": bad });
    output.say(&format!("plugin {name} runs version {active}; marked bad: {list}"), &value)
}

/// The name that a file suggests.
fn stem(file: &Path) -> Result<String, Failure> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).filter(|stem| !stem.is_empty());
    stem.map(str::to_owned)
        .ok_or_else(|| Failure::new(Kind::Usage, format!("{} suggests no name: give one with --name", file.display())))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Kind::Usage, format!("cannot read {}: {error}", file.display()));
    if error.kind() == std::io::ErrorKind::NotFound && file.starts_with("target/plugins") {
        return failure.hint("build the ready-made plugins with `cargo xtask plugins`");
    }
    failure
}

async fn list(admin: &Admin, output: &mut Output) -> Result<(), Failure> {
    let plugins = admin.list_plugins().await?;
    if output.is_json() {
        return plugins.iter().try_for_each(|plugin| output.json_line(&plugin_json(plugin)));
    }
    if plugins.is_empty() {
        return output.line("no plugins yet; upload one with `ottla plugin push FILE.wasm`");
    }
    let head = ["PLUGIN", "KIND", "ACTIVE", "VERSIONS", "TOPICS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(plugins.iter().map(|plugin| {
        let kind = plugin.versions.last().map(|version| version.kind.clone()).unwrap_or_default();
        let versions = plugin.versions.len().to_string();
        vec![plugin.name.clone(), kind, number(plugin.active), versions, plugin.topics.join(" ")]
    }));
    output.table(&rows)
}

async fn show(admin: &Admin, name: &str, output: &mut Output) -> Result<(), Failure> {
    let plugin = admin.describe_plugin(name).await.map_err(|error| missing(error.into()))?;
    if output.is_json() {
        return output.json_line(&plugin_json(&plugin));
    }
    output.line(&format!("plugin    {}", plugin.name))?;
    output.line(&format!("active    {}", number(plugin.active)))?;
    output.line(&format!("previous  {}", number(plugin.previous)))?;
    let topics = if plugin.topics.is_empty() { "none".to_owned() } else { plugin.topics.join(" ") };
    output.line(&format!("topics    {topics}\n"))?;
    let head = ["VERSION", "STATE", "KIND", "READS", "SIZE", "PUSHED", "SHA-256"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(plugin.versions.iter().map(|version| {
        let size = human_bytes(u64::try_from(version.bytes).unwrap_or(0));
        let pushed = show_utc(version.created_ms);
        let reads = version.reads.join(",");
        let state = match (plugin.active == Some(version.version), version.marked_bad) {
            (true, _) => "active",
            (false, true) => "bad",
            (false, false) => "-",
        };
        let (number, kind) = (version.version.to_string(), version.kind.clone());
        vec![number, state.to_owned(), kind, reads, size, pushed, version.digest.clone()]
    }));
    output.table(&rows)
}

fn number(version: Option<i32>) -> String {
    version.map_or_else(|| "-".to_owned(), |version| version.to_string())
}

fn plugin_json(plugin: &PluginDescription) -> Value {
    let version = |version: &PluginVersion| {
        json!({
            "version": version.version, "digest": version.digest, "kind": version.kind, "bytes": version.bytes,
            "created_ms": version.created_ms, "reads": version.reads, "bad": version.marked_bad,
        })
    };
    json!({
        "name": plugin.name, "active": plugin.active, "previous": plugin.previous, "topics": plugin.topics,
        "versions": plugin.versions.iter().map(version).collect::<Vec<_>>(),
    })
}

fn say_active(name: &str, active: i32, output: &mut Output) -> Result<(), Failure> {
    output.say(&format!("plugin {name} runs version {active}"), &json!({ "name": name, "active": active }))
}

/// Adds the way to what does exist.
fn missing(failure: Failure) -> Failure {
    match failure.code() {
        Some(ErrorCode::ResourceNotFound) => failure.hint("`ottla plugin list` shows the plugins there are"),
        _ => failure,
    }
}
