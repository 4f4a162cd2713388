//! What is admitted, and what every other upload is told.

use ottla_plugin_host::{AdmitError, CompileError, ComponentRefusal, Digest, Limits};
use ottla_tests::guest::{CONTRACT, Guest, component_of};

use crate::home::{Home, fixture};

#[test]
fn a_component_is_admitted_and_says_what_it_reads() {
    let home = Home::new();
    let component = fixture("by-section.wasm");
    let admitted = home.admit(&component).unwrap();
    assert_eq!(admitted.digest, Digest::of(&component));
    assert_eq!(admitted.bytes, component.len() as u64);
    assert_eq!(admitted.manifest.reads.names(), ["value"]);
    assert_eq!(admitted.manifest.text("name"), Some("by-section"));
    assert_eq!(home.host.component(&admitted.digest).unwrap(), component);
    // Again is the same.
    assert_eq!(home.admit(&component).unwrap().digest, admitted.digest);
    assert_eq!(home.host.digests().unwrap(), [admitted.digest]);
}

#[test]
fn an_upload_in_chunks_is_refused_as_early_as_possible() {
    let home = Home::new();
    let component = fixture("by-section.wasm");
    let upload = |declared: usize| home.host.upload(declared as u64);

    let mut whole = upload(component.len()).unwrap();
    for chunk in component.chunks(1000) {
        assert!(!whole.is_complete());
        whole.push(chunk).unwrap();
    }
    assert_eq!((whole.is_complete(), whole.received_bytes()), (true, component.len() as u64));
    whole.finish(Some(Digest::of(&component))).unwrap();

    let too_large = upload(100 << 20).unwrap_err();
    assert!(matches!(too_large, AdmitError::TooLarge { .. }), "{too_large}");
    assert!(too_large.to_string().contains("104857600 bytes, 33554432 are allowed"), "{too_large}");

    let mut garbage = upload(1 << 20).unwrap();
    garbage.push(b"never").unwrap();
    assert!(matches!(garbage.push(b" a plugin"), Err(AdmitError::NotAComponent(_))));

    let mut longer = upload(10).unwrap();
    assert!(matches!(longer.push(&component), Err(AdmitError::WrongSize { declared_bytes: 10, .. })));

    let mut shorter = upload(component.len()).unwrap();
    shorter.push(&component[..component.len() - 1]).unwrap();
    assert!(matches!(shorter.finish(None), Err(AdmitError::WrongSize { .. })));

    let mut other = upload(component.len()).unwrap();
    other.push(&component).unwrap();
    assert!(matches!(other.finish(Some(Digest::of(b"other"))), Err(AdmitError::WrongDigest { .. })));

    // Nothing of all this is left behind.
    drop((garbage, longer));
    assert_eq!(std::fs::read_dir(home.store().join("work")).unwrap().count(), 0);
}

#[test]
fn what_is_no_component_is_named_for_what_it_is() {
    let home = Home::new();
    for (upload, told) in [
        (&b""[..], "empty"),
        (b"hello, broker", "not a WebAssembly file"),
        (b"(component)", "assemble it first"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0", "compiled machine code"),
        (&Guest::default().module("ottla:plugin/partitioner@0.1.0"), "wasm-tools component new"),
    ] {
        let error = home.refused(upload);
        assert!(error.contains(told), "{error}");
    }
    assert!(!home.store().exists(), "none of these was worth a file");
}

#[test]
fn compiled_code_is_refused_even_from_this_very_host() {
    let home = Home::new();
    home.admit(&fixture("by-section.wasm")).unwrap();
    let compiled = std::fs::read_dir(home.store().join("compiled")).unwrap().next().unwrap().unwrap();
    let sealed = std::fs::read(compiled.path()).unwrap();
    let code_at = sealed.windows(4).position(|bytes| bytes == b"\x7fELF").expect("machine code inside");
    assert!(home.refused(&sealed).contains("not a WebAssembly file"));
    assert!(home.refused(&sealed[code_at..]).contains("compiled machine code"));
}

#[test]
fn imports_are_refused_by_name() {
    let home = Home::new();
    let component = |text: &str| wat::parse_str(text).unwrap();
    let error = home.refused(&component(r#"(component (import "host-clock" (func (result u64))))"#));
    assert!(error.contains("it imports host-clock, and nothing is granted"), "{error}");
    let error = home.refused(&component(
        r#"(component
            (import "wasi:clocks/wall-clock@0.2.0" (instance))
            (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result u64))))))"#,
    ));
    assert!(error.contains("wasi:clocks/wall-clock@0.2.0, wasi:random/random@0.2.0"), "{error}");
    assert!(error.contains("wasm32-unknown-unknown"), "{error}");
}

/// A guest that needs no import to fail each time is found at upload; one that fails now and then is not.
#[test]
fn a_plugin_that_traps_on_every_sample_record_or_on_no_configuration_is_refused() {
    let home = Home::new();
    let refused = home.refused(&Guest::that("unreachable").component());
    assert!(refused.contains("it fails on each of 4 sample records: it aborted"), "{refused}");
    assert!(refused.contains("in partition"), "{refused}");
    let refused = home.refused(&Guest { init: "unreachable", ..Guest::default() }.component());
    assert!(refused.contains("it fails on the empty configuration: it aborted"), "{refused}");
    // Traps unless the key is null: the column of keys has no bytes then.
    let picky = "(if (i32.load offset=8 (local.get $columns)) (then unreachable))
        (call $fill (i32.const 0) (local.get $records))";
    home.admit(&Guest::that(picky).component()).expect("it answers one of the samples");
    let wants_one = Guest { init: "(call $err (i32.const 0) (i32.const 0))", ..Guest::default() };
    home.admit(&wants_one.component()).expect("a configuration that is asked for is no failure");
}

#[test]
fn another_world_is_told_what_is_missing() {
    let home = Home::new();
    let error = home.refused(&wat::parse_str("(component)").unwrap());
    assert!(
        error.contains("does not export ottla:plugin/partitioner@0.1.0 or ottla:plugin/serializer@0.1.0"),
        "{error}"
    );
    assert!(error.contains("its exports are none"), "{error}");

    let later = CONTRACT.replace("@0.1.0", "@0.9.0");
    let error = home.refused(&component_of(&later, "ottla:plugin/partitioner@0.9.0", &Guest::default()));
    assert!(error.contains("built against ottla:plugin/partitioner@0.9.0, this host speaks"), "{error}");

    let without_init = CONTRACT.replace("init: func", "start: func");
    let start = r#"(func (export "ottla:plugin/partitioner@0.1.0#start") (param i32 i32 i32 i32) (result i32)
                     (i32.const 16))"#;
    let guest = Guest { fields: start, ..Guest::default() };
    let error = home.refused(&component_of(&without_init, "ottla:plugin/partitioner@0.1.0", &guest));
    assert!(error.contains("does not export ottla:plugin/partitioner@0.1.0#init"), "{error}");

    let other_types = CONTRACT.replace("partitions: list<s32>", "partitions: list<u32>");
    let error = home.refused(&component_of(&other_types, "ottla:plugin/partitioner@0.1.0", &Guest::default()));
    assert!(error.contains("other types than the contract"), "{error}");
}

#[test]
fn a_manifest_that_cannot_be_kept_is_refused() {
    let home = Home::new();
    for (guest, told) in [
        (Guest::default().with("needs", "network"), "asks for `needs`"),
        (Guest::default().with("limits.memory-bytes", "999999999999"), "more than the"),
        (Guest::default().with("x-blob", "b".repeat(60 << 10)).with("x-more", "b".repeat(5 << 10)), "too large"),
        (Guest { manifest: Vec::new(), ..Guest::default() }, "it has no `kind`"),
    ] {
        let error = home.refused(&guest.component());
        assert!(error.contains("its manifest is refused") && error.contains(told), "{error}");
    }
}

#[test]
fn a_guest_that_misbehaves_before_its_first_record_is_not_admitted() {
    let home = Home::with(Limits { start_deadline_ms: 50, ..Limits::default() });
    let endless = "(loop $again (br $again))";
    let start = "(func $start (loop $again (br $again))) (start $start)";
    for (guest, told) in [
        (Guest { before_manifest: "unreachable", ..Guest::default() }, "the plugin failed"),
        (Guest { before_manifest: endless, ..Guest::default() }, "within 50 ms"),
        (Guest { fields: start, ..Guest::default() }, "within 50 ms"),
        (
            Guest { before_manifest: "(drop (memory.grow (i32.const 9999)))", ..Guest::default() },
            "bytes of memory, 33554432 are allowed",
        ),
        (Guest { pages: 1000, ..Guest::default() }, "memory"),
    ] {
        let error = home.refused(&guest.component());
        assert!(error.contains(told), "{error}");
    }
    // And the host is as good as new.
    home.load(&Guest::default().component());
}

#[test]
fn no_damaged_upload_gets_past_admission_or_hurts() {
    let home = Home::new();
    let component = fixture("by-section.wasm");
    for cut in [9, 20, component.len() / 3, component.len() / 2, component.len() - 1] {
        assert!(home.refused(&component[..cut]).contains("not a valid component"), "cut at {cut}");
    }
    // A flipped bit may change code without making it invalid. Then it is another plugin, and all that counts is that
    // neither admission nor calls do harm.
    let mut random = 0x9e37_79b9_u32;
    for _ in 0..60 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut flipped = component.clone();
        let at = 8 + random as usize % (flipped.len() - 8);
        flipped[at] ^= 1 << (random >> 29);
        match home.admit(&flipped) {
            Err(error) => assert!(error.is_refusal(), "flipped byte {at}: {error}"),
            Ok(admitted) => {
                if let Ok(partitioner) = home.host.partitioner(&admitted.digest, "") {
                    let _ = crate::home::ask(&partitioner, &["Section: libs\n"]);
                }
            }
        }
    }
    home.load(&component);
}

#[test]
fn a_component_that_is_expensive_to_compile_costs_no_more_than_allowed() {
    // One function of many instructions that all depend on each other.
    let mut body = String::from("(local $a i32) ");
    for n in 0..400_000 {
        body.push_str(if n % 2 == 0 {
            "(local.set $a (i32.mul (i32.load (local.get $a)) (local.get $a))) "
        } else {
            "(if (local.get $a) (then (local.set $a (i32.add (local.get $a) (i32.const 7))))) "
        });
    }
    let fields: &'static str = Box::leak(format!("(func {body})").into_boxed_str());
    let bomb = Guest { fields, ..Guest::default() }.component();

    let slow = Home::with(Limits { compile_cpu_s: 1, ..Limits::default() });
    let error = slow.admit(&bomb).unwrap_err();
    assert!(matches!(error, AdmitError::Compile(CompileError::OutOfTime { allowed_s: 1 })), "{error}");

    let small = Home::with(Limits { compile_memory_bytes: 48 << 20, ..Limits::default() });
    let error = small.admit(&bomb).unwrap_err();
    assert!(matches!(error, AdmitError::Compile(CompileError::OutOfMemory { .. })), "{error}");

    let impatient = Home::with(Limits { compile_wall_s: 0, ..Limits::default() });
    let error = impatient.admit(&bomb).unwrap_err();
    assert!(matches!(error, AdmitError::Compile(CompileError::OutOfTime { allowed_s: 0 })), "{error}");

    let narrow = Home::with(Limits { compiled_bytes_max: 16 << 10, ..Limits::default() });
    let error = narrow.admit(&fixture("by-section.wasm")).unwrap_err();
    assert!(matches!(error, AdmitError::Compile(CompileError::CodeTooLarge { .. })), "{error}");

    for home in [slow, small, impatient, narrow] {
        assert_eq!(home.host.digests().unwrap(), []);
        assert_eq!(std::fs::read_dir(home.store().join("work")).unwrap().count(), 0);
    }
}

#[test]
fn a_refusal_is_a_fact_that_can_be_matched() {
    let home = Home::new();
    let error = home.admit(&wat::parse_str("(component)").unwrap()).unwrap_err();
    let AdmitError::Compile(CompileError::Refused(ComponentRefusal::WrongWorld { missing, exports })) = error else {
        panic!("{error}")
    };
    assert!(missing.starts_with("ottla:plugin/partitioner@0.1.0 or "), "{missing}");
    assert_eq!(exports.len(), 0);
}
