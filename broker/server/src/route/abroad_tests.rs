//! A batch with records for two topics, in a running route, across snapshots and crashes. No plugin asks for that yet, so
//! the items are put into the order here.

use std::path::Path;
use std::sync::Arc;

use ottla_front::Memory;
use ottla_stage::split::split;
use ottla_wire::record::{Batch, BatchBuilder, Codec};
use ottla_wire::{Offset, ProducerEpoch, ProducerId, Sequence, Uuid};

use super::images::{World, place};
use super::order::{Item, ItemRecords};
use super::{RouteOptions, Router, Way};
use crate::config::Config;
use crate::partition::{Claim, Landing, Place, ticket};
use crate::plugins::{PluginRegistry, plugin_host};
use crate::pools::Pools;
use crate::stop::Stop;

const PRODUCER: ProducerId = ProducerId(7);

fn open(dir: &Path) -> (World, Router) {
    // Nothing is saved but by the tests.
    let config = Config { data_dir: dir.to_path_buf(), producer_snapshot_ms: 86_400_000, ..Config::default() };
    let world = World::open(dir);
    world.topic_ids();
    let plugins = Arc::new(PluginRegistry::open(Arc::clone(&world.meta), plugin_host(&config)).unwrap());
    let way = Way { lanes: Pools::new().lanes, memory: Memory::new(1 << 30) };
    let (topics, stop) = (Arc::clone(&world.topics), Arc::new(Stop::default()));
    let (router, _) = Router::open(RouteOptions::of(&config), topics, &world.log, plugins, way, stop).unwrap();
    (world, router)
}

fn batch(addressed: i32, first: i32, count: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None).producer(PRODUCER, ProducerEpoch(0), Sequence(first));
    for at in 0..count {
        let value = format!("{addressed}/{}", first + at as i32);
        builder.append(1000, None, Some(value.as_bytes()), [].into_iter()).unwrap();
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    bytes
}

/// Sends a batch whose records go where `answer` says; where they are then.
fn send(world: &World, router: &Router, addressed: i32, first: i32, answer: &[i32]) -> Landing {
    let bytes = batch(addressed, first, answer.len());
    let batch = Batch::parse(&bytes).unwrap();
    let claim = Claim::of(&batch.header).unwrap();
    let mut split = split(&batch, &batch.records(1 << 20).unwrap(), Uuid::nil(), answer).unwrap();
    for part in &mut split.parts {
        let (topic, partition) = place(part.partition);
        (part.topic_id, part.partition) = (world.topic_ids()[topic], partition);
    }
    let partition = world.partition(addressed);
    let (stub, ticket) = ticket();
    let mut intake = partition.intake();
    let next = match intake.admit(Some(claim)) {
        Ok(next) => next,
        Err(Ok(Place::Landed(landing))) => return landing,
        Err(known) => panic!("{known:?}"),
    };
    intake.take(claim, Place::Waiting(ticket.clone()));
    intake.lane.routed += 1;
    drop(intake);
    let order = &router.shared.order;
    order.reserve(bytes.len()).unwrap();
    order.push(Item {
        topic: world.topic(place(addressed).0),
        addressed: partition,
        claim: Some(claim),
        follows: next.follows,
        after: next.after,
        plugin: [0; 32],
        records: ItemRecords::Moves(split),
        stub,
        bytes: bytes.len(),
        mark: None,
    });
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(Place::Waiting(ticket).landing()).unwrap()
}

fn assert_once(world: &World, expected: usize, told: &str) {
    let values = world.values();
    assert_eq!(values.len(), expected, "{told}");
    for (value, places) in values {
        assert_eq!(places.len(), 1, "{value} is at {places:?}: {told}");
    }
}

/// Topics that are saved, in this order, between two batches and behind them.
const SAVES: [&[usize]; 6] = [&[], &[0], &[1], &[0, 1], &[1, 0], &[1, 0, 1]];

#[test]
fn a_batch_for_two_topics_is_there_once_whichever_snapshots_a_crash_finds() {
    for between in SAVES {
        for behind in SAVES {
            let told = format!("{between:?} {behind:?}");
            let dir = tempfile::tempdir().unwrap();
            let (world, router) = open(dir.path());
            let mut landed = Vec::new();
            for (first, saves) in [(0, between), (3, behind)] {
                landed.push((0, first, send(&world, &router, 0, first, &[1, 3, 3])));
                landed.push((3, first, send(&world, &router, 3, first, &[0, 3, 1])));
                for topic in saves {
                    world.topic(*topic).partitions.save().unwrap();
                }
            }
            assert_once(&world, 12, &told);
            drop((router, world));
            let (world, router) = open(dir.path());
            assert_once(&world, 12, &told);
            for (addressed, first, landed) in landed {
                let answer: &[i32] = if addressed == 0 { &[1, 3, 3] } else { &[0, 3, 1] };
                assert_eq!(send(&world, &router, addressed, first, answer), landed, "{told}");
            }
            assert_once(&world, 12, &told);
        }
    }
}

#[test]
fn what_came_from_another_topic_goes_only_after_that_topics_snapshot_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (world, router) = open(dir.path());
    send(&world, &router, 0, 0, &[1, 3, 3]);
    let receiver = world.topic(1);
    assert_eq!(receiver.partitions.save().unwrap().upto(0), Offset(0));
    // A caller that removes records has the other topic saved first.
    assert_eq!(world.topics.save(&receiver).unwrap().upto(0), Offset(2));
    receiver.partitions.first().unwrap().log.delete_records(Offset(2)).unwrap();
    drop((router, receiver, world));
    let (world, router) = open(dir.path());
    send(&world, &router, 0, 0, &[1, 3, 3]);
    assert_once(&world, 1, "the two that were deleted are gone");
}

#[test]
fn what_was_sent_to_a_topic_that_is_deleted_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (world, router) = open(dir.path());
    send(&world, &router, 0, 0, &[1, 3, 3]);
    world.topics.delete(&world.topic(1)).unwrap();
    world.topic(0).partitions.save().unwrap();
    drop((router, world));
    let (world, router) = open(dir.path());
    assert_once(&world, 1, "after its snapshot");
    send(&world, &router, 0, 3, &[1, 3, 3]);
    world.topics.delete(&world.topic(1)).unwrap();
    drop((router, world));
    let (world, router) = open(dir.path());
    assert_once(&world, 2, "and from the journal");
    assert!(matches!(send(&world, &router, 0, 3, &[1, 3, 3]), Landing::Moved(_)));
    assert_once(&world, 2, "a retry is recognised");
}
