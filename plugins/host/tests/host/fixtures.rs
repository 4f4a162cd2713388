//! The committed components in `tests/fixtures`, for whole-system tests that have no guest toolchain.
//!
//! `by-section.wasm` and `by-key.wasm` are copies of what `cargo xtask plugins` built. The others are made from the text
//! here and behave badly on every record; `cargo test --release -p ottla-plugin-host -- --ignored write_fixtures` writes
//! them again after a change of the contract.

use std::path::PathBuf;

use ottla_tests::guest::Guest;

use crate::home::{Home, ask};

fn all() -> Vec<(&'static str, Vec<u8>)> {
    let guest = |name: &'static str, partition| {
        let guest = Guest { manifest: Vec::new(), ..Guest::that(partition) };
        let about = guest.with("kind", "partitioner").with("reads", "key").with("name", name);
        (name, about.component())
    };
    let imports =
        r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance (export "now" (func (result u64))))))"#;
    vec![
        guest("last-partition", "(call $fill (i32.sub (local.get $partitions) (i32.const 1)) (local.get $records))"),
        guest("trap", "unreachable"),
        guest("endless", "(loop $again (br $again)) unreachable"),
        guest("memory-hog", "(loop $more (drop (memory.grow (i32.const 1))) (br $more)) unreachable"),
        guest("out-of-range", "(call $fill (local.get $partitions) (local.get $records))"),
        guest("wrong-count", "(call $fill (i32.const 0) (i32.add (local.get $records) (i32.const 1)))"),
        guest(
            "refuses",
            "(i32.store (i32.const 512) (i32.const 0x21_6f_6e)) (call $err (i32.const 512) (i32.const 3))",
        ),
        ("imports-clock", wat::parse_str(imports).expect("text")),
        ("core-module", Guest::default().module("ottla:plugin/partitioner@0.1.0")),
    ]
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.wasm"))
}

#[test]
fn fixtures_are_what_their_text_says() {
    let home = Home::new();
    for (name, component) in all() {
        assert!(std::fs::read(path(name)).is_ok_and(|found| found == component), "{name}.wasm: write_fixtures");
        let told = match home.admit(&component) {
            Err(error) => error.to_string(),
            Ok(admitted) => {
                let partitioner = home.host.partitioner(&admitted.digest, "").expect("it starts");
                format!("{:?}", ask(&partitioner, &["a"]))
            }
        };
        let expected = match name {
            "last-partition" => "Ok([4])",
            "trap" => "it fails on each of 4 sample records: it aborted",
            "endless" => "Err(Deadline",
            "memory-hog" => "Err(Memory",
            "out-of-range" => "Err(OutOfRange",
            "wrong-count" => "Err(WrongCount",
            "refuses" => r#"Err(Refused { reason: "no!" })"#,
            "imports-clock" => "it imports wasi:clocks/wall-clock@0.2.0",
            _ => "this is a core WebAssembly module",
        };
        assert!(told.starts_with(expected), "{name}: {told}");
    }
}

#[test]
#[ignore = "writes files of the checkout"]
fn write_fixtures() {
    for (name, component) in all() {
        std::fs::write(path(name), component).expect("written");
    }
}
