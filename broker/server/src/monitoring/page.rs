//! All metrics as one page. The state of logs and directories is looked up for it and costs nothing otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_front::{EndpointMetrics, Pool, Use};
use ottla_log::{PartitionLog, RecoveryReport};

use super::process;
use super::text::{Labels, Page};
use crate::broker::Broker;
use crate::fetch_sessions::SessionCounts;
use crate::groups::{GroupCounts, GroupLag};
use crate::log_dirs::LogDirectory;
use crate::partition::Partition;
use crate::topics::Topic;

/// As many lags of groups are on the page at most: one for each partition that a group committed.
const GROUP_LAGS_MAX: usize = 10_000;

/// Everything, in the text format that Prometheus reads. Asks the disks, so it may wait for them.
pub(crate) fn text(broker: &Broker) -> String {
    let mut page = Page::default();
    build(&mut page, broker);
    requests(&mut page, broker);
    connections(&mut page, broker);
    partitions(&mut page, broker);
    topics(&mut page, broker);
    plugins(&mut page, broker);
    directories(&mut page, broker);
    fetch_sessions(&mut page, broker);
    bounds(&mut page, broker);
    groups(&mut page, broker);
    clients(&mut page, broker);
    cleaner(&mut page, broker);
    recovery(&mut page, broker);
    process::add(&mut page);
    page.finish()
}

/// A family with one sample for each of several things: the middle of its name, its help text, and the value.
type Column<T, V> = (&'static str, &'static str, fn(&T) -> V);

fn one(value: f64) -> [(Labels, f64); 1] {
    [(Labels::new(), value)]
}

fn directory_of(directory: &LogDirectory) -> Labels {
    vec![("directory", directory.path().display().to_string())]
}

fn build(page: &mut Page, broker: &Broker) {
    let labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("cluster", broker.cluster_id.clone())];
    page.gauge("ottla_build_info", "1, with the version of the broker and the id of its cluster", [(labels, 1.0)]);
    page.gauge("ottla_uptime_seconds", "Time since the start", one(broker.opened.elapsed().as_secs_f64()));
}

fn requests(page: &mut Page, broker: &Broker) {
    let metrics = &broker.metrics;
    let api = |name: &str| vec![("api", name.to_owned())];
    let requests = metrics.apis().map(|(name, requests, _)| (api(name), requests));
    page.counter("ottla_requests_total", "Requests that arrived", requests);
    let help = "From the arrival of a request to the moment at which its answer begins to leave";
    page.histogram("ottla_request_seconds", help, metrics.apis().map(|(name, _, seconds)| (api(name), seconds)));
    let errors = metrics.errors().into_iter().map(|(api, code, count)| {
        let labels = vec![("api", api.to_owned()), ("code", format!("{code:?}"))];
        (labels, count)
    });
    page.counter("ottla_errors_total", "Partitions that were answered with an error code", errors);
}

fn connections(page: &mut Page, broker: &Broker) {
    let metrics = &broker.metrics;
    let front = &metrics.front;
    let counters = [
        ("sent_record_bytes", "Bytes of records handed to clients", &front.sent_record_bytes),
        ("disk_read_errors", "Reads that the disk refused", &front.read_errors),
        ("damaged_reads", "Reads that met damaged batches", &metrics.damaged_reads),
        ("disk_full", "Batches refused because the disk was full", &metrics.disk_full),
    ];
    for (name, help, counter) in counters {
        page.counter(&format!("ottla_{name}_total"), help, [(Labels::new(), counter.get())]);
    }
    let by_listener = |value: fn(&EndpointMetrics) -> u64| {
        let endpoints = broker.endpoints.iter();
        endpoints.map(move |endpoint| (vec![("listener", endpoint.name.clone())], value(&endpoint.metrics)))
    };
    let accepted = by_listener(|metrics| metrics.connections_accepted.get());
    page.counter("ottla_connections_accepted_total", "Connections that were accepted", accepted);
    let refused = by_listener(|metrics| metrics.connections_refused.get());
    page.counter("ottla_connections_refused_total", "Connections that a limit refused", refused);
    let open = by_listener(|metrics| metrics.connections_open.get()).map(|(labels, open)| (labels, open as f64));
    page.gauge("ottla_connections_open", "Connections that are open", open);
    page.gauge("ottla_fetches_waiting", "Fetches that wait for records", one(metrics.fetches_waiting.get() as f64));
}

fn partitions(page: &mut Page, broker: &Broker) {
    let (mut offline, mut online, mut lag, mut lag_max) = (0_u64, 0_u64, 0, 0);
    let mut quarantined = 0_u64;
    for log in broker.log.partitions() {
        if log.is_offline() {
            offline += 1;
            continue;
        }
        online += 1;
        let behind = (log.end_offset().get() - log.durable_offset().get()).max(0);
        lag += behind;
        lag_max = lag_max.max(behind);
        quarantined += log.quarantined().len() as u64;
    }
    let states = [("online", online), ("offline", offline)];
    let states = states.map(|(state, count)| (vec![("state", state.to_owned())], count as f64));
    page.gauge("ottla_partitions", "Partitions, by whether they can be used", states);
    page.gauge("ottla_topics", "Topics", one(broker.topics.len() as f64));
    let help = "Offsets appended and not yet durable, over all partitions";
    page.gauge("ottla_undurable_offsets", help, one(lag as f64));
    let help = "Offsets appended and not yet durable, of the partition with the most";
    page.gauge("ottla_undurable_offsets_max", help, one(lag_max as f64));
    page.gauge("ottla_quarantined_ranges", "Damaged ranges in open segments", one(quarantined as f64));
}

/// The topics with lines of their own: by name, as long as their partitions are within the limit. And the number of
/// partitions without.
fn shown_topics(broker: &Broker) -> (Vec<Arc<Topic>>, usize) {
    let mut room = broker.config.metrics_partitions_max;
    let (mut shown, mut left_out) = (Vec::new(), 0);
    for topic in broker.topics.all() {
        let count = topic.partitions.len();
        if left_out == 0 && count <= room {
            room -= count;
            shown.push(topic);
        } else {
            left_out += count;
        }
    }
    (shown, left_out)
}

fn topics(page: &mut Page, broker: &Broker) {
    let (shown, left_out) = shown_topics(broker);
    let help = "Partitions beyond metrics.partitions.max, whose topics have no lines of their own";
    page.gauge("ottla_partitions_without_metrics", help, one(left_out as f64));
    let of_topics = |value: fn(&Partition) -> u64| {
        shown.iter().map(move |topic| {
            let sum = topic.partitions.iter().map(|partition| value(partition)).sum();
            (vec![("topic", topic.name.to_string())], sum)
        })
    };
    let counters: [Column<Partition, u64>; 4] = [
        ("appended_records", "Records appended", |it| it.log.appended_records()),
        ("appended_bytes", "Bytes of batches appended", |it| it.log.appended_bytes()),
        ("fetched_records", "Offsets handed to clients", |it| it.fetched.records()),
        ("fetched_bytes", "Bytes of batches handed to clients", |it| it.fetched.bytes()),
    ];
    for (name, help, value) in counters {
        page.counter(&format!("ottla_topic_{name}_total"), help, of_topics(value));
    }
    let gauges: [Column<PartitionLog, f64>; 4] = [
        ("size_bytes", "Bytes of all batches on the disk", |log| log.stored_bytes() as f64),
        ("start_offset", "First offset that can be read", |log| log.log_start_offset().get() as f64),
        ("end_offset", "Offset after the last record", |log| log.end_offset().get() as f64),
        ("high_watermark", "Offset up to which consumers read", |log| log.high_watermark().get() as f64),
    ];
    let logs = || shown.iter().flat_map(|topic| &topic.partitions).filter(|partition| !partition.log.is_offline());
    for (name, help, value) in gauges {
        let values = logs().map(|partition| {
            let labels = vec![("topic", partition.topic.to_string()), ("partition", partition.index.to_string())];
            (labels, value(&partition.log))
        });
        page.gauge(&format!("ottla_partition_{name}"), help, values);
    }
}

fn plugins(page: &mut Page, broker: &Broker) {
    let stats = broker.plugins.stats();
    let version = |name: &str, version: i32| vec![("plugin", name.to_owned()), ("version", version.to_string())];
    let distributions: Vec<_> =
        stats.iter().map(|(name, number, stats)| (version(name, *number), stats.seconds())).collect();
    let batches = distributions.iter().map(|(labels, seconds)| (labels.clone(), seconds.count));
    page.counter("ottla_plugin_batches_total", "Batches that a plugin was asked about", batches);
    let failures = stats.iter().flat_map(|(name, number, stats)| {
        stats.failures().map(|(reason, count)| {
            let mut labels = version(name, *number);
            labels.push(("reason", reason.to_owned()));
            (labels, count)
        })
    });
    page.counter("ottla_plugin_failures_total", "Batches that a plugin gave no verdict on", failures);
    let help = "From the unpacking of a batch to the verdict of the plugin";
    page.histogram("ottla_plugin_seconds", help, distributions);
    let verdicts = stats.iter().flat_map(|(name, number, stats)| {
        stats.records().map(|(verdict, count)| {
            let mut labels = version(name, *number);
            labels.push(("verdict", verdict.to_owned()));
            (labels, count)
        })
    });
    page.counter("ottla_plugin_records_total", "Records that a plugin gave a verdict on", verdicts);
    let memories = broker.plugins.memory_held_bytes();
    let memory = memories.iter().map(|((name, number), bytes)| (version(name, *number), *bytes as f64));
    page.gauge("ottla_plugin_memory_bytes", "Linear memory of the instances of a plugin", memory);
    let mut queues: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for topic in broker.topics.all() {
        // A batch waits for the first plugin of its topic; the others see it in the same turn.
        let settings = topic.settings();
        let first = settings.serializer.as_ref().filter(|_| settings.is_encoded()).or(settings.partitioner.as_ref());
        let Some(plugin) = first else { continue };
        let (batches, bytes) = queues.entry(plugin.name.clone()).or_default();
        for partition in &topic.partitions {
            let waiting = partition.waiting_for_plugin();
            *batches += waiting.batches;
            *bytes += waiting.bytes;
        }
    }
    let queue = |value: fn(&(usize, usize)) -> usize| {
        queues.iter().map(move |(name, waiting)| (vec![("plugin", name.clone())], value(waiting) as f64))
    };
    page.gauge("ottla_plugin_queue_batches", "Batches that wait for a plugin", queue(|(batches, _)| *batches));
    page.gauge("ottla_plugin_queue_bytes", "Bytes of the batches that wait for a plugin", queue(|(_, bytes)| *bytes));
}

fn fetch_sessions(page: &mut Page, broker: &Broker) {
    let SessionCounts { sessions, partitions, evictions } = broker.fetch_sessions.counts();
    page.gauge("ottla_fetch_sessions", "Fetch sessions that are kept", one(sessions as f64));
    let help = "Partitions in all fetch sessions together";
    page.gauge("ottla_fetch_session_partitions", help, one(partitions as f64));
    let help = "Fetch sessions that gave way to others";
    page.counter("ottla_fetch_session_evictions_total", help, [(Labels::new(), evictions)]);
}

fn groups(page: &mut Page, broker: &Broker) {
    let GroupCounts { states, shards_unavailable, offsets, lags, rebalances } = broker.groups.counts(GROUP_LAGS_MAX);
    let groups =
        states.into_iter().map(|((kind, state), count)| (vec![("type", kind), ("state", state)], count as f64));
    page.gauge("ottla_groups", "Groups, by type and state", groups);
    let help = "Partitions of __consumer_offsets whose groups are not served: being loaded, or offline";
    page.gauge("ottla_group_shards_unavailable", help, one(shards_unavailable as f64));
    page.counter("ottla_group_rebalances_total", "Rebalances of groups", [(Labels::new(), rebalances)]);
    page.gauge("ottla_group_offsets", "Offsets that groups committed", one(offsets as f64));
    let lags = lags.into_iter().map(|GroupLag { group, topic, partition, offsets }| {
        let labels = vec![("group", group), ("topic", topic.to_string()), ("partition", partition.to_string())];
        (labels, offsets as f64)
    });
    let help = "Offsets between what a group committed and the high watermark";
    page.gauge("ottla_group_lag_offsets", help, lags);
}

/// What clients measured of themselves. One family for all of it: the names are those of the clients.
fn clients(page: &mut Page, broker: &Broker) {
    let telemetry = &broker.telemetry;
    let clients = telemetry.series();
    let samples = clients.iter().flat_map(|client| {
        client.series.iter().map(|(metric, attributes, value)| {
            let labels = vec![
                ("metric", metric.to_owned()),
                ("client_id", client.client_id.clone()),
                ("client_instance_id", client.instance.clone()),
                ("attributes", attributes.to_owned()),
            ];
            (labels, value)
        })
    });
    page.gauge("ottla_client_metric", "What a client measured and pushed last (KIP-714)", samples);
    let counters = [
        ("pushes", "Pushes of metrics that were taken", &telemetry.pushes),
        ("refused", "Pushes of metrics, and questions about them, that were refused", &telemetry.refused),
        ("left_out", "Metrics that were pushed and are not kept", &telemetry.left_out),
    ];
    for (name, help, counter) in counters {
        page.counter(&format!("ottla_client_telemetry_{name}_total"), help, [(Labels::new(), counter.get())]);
    }
}

fn bounds(page: &mut Page, broker: &Broker) {
    let memory = &broker.memory;
    let used = Use::ALL.map(|held_for| (vec![("use", held_for.name().to_owned())], memory.used(held_for) as f64));
    page.gauge("ottla_memory_bytes", "Memory that requests take, by what it is held for", used);
    let help = "What they may take: ottla.memory.max.bytes";
    page.gauge("ottla_memory_max_bytes", help, one(memory.bytes_max() as f64));
    let label = |pool: &Pool| vec![("pool", pool.name().to_owned())];
    let pools = &broker.pools;
    let busy = pools.all().map(|pool| (label(pool), pool.busy() as f64));
    page.gauge("ottla_pool_busy_threads", "Threads of a pool that do work", busy);
    let max = pools.all().map(|pool| (label(pool), pool.threads_max() as f64));
    page.gauge("ottla_pool_threads_max", "Threads that a pool may have", max);
    let waiting = pools.all().map(|pool| (label(pool), pool.waiting() as f64));
    page.gauge("ottla_pool_waiting", "Pieces of work that wait for a thread of a pool", waiting);
    let refused = pools.all().map(|pool| (label(pool), pool.refused()));
    page.counter("ottla_pool_refused_total", "Pieces of work that a pool refused because its queue was full", refused);
}

fn directories(page: &mut Page, broker: &Broker) {
    let help = "Copies of the metadata that have every change: two, unless a disk refuses one";
    page.gauge("ottla_metadata_copies", help, one(broker.meta.whole_copies() as f64));
    let all = broker.log.all();
    let online = all.iter().map(|directory| {
        let reason = directory.offline_reason();
        let online = f64::from(u8::from(reason.is_none()));
        let mut labels = directory_of(directory);
        labels.push(("reason", reason.unwrap_or_default()));
        (labels, online)
    });
    let help = "1 for a log directory that works, 0 with the reason for one that is offline";
    page.gauge("ottla_log_directory_online", help, online);
    let working = || all.iter().filter(|directory| directory.is_online());
    let gauge = |value: fn(&LogDirectory) -> f64| working().map(move |it| (directory_of(it), value(it)));
    let gauges: [Column<LogDirectory, f64>; 4] = [
        ("log_directory_partitions", "Partitions in a log directory", |it| it.log().partition_count() as f64),
        ("preallocated_bytes", "Space reserved for appends to come", |it| it.log().preallocated_bytes() as f64),
        ("disk_usable_bytes", "Bytes that can still be written to the disk of a log directory", |it| {
            disk(it).map_or(-1.0, |(usable, _)| usable as f64)
        }),
        ("disk_total_bytes", "Size of the disk of a log directory", |it| {
            disk(it).map_or(-1.0, |(_, total)| total as f64)
        }),
    ];
    for (name, help, value) in gauges {
        page.gauge(&format!("ottla_{name}"), help, gauge(value));
    }
    // The budget of open files is one for the process.
    let open = all.first().map_or(0, |directory| directory.log().open_segments());
    page.gauge("ottla_open_segments", "Segments with an open file", one(open as f64));
    let appended = all.iter().map(|it| (directory_of(it), it.log().appended_bytes()));
    page.counter("ottla_appended_bytes_total", "Bytes of batches appended", appended);
    let stats: Vec<_> = all.iter().map(|it| (directory_of(it), it.log().stats())).collect();
    let failures = stats.iter().map(|(labels, stats)| (labels.clone(), stats.sync_failures));
    page.counter("ottla_sync_failures_total", "Syncs of segments that failed", failures);
    let seconds = stats.iter().map(|(labels, stats)| (labels.clone(), stats.sync_seconds.clone()));
    page.histogram("ottla_sync_seconds", "How long each sync of a segment took", seconds);
    let groups = stats.iter().map(|(labels, stats)| (labels.clone(), stats.group_bytes.clone()));
    page.histogram("ottla_group_commit_bytes", "How much each group commit made durable", groups);
}

fn cleaner(page: &mut Page, broker: &Broker) {
    let stats = broker.cleaner.stats();
    let counters = [
        ("removed_segments", "Segments that retention removed", stats.segments_removed),
        ("removed_bytes", "Bytes that retention removed", stats.bytes_removed),
        ("compactions", "Compactions that changed something", stats.compactions),
        ("read_bytes", "Bytes that compaction read", stats.compaction_bytes_read),
        ("written_bytes", "Bytes that compaction wrote", stats.compaction_bytes_written),
        ("freed_bytes", "Bytes by which compaction made logs shorter", stats.compaction_bytes_freed),
        ("removed_records", "Records that compaction removed", stats.compaction_records_removed),
    ];
    for (name, help, value) in counters {
        page.counter(&format!("ottla_cleaner_{name}_total"), help, [(Labels::new(), value)]);
    }
    let partitions = || stats.partitions.values();
    let failing = partitions().filter(|it| it.last_error.is_some()).count();
    let damaged: usize = partitions().map(|it| it.damaged_segments).sum();
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let gauges = [
        (
            "retention_timestamp_seconds",
            "When the last look at what is too old ended",
            seconds(stats.last_retention_ms),
        ),
        (
            "compaction_timestamp_seconds",
            "When the last look at what can be compacted ended",
            seconds(stats.last_compaction_ms),
        ),
        (
            "dirty_ratio_max",
            "The greatest share of bytes not compacted of a compacted partition",
            stats.dirty_ratio_max,
        ),
        ("failing_partitions", "Partitions whose last cleaning failed", failing as f64),
        ("damaged_segments", "Segments that compaction passed over because of damage", damaged as f64),
    ];
    for (name, help, value) in gauges {
        page.gauge(&format!("ottla_cleaner_{name}"), help, one(value));
    }
}

fn recovery(page: &mut Page, broker: &Broker) {
    let gauges: [Column<RecoveryReport, f64>; 7] = [
        ("clean", "1 if the last stop was clean, or there was none", |it| f64::from(u8::from(it.clean))),
        ("partitions_scanned", "Partitions that the start had to scan", |it| it.partitions_scanned as f64),
        ("scanned_bytes", "Bytes that the start read and checked", |it| it.bytes_scanned as f64),
        ("truncated_bytes", "Unfinished bytes that the start cut off", |it| {
            it.truncated.iter().map(|cut| cut.bytes as f64).sum()
        }),
        ("quarantined_ranges", "Damaged ranges that the start found", |it| it.quarantined.len() as f64),
        ("epochs_raised", "Partitions whose leader epoch the start raised", |it| it.epochs_raised as f64),
        ("seconds", "How long recovery took", |it| it.duration.as_secs_f64()),
    ];
    for (name, help, value) in gauges {
        let values = broker.recovery.iter().map(|it| (vec![("directory", it.path.display().to_string())], value(it)));
        page.gauge(&format!("ottla_recovery_{name}"), help, values);
    }
}

/// Usable and total bytes.
fn disk(directory: &LogDirectory) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(directory.path()).ok()?;
    Some((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize)))
}
