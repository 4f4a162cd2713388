//! Compiles and questions a component in a process of its own.
//!
//! Compiling is the one thing that a hostile component can make expensive without running, so it happens in a child: the
//! same binary executed again, at low priority, under limits on processor time, memory, file size and open files, with a
//! wall-clock limit kept by the parent. The child also creates an instance under the limits of a call, asks it for its manifest,
//! and tries sample records on it.
//!
//! The two speak through files in a work directory: `job.json` and the component go in, `report.json` and `code` come out.

mod child;
mod parent;
mod report;
mod samples;

pub use child::compile_child_main;
pub(crate) use parent::Output;
pub use parent::{CompileError, Compiler};
pub use report::ComponentRefusal;
