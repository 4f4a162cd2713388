//! A host with a store of its own.

use std::path::Path;

use ottla_plugin_host::{
    AdmitError, Admitted, CallError, Columns, ColumnsBuilder, Compiler, Context, Host, HostOptions, Limits,
    Partitioner, Reads,
};
use std::sync::Arc;

pub(crate) const FIVE: Context<'static> = Context { topic: "packages", partition: 0, partition_count: 5 };

/// A store that is gone after the test.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    pub(crate) host: Host,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let host = host(dir.path(), compiler(), limits);
        Self { dir, host }
    }

    pub(crate) fn store(&self) -> std::path::PathBuf {
        self.dir.path().join("plugins")
    }

    /// Another host on the same store, as after a restart.
    pub(crate) fn restart(&self, compiler: Compiler) -> Host {
        host(self.dir.path(), compiler, Limits::default())
    }

    pub(crate) fn admit(&self, component: &[u8]) -> Result<Admitted, AdmitError> {
        self.host.admit(component)
    }

    /// Admits a component and binds it to a topic.
    pub(crate) fn load(&self, component: &[u8]) -> Arc<Partitioner> {
        let admitted = self.admit(component).expect("admitted");
        self.host.partitioner(&admitted.digest, "").expect("loaded")
    }

    /// What the upload is told.
    pub(crate) fn refused(&self, component: &[u8]) -> String {
        let before = self.host.digests().expect("digests");
        let error = self.admit(component).expect_err("refused");
        assert_eq!(self.host.digests().expect("digests"), before, "a refused plugin is not in the store");
        assert!(error.is_refusal(), "{error}");
        error.to_string()
    }
}

fn host(dir: &Path, compiler: Compiler, limits: Limits) -> Host {
    Host::new(HostOptions { store_dir: dir.join("plugins"), compiler, limits })
}

/// This test binary again, running only the entry of the compile child.
pub(crate) fn compiler() -> Compiler {
    Compiler {
        program: std::env::current_exe().expect("this binary"),
        args: ["--exact", "compile_child", "--ignored"].map(Into::into).to_vec(),
    }
}

/// A compiler that must not be needed.
pub(crate) fn no_compiler() -> Compiler {
    Compiler { program: "/nonexistent/compiler".into(), args: Vec::new() }
}

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(path).expect("a fixture")
}

/// Records with these keys and the same text as value.
pub(crate) fn columns(reads: &Reads, texts: &[&str]) -> Columns {
    let mut builder = ColumnsBuilder::new(reads);
    for text in texts {
        builder.push(Some(text.as_bytes()), Some(text.as_bytes()), 0, []);
    }
    builder.build()
}

/// Asks for records with these texts on a topic of five partitions.
pub(crate) fn ask(partitioner: &Partitioner, texts: &[&str]) -> Result<Vec<i32>, CallError> {
    let mut answer = vec![99; 3];
    partitioner.partition(&FIVE, &columns(partitioner.reads(), texts), &mut answer).map(|_| answer)
}

/// Memory of this process that no file backs.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
