//! Figures, printed and not judged: `cargo test --release -p ottla-plugin-host -- --ignored --nocapture cost`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ottla_plugin::hash::kafka_partition;
use ottla_plugin_host::ColumnsBuilder;

use crate::home::{FIVE, Home, fixture};

const RECORDS: usize = 400_000;

#[test]
#[ignore = "prints figures"]
fn cost_per_record() {
    let home = Home::new();
    let by_key = home.load(&fixture("by-key.wasm"));
    let by_section = home.load(&fixture("by-section.wasm"));
    let keys: Vec<String> = (0..1000).map(|n| format!("key-number-{n:013}")).collect();
    let stanza = format!("Package: p\nVersion: 1\nSection: libs\nDescription: {}\n", "x".repeat(800));
    println!("ns per record, best of 7   (24-byte keys; columns are built within the time)");
    println!("{:>7} {:>10} {:>10} {:>14} {:>22}", "batch", "native", "columns", "by-key", "by-section, 850 B");
    for batch in [1, 10, 100, 1000] {
        let native = best(batch, || {
            let mut answer: Vec<u32> = Vec::new();
            answer.extend(keys.iter().cycle().take(batch).map(|key| kafka_partition(key.as_bytes(), 5)));
            black_box(&answer);
        });
        let mut columns = Some(ColumnsBuilder::new(by_key.reads()));
        let flattened = best(batch, || {
            let mut builder = columns.take().unwrap();
            for key in keys.iter().cycle().take(batch) {
                builder.push(Some(key.as_bytes()), None, 0, []);
            }
            columns = Some(black_box(builder.build()).into_builder(by_key.reads()));
        });
        let (mut columns, mut answer) = (Some(ColumnsBuilder::new(by_key.reads())), Vec::new());
        let key = best(batch, || {
            let mut builder = columns.take().unwrap();
            for key in keys.iter().cycle().take(batch) {
                builder.push(Some(key.as_bytes()), None, 0, []);
            }
            let built = builder.build();
            by_key.partition(&FIVE, &built, &mut answer).unwrap();
            columns = Some(built.into_builder(by_key.reads()));
        });
        let mut columns = Some(ColumnsBuilder::new(by_section.reads()));
        let section = best(batch, || {
            let mut builder = columns.take().unwrap();
            for _ in 0..batch {
                builder.push(None, Some(stanza.as_bytes()), 0, []);
            }
            let built = builder.build();
            by_section.partition(&FIVE, &built, &mut answer).unwrap();
            columns = Some(built.into_builder(by_section.reads()));
        });
        println!("{batch:>7} {native:>10.1} {flattened:>10.1} {key:>14.1} {section:>22.1}");
    }
}

#[test]
#[ignore = "prints figures"]
fn cost_of_loading() {
    let home = Home::new();
    let component = fixture("by-section.wasm");
    let before = crate::home::resident_bytes();
    let admit = Instant::now();
    let digest = home.admit(&component).unwrap().digest;
    println!("admit (compile child and all): {:?}", admit.elapsed());
    let first = home.host.partitioner(&digest, "").unwrap();
    crate::home::ask(&first, &["Section: libs\n"]).unwrap();
    println!("memory of engine, code and one instance: {} KiB", (crate::home::resident_bytes() - before) >> 10);
    drop(first);
    let mut loads = Vec::new();
    for _ in 0..50 {
        let load = Instant::now();
        let partitioner = home.host.partitioner(&digest, "").unwrap();
        crate::home::ask(&partitioner, &["Section: libs\n"]).unwrap();
        loads.push(load.elapsed());
    }
    println!("load, start and first answer: best {:?}, worst {:?}", loads.iter().min(), loads.iter().max());
}

fn best(batch: usize, mut call: impl FnMut()) -> f64 {
    let calls = RECORDS / batch;
    let time = (0..7).map(|_| {
        let began = Instant::now();
        (0..calls).for_each(|_| call());
        began.elapsed()
    });
    time.min().unwrap_or(Duration::ZERO).as_nanos() as f64 / (calls * batch) as f64
}
