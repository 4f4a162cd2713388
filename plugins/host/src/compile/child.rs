//! The child's side: limits on itself first, then the component.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::report::{CODE, ComponentRefusal, JOB, Job, REPORT, Report};
use super::samples;
use crate::contract::{Exports, PACKAGE, functions, interface};
use crate::engine::Runtime;
use crate::instance::{Instance, Prepared, Stop, TEXT_BYTES_MAX};
use crate::limits::Limits;
use crate::manifest::{Kind, MANIFEST_BYTES_MAX, Manifest, shorten};
use crate::trap::reason;

const OPEN_FILES_MAX: u64 = 64;
/// Instances the child has room for; it needs one.
const INSTANCES: u32 = 1;
const NICENESS: i32 = 10;

/// Entry of the compile child, behind a hidden subcommand of the binary ([`super::Compiler`]). The last argument is the
/// work directory.
pub fn compile_child_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(work) = args.into_iter().last() else {
        eprintln!("this subcommand is started by Ottla itself");
        return ExitCode::from(2);
    };
    match run(Path::new(&work)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compile child: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(work: &Path) -> io::Result<()> {
    let job: Job = serde_json::from_slice(&std::fs::read(work.join(JOB))?)?;
    restrict(&job.limits)?;
    let report = match compile(&job) {
        Ok((pairs, code)) => {
            std::fs::write(work.join(CODE), code)?;
            Report::Compiled { pairs }
        }
        Err(report) => report,
    };
    std::fs::write(work.join(REPORT), serde_json::to_vec(&report)?)
}

/// Takes away what compiling does not need. Memory is limited as writable data, not as address space: the engine
/// reserves address space by the terabyte without using it.
fn restrict(limits: &Limits) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    nice(NICENESS)?;
    let bounds = [
        (Resource::Cpu, limits.compile_cpu_s),
        (Resource::Data, limits.compile_memory_bytes),
        (Resource::Fsize, limits.compiled_bytes_max),
        (Resource::Nofile, OPEN_FILES_MAX),
        (Resource::Core, 0),
    ];
    for (resource, most) in bounds {
        // At the first bound the kernel says which one it was, at the second it only kills.
        let last = if matches!(resource, Resource::Cpu) { most + 1 } else { most };
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(last) })?;
    }
    Ok(())
}

type Pairs = Vec<(String, String)>;

fn compile(job: &Job) -> Result<(Pairs, Vec<u8>), Report> {
    let runtime = Runtime::new(&job.limits, INSTANCES).map_err(|error| invalid(&error))?;
    if runtime.fingerprint() != job.engine {
        return Err(Report::OtherEngine { found: runtime.fingerprint().to_owned() });
    }
    let bytes = std::fs::read(&job.component).map_err(|error| invalid(&error.into()))?;
    let component = Component::from_binary(&runtime.engine, &bytes).map_err(|error| invalid(&error))?;
    drop(bytes);
    let kind = check_world(&component).map_err(Report::Refused)?;
    let prepared = prepare(kind, &component).map_err(Report::Refused)?;
    let pairs = question(&runtime, kind, &prepared).map_err(Report::Refused)?;
    let manifest = Manifest::parse(kind, pairs, &job.limits)
        .map_err(|error| Report::Refused(ComponentRefusal::Manifest { reason: error.to_string() }))?;
    samples::try_out(&runtime, &prepared, &manifest).map_err(Report::Refused)?;
    let code = component.serialize().map_err(|error| invalid(&error))?;
    Ok((manifest.pairs, code))
}

/// Nothing imported, and the interface of one kind exported, with all its functions. What else is exported is passed over:
/// some toolchains add functions of their own, and a later contract has interfaces that this host does not know.
fn check_world(component: &Component) -> Result<Kind, ComponentRefusal> {
    let engine = component.engine();
    let world = component.component_type();
    let imports: Vec<String> = world.imports(engine).map(|(name, _)| shorten(name)).collect();
    if !imports.is_empty() {
        return Err(ComponentRefusal::UngrantedImports { imports });
    }
    let exported = |kind: &Kind| Some((*kind, component.get_export(None, interface(*kind))?.0));
    let mut kinds = Kind::ALL.iter().filter_map(exported);
    let Some((kind, exports_kind)) = kinds.next() else {
        let exports: Vec<String> = world.exports(engine).map(|(name, _)| shorten(name)).collect();
        if let Some(found) = exports.iter().find(|name| name.starts_with(PACKAGE)) {
            return Err(ComponentRefusal::other_contract(found.clone()));
        }
        let missing = Kind::ALL.map(interface).join(" or ");
        return Err(ComponentRefusal::WrongWorld { missing, exports });
    };
    if let Some((other, _)) = kinds.next() {
        let kinds = [kind, other].map(|kind| kind.to_string()).to_vec();
        return Err(ComponentRefusal::SeveralKinds { kinds });
    }
    let found: Vec<String> = match &exports_kind {
        ComponentItem::ComponentInstance(instance) => instance.exports(engine).map(|(name, _)| shorten(name)).collect(),
        _ => Vec::new(),
    };
    match functions(kind).iter().find(|wanted| !found.iter().any(|name| name == **wanted)) {
        Some(missing) => {
            let missing = format!("{}#{missing}", interface(kind));
            Err(ComponentRefusal::WrongWorld { missing, exports: found })
        }
        None => Ok(kind),
    }
}

fn prepare(kind: Kind, component: &Component) -> Result<Prepared, ComponentRefusal> {
    let interface = interface(kind).to_owned();
    let wrong = |error| ComponentRefusal::WrongSignature { interface, reason: reason(&error) };
    Prepared::new(kind, component).map_err(wrong)
}

/// Creates an instance under the limits of a call and asks for its manifest.
fn question(runtime: &std::sync::Arc<Runtime>, kind: Kind, prepared: &Prepared) -> Result<Pairs, ComponentRefusal> {
    let failed = |stop: Stop| match stop {
        Stop::WrongTypes { reason } => {
            ComponentRefusal::WrongSignature { interface: interface(kind).to_owned(), reason }
        }
        stop => ComponentRefusal::ManifestCall { reason: crate::CallError::from(stop).to_string() },
    };
    let slot = runtime
        .instance_slot()
        .ok_or(ComponentRefusal::ManifestCall { reason: "no room for an instance".to_owned() })?;
    let mut instance =
        Instance::create(prepared, slot, runtime.limits.memory_bytes, std::sync::Arc::default()).map_err(failed)?;
    let data_bytes = MANIFEST_BYTES_MAX + TEXT_BYTES_MAX;
    instance.call(&runtime.clock, runtime.limits.start_deadline_ms, data_bytes, Exports::manifest).map_err(failed)
}

fn invalid(error: &wasmtime::Error) -> Report {
    // The system's own error comes in several types; all of them end in its number.
    let no_memory = format!("{error:#}").contains("(os error 12)");
    if no_memory || error.is::<wasmtime::error::OutOfMemory>() {
        return Report::OutOfMemory;
    }
    Report::Refused(ComponentRefusal::Invalid { reason: reason(error) })
}
