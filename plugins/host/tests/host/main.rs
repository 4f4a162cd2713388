//! What the plugin host promises, shown with real components.
//!
//! * [`admission`] what is admitted, and what every other upload is told
//! * [`calls`] right answers: columns, chunks, threads, versions side by side
//! * [`tables`] a component for the lines of the contract's tables, and how it may grow
//! * [`hostile`] guests that misbehave, each told apart, none of them a reason for the next call to fail
//! * [`store`] restarts and damage on disk
//! * [`fixtures`] the committed components that other tests use
//! * [`cost`] figures, printed by `cargo test --release -p ottla-plugin-host -- --ignored --nocapture cost`
//!
//! Most guests are WebAssembly text (`ottla_tests::guest`); three are fixtures: two built from Rust, and one of the draft that came before 0.1.

mod admission;
mod calls;
mod cost;
mod fixtures;
mod home;
mod hostile;
mod store;
mod tables;

/// Not a test: the entry of the compile child, for which the host starts this binary again.
#[test]
#[ignore = "started by the host with a work directory"]
fn compile_child() -> std::process::ExitCode {
    let work = std::env::args_os().next_back();
    match work.filter(|work| std::path::Path::new(work).is_absolute()) {
        Some(work) => ottla_plugin_host::compile_child_main([work]),
        None => std::process::ExitCode::SUCCESS,
    }
}
