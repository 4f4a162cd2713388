//! Right answers: columns, chunks, threads, versions side by side.

use std::sync::Arc;
use std::thread;

use ottla_plugin::testing;
use ottla_plugin_host::{CallError, ColumnsBuilder, Context, Limits, LoadError, Reads};
use ottla_tests::guest::Guest;

use crate::home::{FIVE, Home, ask, columns, fixture};

/// The rule of by-section, written again.
fn by_section(stanza: &str, partitions: u32) -> i32 {
    let text = stanza.lines().find_map(|line| line.strip_prefix("Section:")).unwrap_or_default();
    ottla_plugin::hash::kafka_partition(text.trim().as_bytes(), partitions) as i32
}

fn stanzas(count: usize) -> Vec<String> {
    let sections = ["libs", "web", "contrib/games", "admin", "", "devel"];
    (0..count)
        .map(|n| match n % 7 {
            6 => format!("Package: p{n}\nVersion: 1\n"),
            s => format!("Package: p{n}\nSection: {}\nDescription: x\n long\n", sections[s]),
        })
        .collect()
}

#[test]
fn by_section_answers_as_its_readme_says() {
    let home = Home::new();
    let mut built = vec![fixture("by-section.wasm")];
    // Where the plugin was built on this machine, it must answer as the fixture does.
    let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins/by-section.wasm");
    built.extend(std::fs::read(target));
    let stanzas = stanzas(1000);
    let texts: Vec<&str> = stanzas.iter().map(String::as_str).collect();
    for component in built {
        let partitioner = home.load(&component);
        for partition_count in [1, 5, 6, 100, i32::MAX as u32] {
            let mut answer = Vec::new();
            let context = Context { topic: "packages", partition: 0, partition_count };
            partitioner.partition(&context, &columns(partitioner.reads(), &texts), &mut answer).unwrap();
            assert!(answer.iter().zip(&texts).all(|(&found, text)| found == by_section(text, partition_count)));
        }
    }
}

#[test]
fn the_kits_harness_and_the_host_agree() {
    struct ByKey;
    impl ottla_plugin::Partitioner for ByKey {
        const READS: ottla_plugin::Reads = ottla_plugin::Reads::KEY;
        fn new(_: &str) -> Result<Self, String> {
            Ok(Self)
        }
        fn partition(&self, record: &ottla_plugin::Record<'_>, partitions: u32) -> ottla_plugin::Placement {
            ottla_plugin::hash::kafka_partition(record.key().unwrap_or_default(), partitions).into()
        }
    }
    let home = Home::new();
    let partitioner = home.load(&fixture("by-key.wasm"));
    let keys: Vec<Option<Vec<u8>>> =
        (0..300_u32).map(|n| (n % 10 != 3).then(|| n.to_be_bytes().repeat(n as usize % 9))).collect();
    let mut builder = ColumnsBuilder::new(partitioner.reads());
    for key in &keys {
        builder.push(key.as_deref(), Some(b"never copied"), 0, [(&b"nor"[..], None)]);
    }
    let mut answer = Vec::new();
    partitioner.partition(&FIVE, &builder.build(), &mut answer).unwrap();
    let native = testing::load::<ByKey>("").unwrap();
    let records: Vec<_> = keys.iter().map(|key| key.iter().fold(testing::record(), testing::TestRecord::key)).collect();
    assert_eq!(native.partition_batch(&records, 5), Ok(answer));
}

#[test]
fn a_large_batch_takes_several_calls_and_gives_one_answer() {
    let home = Home::with(Limits { records_per_call_max: 7, bytes_per_call_max: 300, ..Limits::default() });
    let partitioner = home.load(&fixture("by-section.wasm"));
    let stanzas = stanzas(500);
    let texts: Vec<&str> = stanzas.iter().map(String::as_str).collect();
    let expected: Vec<i32> = texts.iter().map(|text| by_section(text, 5)).collect();
    assert_eq!(ask(&partitioner, &texts), Ok(expected));
    assert_eq!(ask(&partitioner, &[]), Ok(Vec::new()));
}

#[test]
fn a_batch_larger_than_a_guests_memory_is_answered() {
    let home = Home::new();
    let partitioner = home.load(&fixture("by-section.wasm"));
    let stanza = format!("Package: big\nSection: libs\nDescription: {}\n", "x".repeat(1 << 20));
    let texts = vec![stanza.as_str(); 48];
    assert_eq!(ask(&partitioner, &texts), Ok(vec![by_section(&stanza, 5); 48]));
}

#[test]
fn an_out_of_range_record_is_named_by_its_place_in_the_whole_batch() {
    let home = Home::with(Limits { records_per_call_max: 10, ..Limits::default() });
    // Answers 0, but 5 from the third call on.
    let guest = Guest {
        fields: "(global $calls (mut i32) (i32.const 0))",
        ..Guest::that(
            "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (call $fill (select (i32.const 5) (i32.const 0) (i32.gt_u (global.get $calls) (i32.const 2)))
                (local.get $records))",
        )
    };
    let partitioner = home.load(&guest.component());
    let failed = ask(&partitioner, &["x"; 35]).unwrap_err();
    assert_eq!(failed, CallError::OutOfRange { record: 20, partition: 5, partition_count: 5 });
}

#[test]
fn many_threads_get_their_own_answers() {
    let home = Home::with(Limits { concurrent_calls_max: 3, turn_wait_ms: 60_000, ..Limits::default() });
    let partitioner = home.load(&fixture("by-section.wasm"));
    thread::scope(|scope| {
        for thread in 0..8 {
            let partitioner = &partitioner;
            scope.spawn(move || {
                let stanzas = stanzas(50 + thread);
                let texts: Vec<&str> = stanzas.iter().map(String::as_str).collect();
                let expected: Vec<i32> = texts.iter().map(|text| by_section(text, 5)).collect();
                for _ in 0..200 {
                    assert_eq!(ask(partitioner, &texts), Ok(expected.clone()));
                }
            });
        }
    });
}

#[test]
fn versions_live_side_by_side_and_removal_disturbs_no_one() {
    let home = Home::new();
    let first = home.load(&Guest::default().component());
    let second = home.load(&Guest::that("(call $fill (i32.const 4) (local.get $records))").component());
    assert_ne!(first.digest(), second.digest());
    home.host.remove(first.digest()).unwrap();
    assert_eq!(ask(&first, &["a", "b"]), Ok(vec![0, 0]));
    assert_eq!(ask(&second, &["a", "b"]), Ok(vec![4, 4]));
    let digest = *first.digest();
    drop(first);
    assert!(matches!(home.host.partitioner(&digest, ""), Err(LoadError::NotStored { .. })));
}

#[test]
fn topics_do_not_share_instances() {
    // Counts its calls and answers with the number.
    let guest = Guest {
        fields: "(global $calls (mut i32) (i32.const 0))",
        ..Guest::that(
            "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (call $fill (global.get $calls) (local.get $records))",
        )
    };
    let home = Home::new();
    let one = home.load(&guest.component());
    let other = home.host.partitioner(one.digest(), "").unwrap();
    assert!(!Arc::ptr_eq(&one, &other));
    assert_eq!((ask(&one, &["a"]), ask(&one, &["a"])), (Ok(vec![1]), Ok(vec![2])));
    assert_eq!(ask(&other, &["a"]), Ok(vec![1]));
}

#[test]
fn configuration_reaches_the_plugin_or_is_refused_with_its_words() {
    let home = Home::new();
    let digest = home.admit(&fixture("by-section.wasm")).unwrap().digest;
    let Err(LoadError::Start(CallError::ConfigMisfit { reason })) = home.host.partitioner(&digest, "field=x") else {
        panic!("its schema has no room for a text")
    };
    assert_eq!(reason, "the value: has 7 characters, at most 0 are allowed");
    let picky = Guest { init: "(call $err (local.get $config) (local.get $config_bytes))", ..Guest::default() };
    let digest = home.admit(&picky.component()).unwrap().digest;
    let Err(LoadError::Start(CallError::ConfigRefused { reason })) = home.host.partitioner(&digest, "field=x") else {
        panic!("refused")
    };
    assert_eq!(reason, "field=x");
}

#[test]
fn columns_of_another_plugin_are_not_handed_over() {
    let home = Home::new();
    let partitioner = home.load(&fixture("by-section.wasm"));
    let keys_only = columns(&Reads { key: true, ..Reads::default() }, &["a"]);
    let mut answer = vec![7];
    assert_eq!(partitioner.partition(&FIVE, &keys_only, &mut answer), Err(CallError::WrongColumns));
    let none = Context { topic: "t", partition: 0, partition_count: 0 };
    let values = columns(partitioner.reads(), &["a"]);
    assert_eq!(partitioner.partition(&none, &values, &mut answer), Err(CallError::NoPartitions));
    assert!(answer.is_empty());
}
