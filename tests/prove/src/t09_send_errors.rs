//! T9: the disk fails under `sendfile`. The consumer is not left to guess: where the header of the answer has left the
//! connection ends, and the next fetch of the range answers an error code within a second.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use ottla_tests::Broker;
use ottla_tests::connection::Connection;
use ottla_wire::ErrorCode;

use crate::image::quick_directory;
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::trace::{self, Trace};
use crate::workload::{Producer, Stopped};

const TOPIC: &str = "t";
const BATCHES: usize = 300;
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

pub(crate) fn run(setting: &Setting) -> Outcome {
    let mut outcome = Outcome::default();
    let traced = trace::unavailable();
    if let Some(why) = &traced {
        outcome.partly.push(format!("EIO on order: {why}"));
    }
    setting.each(&mut outcome, 1, |seed, _, outcome| case(setting, seed, traced.is_none(), outcome));
    outcome
}

fn case(setting: &Setting, seed: u64, traced: bool, outcome: &mut Outcome) {
    let mut random = Seed::new(seed);
    let directory = quick_directory();
    let mut broker = setting.broker().data_dir(&directory.path().join("data")).start();
    broker.create_topic(TOPIC, 2, &[]);
    for partition in 0..2 {
        let mut producer = Producer::new(partition as u32, TOPIC, partition, 4_000, seed);
        let ended = producer.send(broker.address(), BATCHES);
        assert!(matches!(ended, Stopped::Told), "{ended:?}");
        outcome.acknowledged += producer.made();
    }
    let path = directory.path().join("data/log/t-0/00000000000000000000.log");
    let (what, trace) = if traced && random.one_in(2) {
        let from = random.within(1..3);
        // The first failure has to be enough: later calls would succeed again.
        let fault = format!("sendfile:error=EIO:when={from}..{}", from + 1);
        (format!("EIO from the {from}. sendfile of a thread on"), Some(Trace::join(&broker, &[fault], "")))
    } else {
        let file = File::options().write(true).open(&path).expect("the segment");
        let bytes = random.within(0..200_000);
        file.set_len(bytes).expect("a shorter segment");
        (format!("the segment is cut off at {bytes}"), None)
    };
    outcome.cases += 1;
    if let Err(wrong) = fails_in_time(&broker) {
        outcome.violation(seed, 1, format!("{what}: {wrong}"));
    }
    drop(trace);
    if !broker.is_running() {
        outcome.violation(seed, 1, format!("{what}: the broker died"));
    }
}

/// Fetches until something fails, and then until an error code says so.
fn fails_in_time(broker: &Broker) -> Result<(), String> {
    let mut next = 0;
    let mut failed: Option<Instant> = None;
    let begun = Instant::now();
    loop {
        let answer = Connection::open(broker.address()).and_then(|mut socket| socket.fetch(TOPIC, 0, next, 0));
        match answer {
            Ok(fetched)
                if fetched.code == ErrorCode::KafkaStorageError || fetched.code == ErrorCode::CorruptMessage =>
            {
                return Ok(());
            }
            Ok(fetched) if fetched.code != ErrorCode::None => return Err(format!("it answers {:?}", fetched.code)),
            Ok(fetched) => {
                let mut rest = fetched.bytes.as_slice();
                let before = next;
                while let Ok(raw) = crate::content::first_batch(rest) {
                    next = raw.last_offset + 1;
                    rest = &rest[raw.bytes.len()..];
                }
                if failed.is_some() && next > before {
                    return Err("the range that failed is delivered as if nothing had been".to_owned());
                }
                if next >= fetched.high_watermark {
                    // Nothing has failed yet: once more from the beginning.
                    next = 0;
                }
            }
            Err(_) => {
                failed.get_or_insert_with(Instant::now);
                thread::sleep(Duration::from_millis(20));
            }
        }
        if failed.is_some_and(|at| at.elapsed() > ANSWERED_WITHIN) {
            return Err(format!(
                "{} ms after the connection ended there is no error code",
                ANSWERED_WITHIN.as_millis()
            ));
        }
        if begun.elapsed() > ANSWERED_WITHIN * 10 {
            return Err("nothing fails although the disk does".to_owned());
        }
    }
}
