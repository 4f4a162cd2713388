//! `ottla completions` and `ottla man`: what a shell and a reader of manuals know of the commands.

use std::path::{Path, PathBuf};

use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell, generate};

use super::failure::{Failure, Kind};
use super::output::Output;

/// Arguments of `ottla completions`.
#[derive(Debug, Args)]
#[command(after_long_help = COMPLETIONS_HELP)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: KnownShell,
}

const COMPLETIONS_HELP: &str = "\
Examples:
  ottla completions bash > ~/.local/share/bash-completion/completions/ottla
  ottla completions zsh > ~/.zfunc/_ottla
  ottla completions fish > ~/.config/fish/completions/ottla.fish";

/// The shells that are tried.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// Arguments of `ottla man`.
#[derive(Debug, Args)]
#[command(after_long_help = MAN_HELP)]
pub(crate) struct ManArgs {
    /// Directory that gets a page for each command
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

const MAN_HELP: &str = "\
Examples:
  ottla man ~/.local/share/man/man1      then: man ottla-topic-create";

/// Writes the script of a shell to stdout.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command, output: &mut Output) -> Result<(), Failure> {
    let shell = match args.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut command, "ottla", &mut script);
    output.bytes(&script)
}

/// Writes the pages.
pub(crate) fn man(args: &ManArgs, command: Command, output: &mut Output) -> Result<(), Failure> {
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::new(Kind::Failed, format!("cannot write {}: {error}", path.display()))
    };
    std::fs::create_dir_all(&args.directory).map_err(|error| failed(&args.directory, &error))?;
    clap_mangen::generate_to(command, &args.directory).map_err(|error| failed(&args.directory, &error))?;
    let directory = args.directory.display();
    output.say(&format!("manual pages in {directory}"), &serde_json::json!({ "directory": directory.to_string() }))
}
