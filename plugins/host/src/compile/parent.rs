//! The parent's side: starts the child, waits for it no longer than allowed, and reads what it left.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::report::{CODE, ComponentRefusal, JOB, Job, OUTPUT, REPORT, Report};
use crate::engine::Runtime;
use crate::limits::Limits;
use crate::manifest::shorten;

const POLL_MAX: Duration = Duration::from_millis(20);
const REPORT_BYTES_MAX: u64 = 4 << 20;
const OUTPUT_BYTES_SHOWN: u64 = 2000;

/// How to start the compile child: a program that calls [`super::compile_child_main`] with its arguments.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// The program; an absolute path, since the child runs in its work directory.
    pub program: PathBuf,
    /// Arguments before the work directory.
    pub args: Vec<OsString>,
}

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum CompileError {
    #[error(transparent)]
    Refused(#[from] ComponentRefusal),
    #[error("compiling it took longer than {allowed_s} s")]
    OutOfTime { allowed_s: u64 },
    #[error("compiling it took more than {allowed_bytes} bytes of memory")]
    OutOfMemory { allowed_bytes: u64 },
    #[error("its compiled form is larger than {allowed_bytes} bytes")]
    CodeTooLarge { allowed_bytes: u64 },
    #[error("compiling it was interrupted: its process was ended from outside ({status}); it can be sent again")]
    Interrupted { status: ExitStatus },
    #[error("the compiler ended without a result ({status}): {output}")]
    Crashed { status: ExitStatus, output: String },
    #[error("the compiler is of another build than this process (engine {found}); restart it")]
    OtherBuild { found: String },
    #[error("cannot run the compiler {}: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("cannot exchange files with the compiler: {0}")]
    Files(#[from] io::Error),
}

/// What the child made.
pub(crate) struct Output {
    pub(crate) pairs: Vec<(String, String)>,
    pub(crate) code: Vec<u8>,
}

impl Compiler {
    /// Compiles `component` in `work` for the engine of `runtime`. Blocks.
    pub(crate) fn compile(&self, runtime: &Runtime, work: &Path, component: &Path) -> Result<Output, CompileError> {
        let limits = &runtime.limits;
        let job =
            Job { component: component.to_owned(), limits: limits.clone(), engine: runtime.fingerprint().to_owned() };
        fs::write(work.join(JOB), serde_json::to_vec(&job).map_err(io::Error::from)?)?;
        let output = File::create(work.join(OUTPUT))?;
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .arg(work)
            .env_clear()
            .current_dir(work)
            .stdin(Stdio::null())
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output))
            .spawn()
            .map_err(|source| CompileError::Start { program: self.program.clone(), source })?;

        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > Duration::from_secs(limits.compile_wall_s) {
                child.kill()?;
                child.wait()?;
                return Err(CompileError::OutOfTime { allowed_s: limits.compile_wall_s });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(POLL_MAX);
        };
        read_result(limits, work, status)
    }
}

fn read_result(limits: &Limits, work: &Path, status: ExitStatus) -> Result<Output, CompileError> {
    if !status.success() {
        return Err(why_it_ended(limits, work, status));
    }
    let mut report = Vec::new();
    File::open(work.join(REPORT))?.take(REPORT_BYTES_MAX).read_to_end(&mut report)?;
    match serde_json::from_slice(&report).map_err(io::Error::from)? {
        Report::Compiled { pairs } => Ok(Output { pairs, code: fs::read(work.join(CODE))? }),
        Report::Refused(refusal) => Err(refusal.into()),
        Report::OutOfMemory => Err(out_of_memory(limits)),
        Report::OtherEngine { found } => Err(CompileError::OtherBuild { found }),
    }
}

/// A child that hits a limit is ended by the kernel, or aborts because it gets no memory.
fn why_it_ended(limits: &Limits, work: &Path, status: ExitStatus) -> CompileError {
    let output = last_output(&work.join(OUTPUT));
    let by = |signal: Signal| status.signal() == Some(signal.as_raw());
    if by(Signal::XCPU) {
        return CompileError::OutOfTime { allowed_s: limits.compile_cpu_s };
    }
    // No limit of its own ends it like this: the one on processor time would a second after XCPU.
    if [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP].into_iter().any(by) {
        return CompileError::Interrupted { status };
    }
    if by(Signal::XFSZ) || output.contains("File too large") {
        return CompileError::CodeTooLarge { allowed_bytes: limits.compiled_bytes_max };
    }
    if output.contains("memory allocation of") || output.contains("Cannot allocate memory") {
        return out_of_memory(limits);
    }
    CompileError::Crashed { status, output }
}

fn out_of_memory(limits: &Limits) -> CompileError {
    CompileError::OutOfMemory { allowed_bytes: limits.compile_memory_bytes }
}

fn last_output(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_BYTES_SHOWN)))?;
        let mut tail = Vec::new();
        file.take(OUTPUT_BYTES_SHOWN).read_to_end(&mut tail)?;
        Ok(tail)
    };
    shorten(String::from_utf8_lossy(&read().unwrap_or_default()).trim())
}
