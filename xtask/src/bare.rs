//! `cargo xtask bare`: the README's two commands on a Debian that has only what the README names.
//!
//! debootstrap makes the smallest Debian 12 there is under `target/bare`, the last commit of this checkout is cloned into it, and both
//! commands run there, one after the other, until the broker listens and the tests have ended. Rust is this machine's own toolchain:
//! rustup would install the same one. It needs root, the network and about an hour, so it is no part of `cargo xtask test`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::shell::shell;

const RELEASE: &str = "bookworm";
/// What the README asks for besides Rust, as Debian calls it. `apt-get` is there.
const NAMED_BY_THE_README: &[&str] = &["ca-certificates", "gcc", "git", "libc6-dev", "python3"];
/// Where the clone lies in the bare root.
const CLONE: &str = "/ottla";
const LISTENING: &str = "listening on ";

/// Makes the root, unless `--keep` is among `words` and one is there; runs both commands in it.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<()> {
    ensure!(shell("id", &["-u"]).quiet()?.trim() == "0", "`cargo xtask bare` makes a root of its own: run it as root");
    ensure!(shell("debootstrap", &["--version"]).works(), "there is no debootstrap: apt-get install debootstrap");
    let bare = Bare { root: root.join("target/bare/root"), toolchain: Toolchain::find(root)? };
    if !words.iter().any(|word| word == "--keep") || !bare.root.join("etc/debian_version").exists() {
        bare.make(root)?;
    }
    bare.clone(root)?;
    let seconds = bare.until_it_listens()?;
    println!("`cargo run --release` listened after {seconds} s");
    let started = Instant::now();
    bare.enter("cargo xtask test")?.show().context("`cargo xtask test` in the bare root")?;
    println!("`cargo xtask test` ended well after {} s", started.elapsed().as_secs());
    Ok(())
}

struct Bare {
    root: PathBuf,
    toolchain: Toolchain,
}

/// This machine's Rust, as rustup keeps it.
struct Toolchain {
    rustup_home: PathBuf,
    cargo_home: PathBuf,
}

impl Toolchain {
    fn find(root: &Path) -> Result<Self> {
        let home = |variable: &str, directory: &str| {
            let home = std::env::home_dir().unwrap_or_default().join(directory);
            std::env::var_os(variable).map_or(home, PathBuf::from)
        };
        let (rustup_home, cargo_home) = (home("RUSTUP_HOME", ".rustup"), home("CARGO_HOME", ".cargo"));
        let rustup = cargo_home.join("bin/rustup");
        ensure!(rustup.exists() && rustup_home.is_dir(), "{} is missing: Rust is to be rustup's", rustup.display());
        shell(&rustup, &["toolchain", "list"]).at(root).quiet()?;
        Ok(Self { rustup_home, cargo_home })
    }
}

impl Bare {
    fn make(&self, root: &Path) -> Result<()> {
        let packages = root.join("target/bare/packages");
        if self.root.exists() {
            fs::remove_dir_all(&self.root).context("the earlier root")?;
        }
        fs::create_dir_all(&packages)?;
        let cache = format!("--cache-dir={}", packages.display());
        shell("debootstrap", &["--variant=minbase", &cache, RELEASE]).args(&[self.root.to_string_lossy()]).show()?;
        let install = format!("apt-get update -qq && apt-get install -qq -y --no-install-recommends {}", {
            NAMED_BY_THE_README.join(" ")
        });
        self.enter(&install)?.show()?;
        for home in [&self.toolchain.rustup_home, &self.toolchain.cargo_home.join("bin")] {
            fs::create_dir_all(self.root.join(home.strip_prefix("/")?))?;
        }
        // Where crates come from is a matter of this machine.
        for file in ["config.toml", "config"] {
            let from = self.toolchain.cargo_home.join(file);
            if from.exists() {
                fs::copy(&from, self.root.join(from.strip_prefix("/")?))?;
            }
        }
        Ok(())
    }

    fn clone(&self, root: &Path) -> Result<()> {
        let clone = self.root.join(CLONE.trim_start_matches('/'));
        if clone.exists() {
            fs::remove_dir_all(&clone)?;
        }
        shell("git", &["clone", "--quiet", "--no-local", "--depth", "1"])
            .args(&[format!("file://{}", root.display()), clone.display().to_string()])
            .show()
    }

    /// Seconds until the README's first command has said that the broker listens; it is ended then.
    fn until_it_listens(&self) -> Result<u64> {
        let started = Instant::now();
        let mut command = self.command("cargo run --release");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let listens = lines.map_while(Result::ok).any(|line| line.contains(LISTENING));
        let seconds = started.elapsed().as_secs();
        if !listens {
            bail!("`cargo run --release` ended with {} and never listened", child.wait()?);
        }
        kill_process_group(Pid::from_child(&child), Signal::KILL)?;
        child.wait()?;
        Ok(seconds)
    }

    fn enter(&self, words: &str) -> Result<crate::shell::Shell> {
        ensure!(self.root.is_dir(), "{} is not there", self.root.display());
        Ok(shell("unshare", &self.arguments(words).iter().map(String::as_str).collect::<Vec<_>>()))
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(self.arguments(words));
        command
    }

    /// In namespaces of its own: what is mounted goes, and what runs ends, with the command. Names and certificates on the way to
    /// registries are a matter of this machine, too.
    fn arguments(&self, words: &str) -> Vec<String> {
        let Toolchain { rustup_home, cargo_home } = &self.toolchain;
        let (root, rustup, cargo) = (self.root.display(), rustup_home.display(), cargo_home.display());
        let script = format!(
            "set -e; mount -t proc proc {root}/proc; mount --rbind /dev {root}/dev; cp /etc/resolv.conf {root}/etc/
             if [ -d {root}/etc/ssl/certs ]; then cp /etc/ssl/certs/ca-certificates.crt {root}/etc/ssl/certs/; fi
             if [ -d {root}{cargo}/bin ]; then
                 mount --bind -o ro {rustup} {root}{rustup}; mount --bind -o ro {cargo}/bin {root}{cargo}/bin
             fi
             exec chroot {root} /usr/bin/env -i HOME=/root RUSTUP_HOME={rustup} CARGO_HOME={cargo} \
                 PATH={cargo}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
                 DEBIAN_FRONTEND=noninteractive sh -c 'if [ -d {CLONE} ]; then cd {CLONE}; fi; {words}'"
        );
        ["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &script].map(str::to_owned).to_vec()
    }
}
