//! The produce path against a whole broker on a port of its own, with real plugins.
//!
//! - `basics`: acks, error codes, what the broker fills in
//! - `idempotent`: retries, gaps and epochs, across restarts and crashes
//! - `joined`: requests that arrive together
//! - `routed`: records that a plugin moves, and what each client is told
//! - `encoded`: records that a serializer accepts, rewrites or refuses
//! - `failing`: plugins that fail
//! - `growing`: topics that get more partitions
//! - `cleanup`: retention and compaction
//! - `registry`: uploads, versions, activation, deletion
//! - `plugin_store`: plugins bound, pushed and deleted at the same time; a store that lost bytes

mod basics;
mod cleanup;
mod encoded;
mod failing;
mod growing;
mod idempotent;
mod joined;
mod plugin_store;
mod registry;
mod routed;

/// Not a test: the compile child of these brokers is this binary again, which is called with the hidden subcommand and
/// takes it for the name of a test to run.
#[test]
fn __compile() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "__compile") {
        ottla_plugin_host::compile_child_main(arguments)
    } else {
        std::process::ExitCode::SUCCESS
    }
}
