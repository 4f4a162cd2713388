//! Acts in a row that broke a promise once. Each is one life of the broker, or two; the storm goes on around them.

use std::thread;

use super::producer::{Manner, Shape};
use super::world::{BY_SIZE, PATIENCE, Stop, World};
use super::{FIRST, HEALTHY, PLAIN, SECOND, SPREAD};

/// What a storm leads up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Script {
    /// Nothing in particular.
    Anything,
    /// A start on a full disk holds a topic; its records are deleted before it takes batches again.
    DeleteWhileHeld,
    /// Records of all partitions of a topic are deleted at once, and the broker is killed.
    DeleteTogether,
    /// A full disk makes routed batches wait; records are deleted meanwhile, and the broker is told to end.
    DeleteWhileFull,
    /// The broker is told to end while routed batches wait for space.
    EndWhileFull,
    /// The disk with the journal fails, and topics on another one go on.
    FailJournal,
    /// The first batch after the last number waits while producers are written down, and the broker is killed.
    Wrap,
}

impl Script {
    pub(super) const ALL: [Script; 7] = [
        Script::DeleteWhileHeld,
        Script::DeleteTogether,
        Script::DeleteWhileFull,
        Script::EndWhileFull,
        Script::FailJournal,
        Script::Wrap,
        Script::Anything,
    ];

    /// Runs it; false when the broker does not come up again.
    pub(super) fn run(self, world: &mut World) -> bool {
        world.tell(format!("{self:?}"));
        match self {
            Script::Anything => world.life(),
            Script::DeleteWhileHeld => delete_while_held(world),
            Script::DeleteTogether => delete_together(world),
            Script::DeleteWhileFull => delete_while_full(world),
            Script::EndWhileFull => end_while_full(world),
            Script::FailJournal => fail_journal(world),
            Script::Wrap => wrap(world),
        }
    }
}

fn delete_while_held(world: &mut World) -> bool {
    let left = world.random.within(0..150 << 10);
    world.work(|world| {
        world.sleep(20..80);
        world.fill(SECOND, left);
        world.sleep(150..300);
        world.stop(Stop::Kill);
    });
    if !world.start(&[]) {
        return false;
    }
    world.work(|world| {
        for topic in [SPREAD, HEALTHY, SPREAD, HEALTHY] {
            world.delete_somewhere(topic);
        }
        world.sleep(0..50);
        world.free();
        for topic in [SPREAD, HEALTHY, SPREAD, HEALTHY] {
            world.delete_somewhere(topic);
        }
        // The journal is tried again within a second.
        world.sleep(900..1300);
        world.stop(Stop::Kill);
    });
    world.start(&[])
}

fn delete_together(world: &mut World) -> bool {
    world.work(|world| {
        world.sleep(30..80);
        for topic in [SPREAD, PLAIN, HEALTHY] {
            world.delete_records_together(topic, 40);
        }
        world.stop(Stop::Kill);
    });
    world.start(&[])
}

fn delete_while_full(world: &mut World) -> bool {
    let left = world.random.within(0..150 << 10);
    world.work(|world| {
        world.sleep(20..80);
        world.fill(SECOND, left);
        world.sleep(150..400);
        for topic in [PLAIN, SPREAD, HEALTHY, SPREAD] {
            world.delete_somewhere(topic);
        }
        world.some_stop();
    });
    world.free();
    world.start(&[])
}

fn end_while_full(world: &mut World) -> bool {
    let left = world.random.within(0..150 << 10);
    world.work(|world| {
        // Batches that wait for room are followed by some that need none.
        world.activate(BY_SIZE);
        world.sleep(20..80);
        world.fill(SECOND, left);
        world.sleep(150..400);
        world.stop(Stop::Term);
    });
    world.free();
    world.start(&[])
}

fn fail_journal(world: &mut World) -> bool {
    // Some batches move, and need the journal, and some stay.
    world.activate(BY_SIZE);
    if !world.fail_quietly(FIRST) {
        return false;
    }
    world.work(|world| {
        world.sleep(200..400);
        let stop = *world.random.pick(&[Stop::Term, Stop::Kill]);
        world.stop(stop);
    });
    world.start(&[])
}

fn wrap(world: &mut World) -> bool {
    let shape = Shape { filler_max: 100, records_max: 4, has_keys: false, wraps: true };
    let mut wrapping: Vec<_> = (0..3).map(|partition| world.producer(HEALTHY, partition, shape)).collect();
    let address = world.broker.address();
    world.free();
    for producer in &mut wrapping {
        while producer.current.goes_on_at() != 0 {
            if let Err(wrong) = producer.finish(address, 1, PATIENCE) {
                world.wrong(wrong);
                return false;
            }
        }
    }
    world.work(|world| {
        // The journal cannot be written, so what comes waits in front of it, and is answered when its time is over.
        world.fill(FIRST, 0);
        world.sleep(100..300);
        thread::scope(|scope| {
            for producer in &mut wrapping {
                scope.spawn(move || producer.attempt(address, &mut |made| made < 2, Manner::Within(200)).ok());
            }
        });
        world.producers.append(&mut wrapping);
        world.delete_somewhere(HEALTHY);
        world.sleep(0..100);
        world.stop(Stop::Kill);
    });
    world.free();
    world.start(&[])
}
