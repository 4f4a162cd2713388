//! What the copies of the metadata promise, on disks that damage, refuse and forget.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::{Disk, DiskCall, FaultyDisk};
use redb::{Database, TableDefinition};
use tempfile::TempDir;
use uuid::Uuid;

use super::copy::{Copy, Snapshot};
use super::local::LocalStore;
use super::pair::{CopyHome, FIRST_COPY, SECOND_COPY};
use super::{
    ConfigResource, ConfigsRecord, Contents, Loss, MetaError, MetaReport, MetadataStore, PluginRecord, TopicRecord,
    Verdict,
};

/// A data directory with log directories beside it.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["data", "log-0", "log-1"] {
            std::fs::create_dir(place.path(name)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn first(&self) -> PathBuf {
        self.path("data").join(FIRST_COPY)
    }

    fn second(&self) -> PathBuf {
        self.path("log-0").join(SECOND_COPY)
    }

    fn homes(&self, disk: &Arc<dyn Disk>) -> Vec<CopyHome> {
        let home = |name| CopyHome { directory: self.path(name), disk: Arc::clone(disk) };
        vec![home("log-0"), home("log-1")]
    }

    fn open_on(&self, disk: &Arc<FaultyDisk>) -> Result<(LocalStore, MetaReport), MetaError> {
        let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(disk);
        LocalStore::open_on(&disk, &self.path("data"), self.homes(&disk), &[])
    }

    /// On a disk that makes no syncs and no faults.
    fn open(&self) -> Result<(LocalStore, MetaReport), MetaError> {
        self.open_on(&FaultyDisk::new())
    }
}

fn topic(name: &str, retention: &str) -> TopicRecord {
    TopicRecord {
        name: name.to_owned(),
        id: Uuid::new_v4(),
        partition_count: 3,
        configs: BTreeMap::from([("retention.ms".to_owned(), retention.to_owned())]),
        deleting: false,
    }
}

/// Everything that a store says.
fn contents(store: &LocalStore) -> Contents {
    let topics = store.topics().unwrap().into_iter().map(|topic| (topic.name.clone(), topic));
    let plugins = store.plugins().unwrap().into_iter().map(|plugin| (plugin.name.clone(), plugin));
    let configs = store.configs().unwrap().into_iter().map(|it| ((it.resource, it.name.clone()), it));
    Contents {
        cluster_id: store.cluster_id().to_owned(),
        producer_id_mark: store.producer_id_mark().unwrap(),
        topics: topics.collect(),
        plugins: plugins.collect(),
        configs: configs.collect(),
    }
}

fn fill(store: &LocalStore) {
    for (name, retention) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")] {
        store.put_topic(&topic(name, retention)).unwrap();
    }
    store.delete_topic("c").unwrap();
    store.delete_topic("never there").unwrap();
    store.set_producer_id_mark(1000).unwrap();
    let plugin = PluginRecord { name: "p".to_owned(), active_version: 1, ..PluginRecord::default() };
    store.put_plugin(&plugin).unwrap();
}

#[test]
fn what_was_stored_is_there_after_reopening_and_in_either_copy_alone() {
    let place = Place::new();
    let (store, report) = place.open().unwrap();
    assert!(!report.is_news());
    fill(&store);
    let settings = [("num.partitions".to_owned(), "7".to_owned())];
    let (resource, name) = (ConfigResource::Broker, String::new());
    store.put_configs(&ConfigsRecord { resource, name, configs: settings.into() }).unwrap();
    let before = contents(&store);
    assert_eq!((before.topics.len(), before.topics["a"].configs["retention.ms"].as_str()), (2, "3"));
    drop(store);
    let (store, report) = place.open().unwrap();
    assert!(!report.is_news() && store.whole_copies() == 2);
    assert_eq!(contents(&store), before);
    drop(store);
    for gone in [place.first(), place.second()] {
        std::fs::remove_file(&gone).unwrap();
        let (store, report) = place.open().unwrap();
        assert_eq!(contents(&store), before);
        assert_eq!(report.repaired().collect::<Vec<_>>(), [&(gone.clone(), Verdict::Absent)]);
        assert!(gone.exists());
    }
    let (store, _) = place.open().unwrap();
    store.delete_plugin("p").unwrap();
    assert!(store.plugins().unwrap().is_empty());
}

#[test]
fn a_flipped_bit_in_any_byte_of_a_copy_is_told_and_repaired_and_changes_nothing() {
    let place = Place::new();
    let (store, _) = place.open().unwrap();
    fill(&store);
    let before = contents(&store);
    drop(store);
    // A snapshot with changes behind it in one copy, a snapshot alone in the other.
    std::fs::remove_file(place.first()).unwrap();
    let (store, _) = place.open().unwrap();
    store.put_topic(&before.topics["b"]).unwrap();
    drop(store);
    for path in [place.first(), place.second()] {
        let whole = std::fs::read(&path).unwrap();
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 40;
        for byte in 0..used {
            let bit = byte * 8 + byte % 8;
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            let (store, report) = place.open().unwrap_or_else(|error| panic!("bit {bit}: {error}"));
            assert_eq!(contents(&store), before, "bit {bit}");
            let repaired: Vec<_> = report.repaired().map(|(path, _)| path.clone()).collect();
            assert_eq!((repaired, store.whole_copies()), (vec![path.clone()], 2), "bit {bit}");
            drop(store);
            assert!(!place.open().unwrap().1.is_news(), "bit {bit} is repaired");
            std::fs::write(&path, &whole).unwrap();
        }
    }
}

#[test]
fn damage_in_different_places_of_both_copies_costs_nothing_and_in_the_same_place_is_said_exactly() {
    let place = Place::new();
    let (store, _) = place.open().unwrap();
    fill(&store);
    let before = contents(&store);
    drop(store);
    let damage = |path: &Path, needle: &str| {
        let mut bytes = std::fs::read(path).unwrap();
        let at = bytes.windows(needle.len()).position(|window| window == needle.as_bytes()).unwrap();
        bytes[at] ^= 4;
        std::fs::write(path, bytes).unwrap();
    };
    damage(&place.first(), "\"name\":\"b\"");
    damage(&place.second(), "\"name\":\"c\"");
    let (store, report) = place.open().unwrap();
    assert_eq!((contents(&store), report.repaired().count()), (before.clone(), 2));
    drop(store);
    for path in [place.first(), place.second()] {
        damage(&path, "\"name\":\"b\"");
    }
    let images = [place.first(), place.second()].map(|path| std::fs::read(path).unwrap());
    let lost = place.open().map(|_| ()).unwrap_err();
    let MetaError::Lost { loss, copies } = &lost else { panic!("{lost}") };
    let Loss { records: Some((of, gone)), changes } = loss else { panic!("{loss}") };
    assert_eq!((*of, gone.len(), changes.len(), copies.len()), (5, 1, 0, 3));
    assert!(lost.to_string().contains("1 of 5 records") && lost.to_string().contains("ottla meta restore"), "{lost}");
    assert_eq!([place.first(), place.second()].map(|path| std::fs::read(path).unwrap()), images, "it is left alone");
}

#[test]
fn a_last_change_that_is_damaged_in_both_copies_is_no_unfinished_change() {
    let place = Place::new();
    let (store, _) = place.open().unwrap();
    fill(&store);
    drop(store);
    for path in [place.first(), place.second()] {
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let lost = place.open().map(|_| ()).unwrap_err();
    assert!(matches!(&lost, MetaError::Lost { loss, .. } if loss.changes == [7]), "{lost}");
}

#[test]
fn power_cuts_and_failing_calls_leave_every_answered_change_in_both_copies_and_no_half_of_one() {
    let calls = [DiskCall::Write, DiskCall::Sync, DiskCall::Create, DiskCall::Rename, DiskCall::SyncDir];
    for seed in 0..600_u64 {
        let place = Place::new();
        let disk = FaultyDisk::new();
        let mut random = seed.wrapping_mul(0x9E37_79B9).wrapping_add(7);
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let (store, _) = place.open_on(&disk).unwrap();
        fill(&store);
        let call = calls[below(5) as usize];
        if seed % 3 > 0 {
            disk.fail(call, below(12) as usize, 1 + below(2) as usize, [libc::EIO, libc::ENOSPC][below(2) as usize]);
        }
        let (mut answered, mut possible, mut both) = (contents(&store), contents(&store), true);
        for step in 0..below(20) {
            // Large enough that copies grow and are written anew.
            let configs = "x".repeat(1 + below(40_000) as usize);
            let changed = TopicRecord { configs: BTreeMap::from([("k".to_owned(), configs)]), ..topic("t", "1") };
            let name = format!("t{}", below(4));
            possible = answered.clone();
            possible.topics.insert(name.clone(), TopicRecord { name: name.clone(), ..changed.clone() });
            if store.put_topic(&possible.topics[&name]).is_err() {
                break;
            }
            assert_eq!(contents(&store), possible, "seed {seed} step {step}");
            answered = possible.clone();
            both = store.whole_copies() == 2;
        }
        assert_eq!(contents(&store), answered, "seed {seed}: a refused change is not made");
        drop(store);
        disk.power_cut(seed).unwrap();
        let found = |gone: Option<PathBuf>| {
            let kept = gone.map(|path| (std::fs::read(&path).unwrap(), path));
            if let Some((_, path)) = &kept {
                std::fs::remove_file(path).unwrap();
            }
            let found = place.open().map_or_else(|error| panic!("{seed}: {error}"), |(store, _)| contents(&store));
            if let Some((bytes, path)) = &kept {
                std::fs::write(path, bytes).unwrap();
            }
            found
        };
        if both {
            let alone = found(Some(place.first()));
            assert!(alone == answered || alone == possible, "seed {seed}: the second copy");
        }
        let all = found(None);
        assert!(all == answered || all == possible, "seed {seed}: both copies");
    }
}

#[test]
fn a_full_disk_refuses_a_change_and_takes_it_when_there_is_room() {
    let place = Place::new();
    let disk = FaultyDisk::new();
    let (store, _) = place.open_on(&disk).unwrap();
    let long = |name: &str| topic(name, &"9".repeat(30_000));
    store.put_topic(&long("a")).unwrap();
    store.put_topic(&long("b")).unwrap();
    let before = contents(&store);
    disk.fail(DiskCall::Write, 0, 100, libc::ENOSPC);
    let refused = store.put_topic(&long("c")).unwrap_err();
    assert!(matches!(refused, MetaError::Write { .. }), "{refused}");
    assert_eq!(contents(&store), before);
    disk.clear_faults();
    store.put_topic(&long("c")).unwrap();
    assert_eq!(store.whole_copies(), 2);
    let before = contents(&store);
    drop(store);
    let empty = FaultyDisk::new();
    empty.fail(DiskCall::Create, 0, 100, libc::ENOSPC);
    assert!(matches!(Place::new().open_on(&empty), Err(MetaError::Write { .. })), "a cluster needs room to begin");
    // A start needs no space either, not even to find a damaged copy out.
    std::fs::write(place.first(), b"rubbish").unwrap();
    let disk = FaultyDisk::new();
    disk.fail(DiskCall::Create, 0, 100, libc::ENOSPC);
    let (store, report) = place.open_on(&disk).unwrap();
    assert_eq!((contents(&store), report.unwritten.len()), (before, 1));
    store.put_topic(&long("d")).unwrap_err();
    disk.clear_faults();
    store.put_topic(&long("d")).unwrap();
    assert_eq!(store.whole_copies(), 2);
}

#[test]
fn nothing_is_written_any_more_once_a_sync_of_the_first_copy_failed() {
    let place = Place::new();
    let disk = FaultyDisk::new();
    let (store, _) = place.open_on(&disk).unwrap();
    disk.fail(DiskCall::Sync, 0, 1, libc::EIO);
    store.put_topic(&topic("a", "1")).unwrap_err();
    let syncs = disk.count(DiskCall::Sync);
    let closed = store.put_topic(&topic("a", "1")).unwrap_err();
    assert!(matches!(closed, MetaError::Closed { .. }), "{closed}");
    assert_eq!(disk.count(DiskCall::Sync), syncs);
}

#[test]
fn a_second_copy_that_fails_moves_to_another_directory_and_comes_back_with_the_next_start() {
    let place = Place::new();
    let sound: Arc<dyn Disk> = FaultyDisk::new();
    let failing = FaultyDisk::new();
    let home = |name, disk: &Arc<dyn Disk>| CopyHome { directory: place.path(name), disk: Arc::clone(disk) };
    let broken: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(&failing);
    let homes = vec![home("log-0", &broken), home("log-1", &sound)];
    let (store, _) = LocalStore::open_on(&sound, &place.path("data"), homes, &[]).unwrap();
    fill(&store);
    for call in [DiskCall::Write, DiskCall::Create, DiskCall::Sync] {
        failing.fail(call, 0, 1000, libc::EIO);
    }
    store.put_topic(&topic("d", "1")).unwrap();
    assert_eq!(store.whole_copies(), 1);
    store.put_topic(&topic("e", "1")).unwrap();
    assert_eq!(store.whole_copies(), 2);
    let before = contents(&store);
    drop(store);
    // The failed directory is still there, with what it had: it must not be taken for the truth.
    let image = std::fs::read(place.first()).unwrap();
    std::fs::remove_file(place.first()).unwrap();
    let (store, _) = place.open().unwrap();
    assert_eq!(contents(&store), before);
    drop(store);
    assert!(!place.path("log-1").join(SECOND_COPY).exists(), "one second copy is enough");
    assert_eq!(contents(&place.open().unwrap().0), before);
    // With a directory out of sight only the first copy can decide.
    std::fs::write(place.first(), image).unwrap();
    let open = |missing: &[PathBuf]| {
        LocalStore::open_on(&sound, &place.path("data"), vec![home("log-0", &sound)], missing)
            .map(|(store, _)| contents(&store))
    };
    assert_eq!(open(&[place.path("log-1")]).unwrap(), before);
    std::fs::write(place.first(), b"rubbish").unwrap();
    let doubtful = open(&[place.path("log-1")]).unwrap_err();
    assert!(matches!(doubtful, MetaError::Doubtful { .. }), "{doubtful}");
    assert_eq!(open(&[]).unwrap(), before);
}

#[test]
fn a_sector_of_a_copy_that_cannot_be_read_costs_nothing() {
    let place = Place::new();
    let (store, _) = place.open().unwrap();
    fill(&store);
    let before = contents(&store);
    drop(store);
    for path in [place.first(), place.second()] {
        let disk = FaultyDisk::new();
        disk.make_unreadable(&path, 0..512).unwrap();
        let (store, report) = place.open_on(&disk).unwrap();
        assert_eq!(contents(&store), before);
        assert!(matches!(report.repaired().next(), Some((_, Verdict::Unreadable(_)))));
    }
}

#[test]
fn copies_are_written_anew_before_changes_outgrow_what_they_led_to() {
    let place = Place::new();
    let (store, _) = place.open().unwrap();
    for number in 0..5000 {
        store.set_producer_id_mark(number).unwrap();
    }
    assert_eq!(store.producer_id_mark().unwrap(), 4999);
    for path in [place.first(), place.second()] {
        assert!(std::fs::metadata(path).unwrap().len() <= 3 * (64 << 10));
    }
    drop(store);
    assert_eq!(place.open().unwrap().0.producer_id_mark().unwrap(), 4999);
}

#[test]
fn a_data_directory_belongs_to_one_process() {
    let place = Place::new();
    let (store, _) = place.open().unwrap();
    assert!(matches!(place.open().map(|_| ()), Err(MetaError::Locked { .. })));
    drop(store);
    place.open().unwrap();
}

#[test]
fn copies_of_a_newer_release_are_refused_and_left_alone() {
    let place = Place::new();
    let (store, _) = place.open().unwrap();
    fill(&store);
    drop(store);
    let head = super::frame::Head { version: 2, store: Uuid::from_u128(1), snapshot: 0, records: 0 };
    std::fs::write(place.first(), head.encode()).unwrap();
    let images = [place.first(), place.second()].map(|path| std::fs::read(path).unwrap());
    let newer = place.open().map(|_| ()).unwrap_err();
    assert!(matches!(newer, MetaError::Newer { found: 2, .. }), "{newer}");
    assert_eq!([place.first(), place.second()].map(|path| std::fs::read(path).unwrap()), images);
}

#[test]
fn a_copy_of_other_metadata_is_kept_and_not_believed() {
    let place = Place::new();
    let (store, _) = place.open().unwrap();
    fill(&store);
    let before = contents(&store);
    drop(store);
    let other = Uuid::from_u128(99);
    let mut foreign = Copy::new(&place.path("log-0"), SECOND_COPY, FaultyDisk::new());
    let theirs = Contents { cluster_id: "theirs".to_owned(), producer_id_mark: 7, ..Contents::default() };
    assert!(foreign.rewrite(&Snapshot::of(&theirs, other, 100).unwrap()).is_ok());
    let (store, _) = place.open().unwrap();
    assert_eq!((contents(&store), store.whole_copies()), (before, 2));
    assert!(place.path("log-0").join(format!("{SECOND_COPY}.{other}")).exists());
}

/// A file as release 0.1.0 left it.
fn old_file(path: &Path, topics: &[TopicRecord]) {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut texts = transaction.open_table(TableDefinition::<&str, &str>::new("texts")).unwrap();
        texts.insert("cluster.id", "of-old").unwrap();
        let mut numbers = transaction.open_table(TableDefinition::<&str, i64>::new("numbers")).unwrap();
        numbers.insert("producer.id.mark", 2000).unwrap();
        let mut table = transaction.open_table(TableDefinition::<&str, &[u8]>::new("topics")).unwrap();
        for topic in topics {
            table.insert(topic.name.as_str(), topic.encode().unwrap().as_slice()).unwrap();
        }
        transaction.open_table(TableDefinition::<&str, &[u8]>::new("plugins")).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn the_file_of_an_older_release_is_taken_over_once() {
    let place = Place::new();
    let old = place.path("data").join("metadata.redb");
    old_file(&old, &[topic("a", "1"), topic("b", "2")]);
    let (store, report) = place.open().unwrap();
    assert_eq!(report.migrated.as_deref(), Some(&*old));
    let before = contents(&store);
    assert_eq!((before.cluster_id.as_str(), before.producer_id_mark, before.topics.len()), ("of-old", 2000, 2));
    drop(store);
    assert!(!old.exists());
    let (store, report) = place.open().unwrap();
    assert_eq!((contents(&store), report.is_news()), (before, false));
}

#[test]
fn a_damaged_file_of_an_older_release_ends_no_process_and_is_never_half_believed() {
    let place = Place::new();
    let old = place.path("data").join("metadata.redb");
    old_file(&old, &[topic("a", "1"), topic("b", "2")]);
    let whole = std::fs::read(&old).unwrap();
    let expected = super::old::read(&place.path("data")).unwrap().unwrap();
    let mut refused = 0;
    for case in 0..400_usize {
        let mut bytes = whole.clone();
        // Every page, its header more than the rest.
        let byte = (case * 4096 / 7 + if case % 2 == 0 { case % 64 } else { case * 37 }) % bytes.len();
        bytes[byte] ^= 1 << (case % 8);
        std::fs::write(&old, bytes).unwrap();
        match super::old::read(&place.path("data")) {
            Ok(found) => assert_eq!(found.as_ref(), Some(&expected), "case {case}"),
            Err(error) => {
                assert!(matches!(&error, MetaError::Old { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}
