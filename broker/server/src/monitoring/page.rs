//! All metrics as one page. The state of logs and directories is looked up for it and costs nothing otherwise.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ottla_front::{Pool, Use};
use ottla_log::Distribution;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::broker::Broker;
use crate::fetch_sessions::SessionCounts;
use crate::groups::{GroupCounts, GroupLag};
use crate::log_dirs::LogDirectory;

/// As many lags of groups are on the page at most: one for each partition that a group committed.
const GROUP_LAGS_MAX: usize = 10_000;

/// Everything, in the text format that Prometheus reads. Asks the disks, so it may wait for them.
pub(crate) fn text(broker: &Arc<Broker>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ottla");
    broker.metrics.register(&mut registry);
    registry.register_collector(Box::new(State(Arc::clone(broker))));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// The state of a broker.
struct State(Arc<Broker>);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// The label that names a log directory.
type Labels = Vec<(&'static str, String)>;

fn directory_of(directory: &LogDirectory) -> Labels {
    vec![("directory", directory.path().display().to_string())]
}

impl Collector for State {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let broker = &*self.0;
        let mut page = Page(encoder);
        page.partitions(broker)?;
        page.directories(broker)?;
        page.metadata(broker)?;
        page.fetch_sessions(broker)?;
        page.bounds(broker)?;
        page.groups(broker)?;
        page.cleaner(broker)?;
        page.recovery(broker)
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn metadata(&mut self, broker: &Broker) -> Result<(), fmt::Error> {
        let help = "Copies of the metadata that have every change: two, unless a disk refuses one";
        self.gauge("metadata_copies", help, [(Vec::new(), broker.meta.whole_copies() as f64)])
    }

    fn groups(&mut self, broker: &Broker) -> Result<(), fmt::Error> {
        let GroupCounts { states, shards_unavailable, offsets, lags, rebalances } =
            broker.groups.counts(GROUP_LAGS_MAX);
        let groups =
            states.into_iter().map(|((kind, state), count)| (vec![("type", kind), ("state", state)], count as f64));
        self.gauge("groups", "Groups, by type and state", groups)?;
        let help = "Partitions of __consumer_offsets whose groups are not served: being loaded, or offline";
        self.gauge("group_shards_unavailable", help, [(Labels::new(), shards_unavailable as f64)])?;
        self.counter("group_rebalances", "Rebalances of groups", [(Labels::new(), rebalances)])?;
        self.gauge("group_offsets", "Offsets that groups committed", [(Labels::new(), offsets as f64)])?;
        let lags = lags.into_iter().map(|GroupLag { group, topic, partition, offsets }| {
            let labels = vec![("group", group), ("topic", topic.to_string()), ("partition", partition.to_string())];
            (labels, offsets as f64)
        });
        let help = "Offsets between what a group committed and the high watermark";
        self.gauge("group_lag_offsets", help, lags)
    }

    fn fetch_sessions(&mut self, broker: &Broker) -> Result<(), fmt::Error> {
        let SessionCounts { sessions, partitions, evictions } = broker.fetch_sessions.counts();
        self.gauge("fetch_sessions", "Fetch sessions that are kept", [(Labels::new(), sessions as f64)])?;
        let help = "Partitions in all fetch sessions together";
        self.gauge("fetch_session_partitions", help, [(Labels::new(), partitions as f64)])?;
        let help = "Fetch sessions that gave way to others";
        self.counter("fetch_session_evictions", help, [(Labels::new(), evictions)])
    }

    fn bounds(&mut self, broker: &Broker) -> Result<(), fmt::Error> {
        let memory = &broker.memory;
        let used = Use::ALL.map(|held_for| (vec![("use", held_for.name().to_owned())], memory.used(held_for) as f64));
        self.gauge("memory_bytes", "Memory that requests take, by what it is held for", used)?;
        let help = "What they may take: ottla.memory.max.bytes";
        self.gauge("memory_max_bytes", help, [(Labels::new(), memory.bytes_max() as f64)])?;
        let label = |pool: &Pool| vec![("pool", pool.name().to_owned())];
        let pools = &broker.pools;
        let busy = pools.all().map(|pool| (label(pool), pool.busy() as f64));
        self.gauge("pool_busy_threads", "Threads of a pool that do work", busy)?;
        let max = pools.all().map(|pool| (label(pool), pool.threads_max() as f64));
        self.gauge("pool_threads_max", "Threads that a pool may have", max)?;
        let waiting = pools.all().map(|pool| (label(pool), pool.waiting() as f64));
        self.gauge("pool_waiting", "Pieces of work that wait for a thread of a pool", waiting)?;
        let refused = pools.all().map(|pool| (label(pool), pool.refused()));
        self.counter("pool_refused", "Pieces of work that a pool refused because its queue was full", refused)
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Result<(), fmt::Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Result<(), fmt::Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, Distribution)>,
    ) -> Result<(), fmt::Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, Distribution { mut buckets, count, sum }) in values {
            let below: u64 = buckets.iter().map(|(_, count)| count).sum();
            buckets.push((f64::MAX, count.saturating_sub(below)));
            let none: Option<&HashMap<usize, Exemplar<Labels, f64>>> = None;
            metric.encode_family(&labels)?.encode_histogram(sum, count, &buckets, none)?;
        }
        Ok(())
    }

    fn partitions(&mut self, broker: &Broker) -> Result<(), fmt::Error> {
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
        let none = || Labels::new();
        let states = [("online", online), ("offline", offline)];
        let states = states.map(|(state, count)| (vec![("state", state.to_owned())], count as f64));
        self.gauge("partitions", "Partitions, by whether they can be used", states)?;
        self.gauge("topics", "Topics", [(none(), broker.topics.len() as f64)])?;
        let help = "Offsets appended and not yet durable, over all partitions";
        self.gauge("undurable_offsets", help, [(none(), lag as f64)])?;
        let help = "Offsets appended and not yet durable, of the partition with the most";
        self.gauge("undurable_offsets_max", help, [(none(), lag_max as f64)])?;
        self.gauge("quarantined_ranges", "Damaged ranges in open segments", [(none(), quarantined as f64)])
    }

    fn directories(&mut self, broker: &Broker) -> Result<(), fmt::Error> {
        let all = broker.log.all();
        let online = all.iter().map(|directory| {
            let reason = directory.offline_reason();
            let online = f64::from(u8::from(reason.is_none()));
            let mut labels = directory_of(directory);
            labels.push(("reason", reason.unwrap_or_default()));
            (labels, online)
        });
        self.gauge(
            "log_directory_online",
            "1 for a log directory that works, 0 with the reason for one that is offline",
            online,
        )?;
        let working = || all.iter().filter(|directory| directory.is_online());
        let gauge = |value: fn(&LogDirectory) -> f64| working().map(move |it| (directory_of(it), value(it)));
        let help = "Partitions in a log directory";
        self.gauge("log_directory_partitions", help, gauge(|it| it.log().partition_count() as f64))?;
        let help = "Space reserved for appends to come";
        self.gauge("preallocated_bytes", help, gauge(|it| it.log().preallocated_bytes() as f64))?;
        let help = "Bytes that can still be written to the disk of a log directory";
        self.gauge("disk_usable_bytes", help, gauge(|it| disk(it).map_or(-1.0, |(usable, _)| usable as f64)))?;
        let help = "Size of the disk of a log directory";
        self.gauge("disk_total_bytes", help, gauge(|it| disk(it).map_or(-1.0, |(_, total)| total as f64)))?;
        // The budget of open files is one for the process.
        let open = all.first().map_or(0, |directory| directory.log().open_segments());
        self.gauge("open_segments", "Segments with an open file", [(Labels::new(), open as f64)])?;
        let stats: Vec<_> = all.iter().map(|it| (directory_of(it), it.log().stats())).collect();
        let appended = all.iter().map(|it| (directory_of(it), it.log().appended_bytes()));
        self.counter("appended_bytes", "Bytes of batches appended", appended)?;
        let failures = stats.iter().map(|(labels, stats)| (labels.clone(), stats.sync_failures));
        self.counter("sync_failures", "Syncs of segments that failed", failures)?;
        let seconds = stats.iter().map(|(labels, stats)| (labels.clone(), stats.sync_seconds.clone()));
        self.histogram("sync_seconds", "How long each sync of a segment took", seconds)?;
        let groups = stats.iter().map(|(labels, stats)| (labels.clone(), stats.group_bytes.clone()));
        self.histogram("group_commit_bytes", "How much each group commit made durable", groups)
    }

    fn cleaner(&mut self, broker: &Broker) -> Result<(), fmt::Error> {
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
            self.counter(&format!("cleaner_{name}"), help, [(Labels::new(), value)])?;
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
            self.gauge(&format!("cleaner_{name}"), help, [(Labels::new(), value)])?;
        }
        Ok(())
    }

    fn recovery(&mut self, broker: &Broker) -> Result<(), fmt::Error> {
        let reports = &broker.recovery;
        let mut gauge = |name: &str, help: &str, value: fn(&ottla_log::RecoveryReport) -> f64| {
            let values = reports.iter().map(|it| (vec![("directory", it.path.display().to_string())], value(it)));
            self.gauge(name, help, values)
        };
        gauge("recovery_clean", "1 if the last stop was clean", |it| f64::from(u8::from(it.clean)))?;
        gauge("recovery_partitions_scanned", "Partitions that the start had to scan", |it| {
            it.partitions_scanned as f64
        })?;
        gauge("recovery_scanned_bytes", "Bytes that the start read and checked", |it| it.bytes_scanned as f64)?;
        gauge("recovery_truncated_bytes", "Unfinished bytes that the start cut off", |it| {
            it.truncated.iter().map(|cut| cut.bytes as f64).sum()
        })?;
        gauge("recovery_quarantined_ranges", "Damaged ranges that the start found", |it| it.quarantined.len() as f64)?;
        gauge("recovery_epochs_raised", "Partitions whose leader epoch the start raised", |it| {
            it.epochs_raised as f64
        })?;
        gauge("recovery_seconds", "How long recovery took", |it| it.duration.as_secs_f64())
    }
}

/// Usable and total bytes.
fn disk(directory: &LogDirectory) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(directory.path()).ok()?;
    Some((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize)))
}
