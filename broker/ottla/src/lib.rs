//! The command line: the broker itself (`ottla`, `ottla serve`) and the tools around it, which are plain clients of
//! [`ottla_client`] and work against any Kafka-protocol broker.
//!
//! * One file per command; each has its arguments, its help and what it does.
//! * `output` writes what was asked for to stdout, for people or as JSON; progress and errors go to stderr.
//! * `failure` is the one list of exit codes.
//!
//! The only user of `clap` and of [`ottla_client`] in the broker: the broker itself is a library, [`ottla_broker`].

mod cluster;
mod complete;
mod config;
mod consume;
mod debug;
mod failure;
mod group;
mod input;
mod instant;
mod log;
mod meta;
mod output;
mod plugin;
mod produce;
mod profile;
mod progress;
mod serve;
mod signal;
mod telemetry;
mod template;
mod topic;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use ottla_client::ClientConfig;
use tokio::runtime::Runtime;

use self::failure::Failure;
use self::output::Output;

/// A Kafka-protocol broker that runs your WebAssembly
///
/// Without a command, `ottla` runs the broker, as `ottla serve` does.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, after_long_help = MAIN_HELP)]
struct Cli {
    /// What to do; nothing means `serve`.
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

const MAIN_HELP: &str = "\
Examples:
  ottla                                                  run the broker on 127.0.0.1:9092
  ottla topic create packages --partitions 6             create a topic
  ottla plugin push by-section.wasm                      upload a plugin
  ottla topic set packages ottla.partitioner=by-section  let it choose the partition of every record
  echo 'bash|Section: shells' | ottla produce packages --key-separator '|'
  ottla consume packages --partition 3 --from earliest   read a partition to its end
  ottla log verify                                       check the files of the log

Exit codes:
  0  done
  1  failed
  2  the command line is wrong
  3  no broker could be reached
  4  the topic, partition, group or plugin does not exist
  5  it exists already
  6  the broker refused: a value it does not accept, a record a plugin rejects

Each command has its own examples: ottla help COMMAND";

/// How the tools find the broker, and how they speak to you.
#[derive(Clone, Debug, Args)]
struct ConnectionArgs {
    /// The broker to talk to; several addresses are separated by commas
    /// [default: `OTTLA_BOOTSTRAP`, then the profile's, then 127.0.0.1:9092]
    #[arg(long, global = true, value_name = "HOST:PORT", help_heading = "Client options")]
    pub bootstrap: Option<String>,
    /// The profile whose addresses are meant, of those in ~/.config/ottla/profiles.toml [default: `OTTLA_PROFILE`]
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "bootstrap", help_heading = "Client options")]
    pub profile: Option<String>,
    /// Answer in JSON, for scripts
    #[arg(long, global = true, help_heading = "Client options")]
    pub json: bool,
    /// Tell what is done on the way to the broker; twice tells more. For the broker: log debug, then trace
    #[arg(long, short, global = true, action = ArgAction::Count, help_heading = "Client options")]
    pub verbose: u8,
}

impl ConnectionArgs {
    /// The addresses that are meant: what is typed wins over the environment, and that over the file of profiles.
    fn addresses(&self) -> Result<String, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let typed = || self.bootstrap.clone();
        let of_environment = || variable("OTTLA_BOOTSTRAP").filter(|_| self.profile.is_none());
        if let Some(addresses) = typed().or_else(of_environment) {
            return Ok(addresses);
        }
        let named = self.profile.clone().or_else(|| variable("OTTLA_PROFILE"));
        profile::bootstrap(profile::default_file().as_deref(), named.as_deref())
    }

    fn client(addresses: &str, runtime: &Runtime) -> ClientConfig {
        let mut config = ClientConfig::new(addresses);
        "ottla-cli".clone_into(&mut config.client_id);
        config.runtime = Some(runtime.handle().clone());
        config
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (what `ottla` alone does, too)
    #[command(after_long_help = serve::settings_help())]
    Serve(serve::ServeArgs),
    /// Create, list, describe, set, enlarge and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Show the cluster and its brokers
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Show and change the settings of brokers, topics and groups
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// List, describe and delete consumer groups, show and set their offsets
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Push, list, show, activate, roll back and remove plugins
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Dump, verify, repair and measure the files of the log, with or without a running broker
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Dump, verify, repair and restore topics, settings, ids and the plugin registry
    #[command(subcommand)]
    Meta(meta::MetaCommand),
    /// Gather what helps to look into trouble
    #[command(subcommand)]
    Debug(debug::DebugCommand),
    /// Send records from stdin or a file
    Produce(produce::ProduceArgs),
    /// Print records
    Consume(consume::ConsumeArgs),
    /// Write what a shell needs to complete the commands and options of ottla
    Completions(complete::CompletionsArgs),
    /// Write the manual pages
    Man(complete::ManArgs),
}

/// The first argument of the process that compiles a plugin, which the broker starts itself. It is no command: neither help
/// nor completions know it.
const COMPILE: &str = "__compile";

/// The whole program.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == COMPILE) {
        return ottla_plugin_host::compile_child_main(arguments);
    }
    let cli = match Cli::try_parse().and_then(Cli::checked) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way as well, with code 0. The reader may be gone.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        None => serve::run(&cli.serve.louder(cli.connection.verbose)),
        Some(Command::Serve(args)) => serve::run(&args.louder(cli.connection.verbose)),
        Some(Command::Log(command)) => on_files(cli.connection.json, |output| log::run(command, output)),
        Some(Command::Meta(command)) => on_files(cli.connection.json, |output| meta::run(command, output)),
        Some(Command::Completions(args)) => {
            on_files(cli.connection.json, |output| complete::completions(&args, Cli::command(), output))
        }
        Some(Command::Man(args)) => {
            on_files(cli.connection.json, |output| complete::man(&args, Cli::command(), output))
        }
        Some(command) => {
            let json = cli.connection.json;
            match run_client(command, &cli.connection) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => failure.report(json),
            }
        }
    }
}

/// A command that works on files.
fn on_files(json: bool, run: impl FnOnce(&mut Output) -> Result<(), Failure>) -> ExitCode {
    let mut output = Output::new(json);
    match run(&mut output).and_then(|()| output.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// A command that talks to a broker.
fn run_client(command: Command, connection: &ConnectionArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let addresses = connection.addresses()?;
    let config = ConnectionArgs::client(&addresses, &runtime);
    let mut output = Output::new(connection.json);
    if connection.verbose > 0 {
        telemetry::init_tool(connection.verbose);
    }
    let broker = addresses.as_str();
    let result = match command {
        Command::Topic(command) => {
            runtime.block_on(progress::impatient(broker, topic::run(command, config, &mut output)))
        }
        Command::Cluster(command) => {
            runtime.block_on(progress::impatient(broker, cluster::run(command, config, &mut output)))
        }
        Command::Config(command) => {
            runtime.block_on(progress::impatient(broker, config::run(command, config, &mut output)))
        }
        Command::Group(command) => {
            runtime.block_on(progress::impatient(broker, group::run(command, config, &mut output)))
        }
        Command::Plugin(command) => runtime.block_on(plugin::run(command, config, &mut output)),
        Command::Debug(command) => runtime.block_on(debug::run(command, config, &mut output)),
        Command::Produce(args) => produce::run(&args, config, broker, &runtime, &mut output),
        Command::Consume(args) => runtime.block_on(consume::run(&args, config, &mut output)),
        Command::Serve(_) | Command::Log(_) | Command::Meta(_) | Command::Completions(_) | Command::Man(_) => Ok(()),
    };
    result.and_then(|()| output.finish())
}

impl Cli {
    /// Options of the broker stand behind `serve`, or where there is no command.
    fn checked(self) -> Result<Self, clap::Error> {
        if self.command.is_some() && self.serve != serve::ServeArgs::default() {
            let words = "options of the broker stand behind `serve`, or alone: ottla --set KEY=VALUE";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, words));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_first_five_minutes_is_understood() {
        for line in [
            "ottla",
            "ottla serve --data-dir d --listen 127.0.0.1:0 --set num.partitions=3",
            "ottla --set num.partitions=3 --data-dir d",
            "ottla -v",
            "ottla serve --log-format json --log-level debug -vv",
            "ottla topic list -v",
            "ottla topic create packages --partitions 6",
            "ottla plugin push target/plugins/by-section.wasm --name by-section",
            "ottla topic set packages ottla.partitioner=by-section",
            "ottla consume packages --partition 3 --from earliest",
            "ottla consume packages --from -10 --count 5 --follow --json",
            "ottla consume packages --from @2026-01-02T03:04:05Z",
            "ottla --bootstrap h:1 --json topic list",
            "ottla topic list --bootstrap h:1 --json",
            "ottla topic delete packages --yes",
            "ottla topic create packages retention.ms=5 --config segment.bytes=1048576 --replication-factor 1",
            "ottla topic set packages --config retention.ms=5",
            "ottla topic list orders-* --sort size",
            "ottla topic offsets packages --at 2026-01-02T03:04:05Z",
            "ottla topic trim packages --before @2026-01-02 --partition 1 --partition 2 --dry-run",
            "ottla --profile staging topic list",
            "ottla completions zsh",
            "ottla man target/man",
            "ottla topic add-partitions packages 12",
            "ottla cluster info --json",
            "ottla config describe",
            "ottla config describe --group orders --set",
            "ottla config set --all-brokers num.partitions=3 --unset log.retention.ms",
            "ottla group offsets orders --reset --to by-duration=PT1H30M",
            "ottla group list",
            "ottla group describe orders --members --lag",
            "ottla group offsets orders --reset --to @2026-01-02T03:04:05Z --topic packages --dry-run",
            "ottla group delete orders",
            "ottla plugin push by-section.wasm --activate",
            "ottla plugin rollback by-section",
            "ottla plugin rollback by-section --to 2",
            "ottla plugin rm by-section --version 2",
            "ottla log dump packages:3 --records --from 1200 --data-dir d",
            "ottla log verify ./data/log --json",
            "ottla log repair --yes",
            "ottla log du packages",
            "ottla meta dump --data-dir d --json",
            "ottla debug bundle",
            "ottla debug bundle trouble.tar.gz --data-dir d --verify --metrics h:1 --broker-log l --config c.toml",
            "ottla meta verify --log-dir a --log-dir b",
            "ottla meta repair",
            "ottla meta restore --from backup.jsonl --yes",
            "ottla meta restore --dry-run",
            "ottla produce packages --key-separator | --header a=b --header c=d --compression zstd --partition 2",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in [
            "ottla topic crate once",
            "ottla topic create",
            "ottla topic create t --partitions 0",
            "ottla topic set t novalue",
            "ottla topic set t",
            "ottla consume t --from yesterday",
            "ottla topic add-partitions t 0",
            "ottla config set",
            "ottla config describe --topic t --group g",
            "ottla group offsets g --reset --to by-duration=soon",
            "ottla group offsets g --reset",
            "ottla group offsets g --to earliest",
            "ottla group offsets g --reset --to yesterday",
            "ottla consume t --format {nonsense}",
            "ottla produce t --compression rar",
            "ottla produce t --header novalue",
            "ottla --set num.partitions=3 topic list",
            "ottla __compile",
            "ottla --profile staging --bootstrap h:1 topic list",
            "ottla topic trim packages",
            "ottla topic trim packages --before yesterday",
            "ottla completions cmd",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).and_then(Cli::checked).map(|_| line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn every_tool_teaches_by_example() {
        fn walk(command: &clap::Command, path: &str, untaught: &mut Vec<String>) {
            for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
                let path = format!("{path} {}", command.get_name());
                if command.has_subcommands() {
                    walk(command, &path, untaught);
                } else if !command.get_after_long_help().is_some_and(|help| help.to_string().contains(&path)) {
                    untaught.push(path);
                }
            }
        }
        let mut untaught = Vec::new();
        walk(&Cli::command(), "ottla", &mut untaught);
        untaught.retain(|path| path != "ottla serve");
        assert_eq!(untaught, Vec::<String>::new());
    }
}
