//! `ottla serve`: reads the settings, starts the broker, says what is what, and stops cleanly when told to.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use ottla_broker::broker::{Broker, StartError, check_data_dir};
use ottla_broker::config::{
    Config, Durability, LoadError, LogFormat, broker_reference, load_file, set_pair, topic_reference,
};
use ottla_broker::serve::Listeners;
use ottla_front::{BindError, Endpoint};

use crate::signal::stop_signal;
use crate::telemetry::{self, Lead};

/// The command line itself is wrong, or asks for what needs to be said twice.
const EXIT_USAGE: u8 = 2;
/// The broker could not start, or did not stop cleanly.
const EXIT_FAILURE: u8 = 1;

/// How the broker is run.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Broker options")]
pub(crate) struct ServeArgs {
    /// Directory that holds everything the broker keeps [default: ./ottla-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to listen on; port 0 lets the system choose. Several: NAME://HOST:PORT,NAME://HOST:PORT
    /// [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// TOML file with settings
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, winning over the file; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// What is logged: error, warn, info, debug, trace, or by module: `ottla_broker=debug,info`
    /// [default: `OTTLA_LOG`, then `RUST_LOG`, then info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How it is logged: text or json, one object per line [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// Use a data directory although it holds files of something else and nothing of Ottla
    #[arg(long)]
    pub(crate) use_foreign_directory: bool,
    /// Listen on an address that others can reach, although anyone who reaches the broker can read, write and delete
    /// everything: there is no TLS and no authentication yet
    #[arg(long)]
    pub(crate) i_accept_an_open_broker: bool,
}

/// The tables of settings, as `ottla serve --help` shows them.
pub(crate) fn settings_help() -> String {
    format!(
        "Settings, for --set KEY=VALUE and the TOML file (name = default):\n{}\n\
         Settings of topics, for `ottla topic create|set` and any Kafka admin tool:\n{}",
        broker_reference(),
        topic_reference()
    )
}

impl ServeArgs {
    /// The same with what `-v` asks for, unless a level is given.
    pub(crate) fn louder(self, verbose: u8) -> Self {
        let level = match verbose {
            0 => return self,
            1 => "debug",
            _ => "trace",
        };
        Self { log_level: self.log_level.or_else(|| Some(level.to_owned())), ..self }
    }

    /// The settings: defaults, then the file, then `--set`, then the options of their own.
    pub(crate) fn config(&self) -> Result<Config, LoadError> {
        let mut config = Config::default();
        if let Some(path) = &self.config {
            load_file(&mut config, path)?;
        }
        for pair in &self.set {
            set_pair(&mut config, pair)?;
        }
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Some(listen) = &self.listen {
            set_pair(&mut config, &format!("listeners={listen}"))?;
        }
        if let Some(level) = &self.log_level {
            set_pair(&mut config, &format!("ottla.log.level={level}"))?;
        }
        if let Some(format) = &self.log_format {
            set_pair(&mut config, &format!("ottla.log.format={format}"))?;
        }
        Ok(config)
    }
}

/// Runs the broker until Ctrl-C or SIGTERM.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    let config = match args.config() {
        Ok(config) => config,
        Err(error) => return fail(&error, EXIT_USAGE),
    };
    let log = match telemetry::init(&config) {
        Ok(log) => log,
        Err(error) => return fail(&error, EXIT_USAGE),
    };
    let voice = Voice { format: config.log_format };
    let allowed = Allowed { open_broker: args.i_accept_an_open_broker, foreign_directory: args.use_foreign_directory };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.network_threads > 0 {
        runtime.worker_threads(config.network_threads);
    }
    let runtime = match runtime.enable_all().thread_name("ottla-net").build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, EXIT_FAILURE),
    };
    let served = runtime.block_on(serve(config, allowed, voice, log));
    // A plugin or a search that still blocks on a thread does not keep the process.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let open =
                matches!(error.downcast_ref(), Some(BindError::OpenToOthers { .. } | BindError::Unresolvable { .. }))
                    || matches!(
                        error.downcast_ref(),
                        Some(StartError::Settings(_) | StartError::ForeignDirectory { .. })
                    );
            voice.fail(&*error, if open { EXIT_USAGE } else { EXIT_FAILURE })
        }
    }
}

/// What the operator said twice.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    /// To listen where others can reach the broker.
    open_broker: bool,
    /// To use a data directory that holds files of something else.
    foreign_directory: bool,
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "ottla: {error}");
    ExitCode::from(code)
}

async fn serve(config: Config, allowed: Allowed, voice: Voice, log: Lead) -> anyhow::Result<()> {
    let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        if !allowed.foreign_directory {
            check_data_dir(&config.data_dir)?;
        }
        let listeners = Listeners::bind(&config, allowed.open_broker)?;
        let (broker, report) = Broker::open(config, listeners.endpoints())?;
        Ok((listeners, broker, report))
    });
    let (listeners, broker, report) = opened.await??;
    broker.loggers.lead(&log.filter, log.change);
    let stop = stop_signal()?;
    if report.is_news() {
        voice.say(&report.to_string());
    }
    voice.welcome(&broker, &listeners);
    let stopper = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move {
            let cause = stop.await;
            voice.say(&format!("{cause}: finishing what was begun"));
            broker.shutdown.begin();
        }
    });
    let failing = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move {
            let reasons = broker.log.wait_all_offline().await;
            voice.say(&format!("every log directory is offline, so the broker stops: {reasons}"));
            broker.shutdown.begin();
        }
    });
    ottla_broker::serve::serve(Arc::clone(&broker), listeners).await;
    stopper.abort();
    failing.abort();
    // Not on a thread of the pool: all of those may wait for what the close ends.
    tokio::task::block_in_place(|| broker.close())?;
    voice.say("stopped cleanly: everything is on the disk");
    Ok(())
}

/// Speaks to the person who started the broker: on stdout, or, where the log is JSON, in the log alone, so that a program
/// that reads it finds everything in one form.
#[derive(Debug, Clone, Copy)]
struct Voice {
    format: LogFormat,
}

impl Voice {
    fn say(self, text: &str) {
        match self.format {
            LogFormat::Json => tracing::info!("{text}"),
            LogFormat::Text => {
                let mut out = std::io::stdout().lock();
                // A closed stdout is no reason to stop.
                let _ = writeln!(out, "{text}").and_then(|()| out.flush());
            }
        }
    }

    fn welcome(self, broker: &Broker, listeners: &Listeners) {
        if self.format == LogFormat::Text {
            return self.say(&welcome(broker, listeners));
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            data_dir = %broker.config.data_dir.display(),
            topics = broker.topics.len(),
            metrics = listeners.metrics_on().map(tracing::field::display),
            "listening on {}",
            addresses(broker)
        );
        for endpoint in broker.endpoints.iter().filter(|endpoint| is_news(endpoint, broker)) {
            tracing::info!("{}", told(endpoint));
        }
    }

    fn fail(self, error: &dyn std::fmt::Display, code: u8) -> ExitCode {
        match self.format {
            LogFormat::Text => fail(error, code),
            LogFormat::Json => {
                tracing::error!("{error}");
                ExitCode::from(code)
            }
        }
    }
}

/// Where it listens, the first listener first.
fn addresses(broker: &Broker) -> String {
    broker.endpoints.iter().map(|endpoint| endpoint.addr.to_string()).collect::<Vec<_>>().join(" and ")
}

/// Whether there is more to say of an endpoint than where it listens.
fn is_news(endpoint: &Endpoint, broker: &Broker) -> bool {
    broker.endpoints.len() > 1 || endpoint.advertised.is_some() || endpoint.is_everywhere()
}

/// A listener, and what its clients are told.
fn told(endpoint: &Endpoint) -> String {
    let Endpoint { name, addr, advertised, .. } = endpoint;
    match advertised {
        Some(_) => format!("{name} on {addr}, clients are told {}", endpoint.told(*addr)),
        None if endpoint.is_everywhere() => format!(
            "{name} on {addr}, each client is told the address that it reached; behind NAT, Docker or a proxy set \
             advertised.listeners"
        ),
        None => format!("{name} on {addr}"),
    }
}

fn welcome(broker: &Broker, listeners: &Listeners) -> String {
    let addr = addresses(broker);
    let bootstrap = broker.endpoints.first().map_or_else(String::new, |endpoint| {
        let port = endpoint.addr.port();
        if endpoint.is_everywhere() { format!("127.0.0.1:{port}") } else { endpoint.addr.to_string() }
    });
    let news = broker.endpoints.iter().filter(|endpoint| is_news(endpoint, broker));
    let told: Vec<_> = news.map(|endpoint| format!("listener    {}\n  ", told(endpoint))).collect();
    let told = told.concat();
    let data_dir = &broker.config.data_dir;
    let data_dir = std::fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.clone());
    let durability = match broker.config.durability {
        Durability::Fsync => "fsync: a record acknowledged with acks=all survives a power cut",
        Durability::PageCache => "page-cache: an acknowledged record survives the broker, not a power cut",
    };
    let (version, topics) = (env!("CARGO_PKG_VERSION"), broker.topics.len());
    let data_dir = data_dir.display();
    let metrics =
        listeners.metrics_on().map(|addr| format!("metrics     http://{addr}/metrics\n  ")).unwrap_or_default();
    format!(
        "ottla {version} listening on {addr}\n  {told}\
         data in     {data_dir} ({topics} topics)\n  \
         durability  {durability}\n  {metrics}\
         try         echo hello | kcat -P -b {bootstrap} -t greetings\n              \
                     kcat -C -b {bootstrap} -t greetings -e\n  \
         stop with   Ctrl-C"
    )
}

#[cfg(test)]
mod tests {
    use ottla_broker::config::listeners::ListenerList;

    use super::*;

    #[test]
    fn options_win_over_set_and_set_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ottla.toml");
        std::fs::write(&path, "num.partitions = 3\nlog.dir = \"/from/file\"\nlisteners = \"127.0.0.1:1\"").unwrap();
        let args = ServeArgs {
            config: Some(path),
            set: vec!["num.partitions=5".to_owned(), "listeners=127.0.0.1:2".to_owned()],
            listen: Some("127.0.0.1:3".to_owned()),
            ..ServeArgs::default()
        };
        let config = args.config().unwrap();
        assert_eq!(config.num_partitions, 5);
        assert_eq!(config.data_dir, PathBuf::from("/from/file"));
        assert_eq!(config.listeners, ListenerList::on("127.0.0.1", 3));
    }
}
