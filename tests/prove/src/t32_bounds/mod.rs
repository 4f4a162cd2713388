//! T32: nothing without a bound. One client, or one topic, asks for as much as it can; meanwhile others are served in
//! time, and the broker holds no more memory and no more threads than its settings and its documents say.
//!
//! | module | owns |
//! |---|---|
//! | [`attack`] | what is done, with the sizes at which each attack was found |
//! | [`bystander`] | clients that ask small things at fixed times |

mod attack;
mod bystander;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla_tests::Broker;

use self::attack::Attack;
use self::bystander::{PLAIN, Question, Seen, watch};
use crate::image::quick_directory;
use crate::report::Outcome;
use crate::run::Setting;
use crate::tests::Size;

/// What the broker is told.
const MEMORY_BYTES: u64 = 512 << 20;
/// The number in docs/limits.md.
const THREADS_MAX: u64 = 96;
/// What an attack may add to the answers of others, at the 99th percentile.
const QUICK_MAX: Duration = Duration::from_millis(20);
/// The same for what costs a sync or a search, at its slowest.
const SELDOM_MAX: Duration = Duration::from_secs(2);
/// How long the broker is looked at before an attack, so that a busy machine is not taken for a slow broker.
const CALM: Duration = Duration::from_secs(1);
/// How long an attack goes on, with every commit and otherwise.
const STRIKE: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(5)];
/// Of the threads that attack, which run beside the broker here.
const ATTACKERS_NICENESS: i32 = 15;
/// An answer that is late may be the machine's doing; one that is late again each time is not.
const ATTEMPTS_MAX: usize = 3;
/// Where answers take longer than this before the attack, the machine is too busy to judge times.
const BUSY_FROM: Duration = Duration::from_millis(10);

/// The one attack that is wanted, by a part of its name, while its cause is looked for.
const ONLY: &str = "OTTLA_BOUNDS_ATTACK";

/// One case is one attack, in turn.
pub(crate) fn run(setting: &Setting) -> Outcome {
    let mut outcome = Outcome::default();
    let only = std::env::var(ONLY).unwrap_or_default();
    let is_wanted = |attack: &&Attack| match &setting.canary {
        Some(_) => attack.noticed_by == setting.canary.as_deref(),
        None => attack.name.contains(&only),
    };
    let attacks: Vec<&Attack> = attack::ALL.iter().filter(is_wanted).collect();
    let mut next = 0;
    setting.each(&mut outcome, 1, |_, _, outcome| {
        let attack = attacks[next % attacks.len()];
        next += 1;
        outcome.cases += 1;
        let mut broken: Option<Vec<(String, String)>> = None;
        let mut times_are_judged = false;
        for _ in 0..if setting.canary.is_some() { 1 } else { ATTEMPTS_MAX } {
            let figures = attempt(setting, attack);
            outcome.notes.push(format!("{:<18} {}", attack.name, figures.text()));
            // A promise that is broken on purpose shows on a busy machine, too.
            let judges_times = setting.canary.is_some() || !figures.machine_is_busy();
            times_are_judged |= judges_times;
            let mut now = figures.broken(attack, judges_times);
            // What was broken before and is not now was the machine's doing.
            if let Some(before) = broken {
                now.retain(|(promise, _)| before.iter().any(|(broken_before, _)| broken_before == promise));
            }
            let kept = now.is_empty();
            broken = Some(now);
            if kept && judges_times {
                break;
            }
        }
        if !times_are_judged {
            outcome.partly.push(format!("{}: the times of answers, other work keeps the machine busy", attack.name));
        }
        for (_, what) in broken.unwrap_or_default() {
            // The attacks come in turn from the first seed on.
            outcome.violation(setting.seed, next as u64, format!("{}: {what}", attack.name));
        }
    });
    outcome
}

/// What one attempt came to.
struct Figures {
    calm: Vec<Seen>,
    attacked: Vec<Seen>,
    resident_bytes: u64,
    resident_before_bytes: u64,
    threads: u64,
    struck: Result<(), String>,
}

fn attempt(setting: &Setting, attack: &Attack) -> Figures {
    let directory = quick_directory();
    let builder = setting.broker().data_dir(&directory.path().join("data"));
    let broker = builder.set("ottla.memory.max.bytes", &MEMORY_BYTES.to_string()).start();
    broker.create_topic(PLAIN, 1, &[("ottla.durability", "page-cache")]);
    (attack.prepare)(&broker);
    let calm = watched(&broker, CALM, |stop| {
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    let time = STRIKE[usize::from(setting.size != Size::Commit)];
    let mut figures = watched(&broker, time, |stop| (attack.strike)(&broker, stop));
    figures.resident_before_bytes = calm.resident_bytes;
    figures.calm = calm.attacked;
    figures
}

/// Looks at the broker and its bystanders while something is done to it.
fn watched(broker: &Broker, time: Duration, act: impl FnOnce(&AtomicBool) -> Result<(), String> + Send) -> Figures {
    let stop = AtomicBool::new(false);
    let (resident, threads) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let bystanders: Vec<_> =
            Question::ALL.into_iter().map(|question| watch(scope, question, broker.address(), &stop)).collect();
        scope.spawn(|| {
            let begun = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let now = status(broker.pid());
                resident.fetch_max(now.anonymous_bytes, Ordering::Relaxed);
                threads.fetch_max(now.threads, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
                if begun.elapsed() > time {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
        // The attackers of a real broker do not take its processors.
        let striking = scope.spawn(|| {
            let _ = rustix::process::nice(ATTACKERS_NICENESS);
            act(&stop)
        });
        let struck = striking.join().expect("an attack");
        stop.store(true, Ordering::Relaxed);
        let attacked = bystanders.into_iter().map(|seen| seen.join().expect("a bystander")).collect();
        Figures {
            calm: Vec::new(),
            attacked,
            resident_bytes: resident.load(Ordering::Relaxed),
            resident_before_bytes: 0,
            threads: threads.load(Ordering::Relaxed),
            struck,
        }
    })
}

/// What the kernel says about a process.
struct Status {
    anonymous_bytes: u64,
    threads: u64,
}

fn status(pid: u32) -> Status {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    Status { anonymous_bytes: field("RssAnon:").unwrap_or(0) * 1024, threads: field("Threads:").unwrap_or(0) }
}

impl Figures {
    /// Whether something else takes the processors.
    fn machine_is_busy(&self) -> bool {
        self.calm.iter().any(|seen| seen.question.is_quick() && seen.percentile(99) > BUSY_FROM)
    }

    /// The promises that were broken, each with what happened.
    fn broken(&self, attack: &Attack, judges_times: bool) -> Vec<(String, String)> {
        let mut broken = Vec::new();
        broken.extend(self.struck.as_ref().err().map(|what| ("the attack".to_owned(), what.clone())));
        for (seen, calm) in self.attacked.iter().zip(&self.calm) {
            let Seen { question, wrong, .. } = seen;
            // A bystander that asks for what the attack asks for may be told to try again.
            let wrong = wrong.as_ref().filter(|_| attack.of_kind != Some(*question));
            broken.extend(wrong.map(|wrong| (format!("{question:?}"), format!("{question:?} {wrong}"))));
            let (took, allowed) = if question.is_quick() {
                (seen.percentile(99), QUICK_MAX + calm.percentile(99))
            } else {
                (seen.percentile(100), SELDOM_MAX)
            };
            if judges_times && took > allowed && attack.of_kind != Some(*question) {
                let what = format!("{question:?} took {} ms, at most {} ms", took.as_millis(), allowed.as_millis());
                broken.push((format!("the time of {question:?}"), what));
            }
        }
        if self.resident_bytes > MEMORY_BYTES / 10 * 11 {
            let what = format!("{} MiB were resident, the limit is {}", self.resident_bytes >> 20, MEMORY_BYTES >> 20);
            broken.push(("memory".to_owned(), what));
        }
        if self.threads > THREADS_MAX {
            broken.push(("threads".to_owned(), format!("{} threads, {THREADS_MAX} are documented", self.threads)));
        }
        broken
    }

    fn text(&self) -> String {
        let times = self.attacked.iter().zip(&self.calm).map(|(seen, calm)| {
            let percent = if seen.question.is_quick() { 99 } else { 100 };
            let ms = |seen: &Seen| seen.percentile(percent).as_secs_f64() * 1e3;
            format!("{:?} {:.1}/{:.1}", seen.question, ms(seen), ms(calm))
        });
        format!(
            "{} ms (attacked/calm) · {} MiB (before {}) · {} threads",
            times.collect::<Vec<_>>().join(" "),
            self.resident_bytes >> 20,
            self.resident_before_bytes >> 20,
            self.threads
        )
    }
}
