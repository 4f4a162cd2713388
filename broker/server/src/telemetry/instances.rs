//! Which client may push what and when: the rules of Kafka's `ClientMetricsManager`, with the time as a number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use ottla_front::Peer;
use ottla_wire::ErrorCode;
use ottla_wire::otlp::Point;
use uuid::Uuid;

use crate::config::client_metrics::{ALL_METRICS, ClientTrait, MetricsSubscription, PUSH_INTERVAL_DEFAULT_MS};

/// Clients that are remembered, as by Kafka.
const INSTANCES_MAX: usize = 16_384;
/// A client is forgotten when it was silent for so many intervals, but not before [`SILENCE_MIN_MS`].
const SILENT_INTERVALS_MAX: i64 = 3;
const SILENCE_MIN_MS: i64 = 60_000;
/// Longest name of a metric, longest attributes of a series and longest name of a client that are shown.
const TEXT_BYTES_MAX: usize = 256;

/// A client as patterns and metrics see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) software_name: String,
    pub(super) software_version: String,
    pub(super) address: String,
    pub(super) port: u16,
}

impl Client {
    pub(super) fn of(peer: &Peer) -> Self {
        let software = peer.software();
        Self {
            id: cut(peer.client_id()),
            software_name: cut(peer.software_name()),
            software_version: cut(software.map_or("", |software| &software.version)),
            address: peer.addr.ip().to_canonical().to_string(),
            port: peer.addr.port(),
        }
    }

    fn value(&self, instance: Uuid, known: ClientTrait) -> String {
        match known {
            ClientTrait::InstanceId => java_uuid(instance),
            ClientTrait::ClientId => self.id.clone(),
            ClientTrait::SoftwareName => self.software_name.clone(),
            ClientTrait::SoftwareVersion => self.software_version.clone(),
            ClientTrait::SourceAddress => self.address.clone(),
            ClientTrait::SourcePort => self.port.to_string(),
        }
    }
}

/// What is wanted of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Changes with the rest of it.
    pub(super) id: i32,
    pub(super) metrics: BTreeSet<String>,
    pub(super) interval_ms: i32,
}

/// What a push says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Push {
    pub(super) subscription_id: i32,
    pub(super) terminating: bool,
    pub(super) codec_known: bool,
    pub(super) too_large: bool,
}

/// Numbers by metric and attributes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Series(BTreeMap<(Box<str>, Box<str>), f64>);

impl Series {
    /// Adds a number; the last one of a series counts.
    pub(crate) fn add(&mut self, point: &Point<'_>) {
        let key = (cut(point.metric).into_boxed_str(), cut(&point.attributes).into_boxed_str());
        self.0.insert(key, point.value);
    }

    /// Metric, attributes and number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.0.iter().map(|((metric, attributes), value)| (&**metric, &**attributes, *value))
    }
}

/// What a client pushed last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClientSeries {
    /// The id of the client instance, as Kafka writes it.
    pub(crate) instance: String,
    /// `client.id`.
    pub(crate) client_id: String,
    /// Its numbers.
    pub(crate) series: Series,
}

/// A client that asked or pushed.
#[derive(Debug)]
struct Instance {
    client: Client,
    wanted: Wanted,
    /// The state of the subscriptions that `wanted` was made of.
    subscriptions: u64,
    asked_ms: i64,
    pushed_ms: i64,
    forgotten_at_ms: i64,
    /// Why the last push was refused.
    refused: Option<ErrorCode>,
    terminating: bool,
    series: Series,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Instances {
    by_id: HashMap<Uuid, Instance>,
    /// The clients by the moment at which they are forgotten.
    by_end: BTreeSet<(i64, Uuid)>,
    subscriptions: Vec<MetricsSubscription>,
    /// Counts the changes of the subscriptions.
    changes: u64,
    series: usize,
    series_max: usize,
}

impl Instances {
    pub(super) fn new(series_max: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            by_end: BTreeSet::new(),
            subscriptions: Vec::new(),
            changes: 0,
            series: 0,
            series_max,
        }
    }

    pub(super) fn subscribe(&mut self, subscriptions: Vec<MetricsSubscription>) {
        self.subscriptions = subscriptions;
        self.changes += 1;
    }

    /// A client asks what is wanted. It may do so once an interval, and at once when its last push was refused for what it did
    /// not know.
    pub(super) fn ask(&mut self, now_ms: i64, id: Uuid, client: impl FnOnce() -> Client) -> Result<&Wanted, ErrorCode> {
        let instance = self.heard_of(now_ms, id, client);
        let due_ms = instance.asked_ms.max(instance.pushed_ms).saturating_add(instance.wanted.interval_ms.into());
        let excused =
            matches!(instance.refused, Some(ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType));
        if now_ms < due_ms && !excused {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        (instance.asked_ms, instance.refused) = (now_ms, None);
        Ok(&instance.wanted)
    }

    /// A client wants to push. It may do so once after it asked and once an interval, and a last time when it ends.
    pub(super) fn admit(
        &mut self,
        now_ms: i64,
        id: Uuid,
        push: Push,
        client: impl FnOnce() -> Client,
    ) -> Result<(), ErrorCode> {
        let instance = self.heard_of(now_ms, id, client);
        let ended = instance.terminating;
        instance.terminating = push.terminating;
        let due_ms = instance.pushed_ms.saturating_add(instance.wanted.interval_ms.into());
        let is_due = instance.asked_ms > instance.pushed_ms || now_ms >= due_ms;
        if is_due && !ended {
            instance.pushed_ms = now_ms;
        }
        let refused = if ended {
            ErrorCode::InvalidRequest
        } else if !is_due && !push.terminating {
            ErrorCode::ThrottlingQuotaExceeded
        } else if push.subscription_id != instance.wanted.id {
            ErrorCode::UnknownSubscriptionId
        } else if !push.codec_known {
            ErrorCode::UnsupportedCompressionType
        } else if push.too_large {
            ErrorCode::TelemetryTooLarge
        } else {
            instance.refused = None;
            return Ok(());
        };
        instance.refused = Some(refused);
        Err(refused)
    }

    /// What an admitted push carries does not read.
    pub(super) fn refuse(&mut self, id: Uuid, code: ErrorCode) {
        if let Some(instance) = self.by_id.get_mut(&id) {
            instance.refused = Some(code);
        }
    }

    /// Keeps what a client pushed in place of what it pushed before. Returns how many series found no room.
    pub(super) fn keep(&mut self, id: Uuid, mut series: Series) -> usize {
        let Some(instance) = self.by_id.get_mut(&id) else { return series.0.len() };
        self.series -= instance.series.0.len();
        let room = self.series_max - self.series;
        let mut no_room = 0;
        while series.0.len() > room {
            series.0.pop_last();
            no_room += 1;
        }
        self.series += series.0.len();
        instance.series = series;
        no_room
    }

    /// What the clients pushed that are still known.
    pub(super) fn series(&mut self, now_ms: i64) -> Vec<ClientSeries> {
        self.forget(now_ms);
        let shown = self.by_id.iter().filter(|(_, instance)| !instance.series.0.is_empty());
        let mut shown: Vec<_> = shown
            .map(|(id, instance)| ClientSeries {
                instance: java_uuid(*id),
                client_id: instance.client.id.clone(),
                series: instance.series.clone(),
            })
            .collect();
        shown.sort_by(|a, b| (&a.client_id, &a.instance).cmp(&(&b.client_id, &b.instance)));
        shown
    }

    /// The client, with what is wanted of it now. It is new, or it lives on for its intervals.
    fn heard_of(&mut self, now_ms: i64, id: Uuid, client: impl FnOnce() -> Client) -> &mut Instance {
        self.forget(now_ms);
        if !self.by_id.contains_key(&id) {
            while self.by_id.len() >= INSTANCES_MAX {
                let Some((_, oldest)) = self.by_end.first().copied() else { break };
                self.remove(oldest);
            }
        }
        let Self { by_id, by_end, subscriptions, changes, .. } = self;
        let instance = by_id.entry(id).or_insert_with(|| {
            let client = client();
            Instance {
                wanted: wanted(subscriptions, id, &client),
                client,
                subscriptions: *changes,
                asked_ms: i64::MIN,
                pushed_ms: i64::MIN,
                forgotten_at_ms: now_ms,
                refused: None,
                terminating: false,
                series: Series::default(),
            }
        });
        if instance.subscriptions != *changes {
            // As a new one: it may ask and push at once.
            instance.wanted = wanted(subscriptions, id, &instance.client);
            instance.subscriptions = *changes;
            (instance.asked_ms, instance.pushed_ms) = (i64::MIN, i64::MIN);
            (instance.refused, instance.terminating) = (None, false);
        }
        by_end.remove(&(instance.forgotten_at_ms, id));
        let silence_ms = (SILENT_INTERVALS_MAX * i64::from(instance.wanted.interval_ms)).max(SILENCE_MIN_MS);
        instance.forgotten_at_ms = now_ms.saturating_add(silence_ms);
        by_end.insert((instance.forgotten_at_ms, id));
        instance
    }

    fn forget(&mut self, now_ms: i64) {
        while let Some((_, id)) = self.by_end.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: Uuid) {
        if let Some(instance) = self.by_id.remove(&id) {
            self.by_end.remove(&(instance.forgotten_at_ms, id));
            self.series -= instance.series.0.len();
        }
    }
}

fn wanted(subscriptions: &[MetricsSubscription], id: Uuid, client: &Client) -> Wanted {
    let (mut metrics, mut interval_ms) = (BTreeSet::new(), PUSH_INTERVAL_DEFAULT_MS);
    for subscription in subscriptions {
        if subscription.matches(|known| client.value(id, known)) {
            metrics.extend(subscription.metrics.iter().cloned());
            interval_ms = interval_ms.min(subscription.interval_ms);
        }
    }
    if metrics.contains(ALL_METRICS) {
        metrics = [ALL_METRICS.to_owned()].into();
    }
    let mut hasher = DefaultHasher::new();
    (&metrics, interval_ms, id).hash(&mut hasher);
    Wanted { id: hasher.finish() as i32, metrics, interval_ms }
}

/// A text of bounded length.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

/// A UUID as Kafka's tools and clients write it: Base64 for URLs, without padding.
fn java_uuid(id: Uuid) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 128 bits and four of nothing make 22 digits.
    let bits = id.as_u128();
    let digit = |index: u32| {
        let shift = 122 - 6 * index as i32;
        let six = if shift >= 0 { bits >> shift } else { bits << -shift };
        char::from(DIGITS[(six & 63) as usize])
    };
    (0..22).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL_MS: i64 = 1000;
    const ID: Uuid = Uuid::from_u128(7);

    fn client() -> Client {
        Client {
            id: "app".to_owned(),
            software_name: "apache-kafka-java".to_owned(),
            software_version: "4.4.0".to_owned(),
            address: "127.0.0.1".to_owned(),
            port: 4711,
        }
    }

    fn subscription(metrics: &str) -> MetricsSubscription {
        let given = [("metrics", metrics), ("interval.ms", "1000"), ("match", "client_id=a.*")];
        MetricsSubscription::read(&given.map(|(name, value)| (name.to_owned(), value.to_owned())).into()).unwrap()
    }

    fn instances(metrics: &str) -> Instances {
        let mut instances = Instances::new(10);
        instances.subscribe(vec![subscription(metrics)]);
        instances
    }

    fn push(subscription_id: i32) -> Push {
        Push { subscription_id, terminating: false, codec_known: true, too_large: false }
    }

    fn series(count: usize) -> Series {
        let mut series = Series::default();
        for number in 0..count {
            series.add(&Point { metric: "m", attributes: format!("n={number}"), value: 1.0 });
        }
        series
    }

    #[test]
    fn a_client_asks_and_pushes_once_an_interval() {
        let mut all = instances("org.apache.kafka.,*");
        let wanted = all.ask(0, ID, client).unwrap().clone();
        assert_eq!((wanted.metrics, wanted.interval_ms), ([ALL_METRICS.to_owned()].into(), 1000));
        assert_eq!(all.ask(INTERVAL_MS - 1, ID, client), Err(ErrorCode::ThrottlingQuotaExceeded));
        assert_eq!(all.admit(1, ID, push(wanted.id), client), Ok(()), "after it asked, at any time");
        assert_eq!(all.admit(INTERVAL_MS, ID, push(wanted.id), client), Err(ErrorCode::ThrottlingQuotaExceeded));
        assert_eq!(all.admit(INTERVAL_MS + 1, ID, push(wanted.id), client), Ok(()));
        let last = Push { terminating: true, ..push(wanted.id) };
        assert_eq!(all.admit(INTERVAL_MS + 2, ID, last, client), Ok(()), "a last one, at any time");
        assert_eq!(all.admit(9 * INTERVAL_MS, ID, push(wanted.id), client), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn a_push_for_another_subscription_may_ask_again_at_once() {
        let mut all = instances("a.");
        let before = all.ask(0, ID, client).unwrap().id;
        all.subscribe(vec![subscription("b.")]);
        assert_eq!(all.admit(1, ID, push(before), client), Err(ErrorCode::UnknownSubscriptionId));
        let after = all.ask(2, ID, client).unwrap().clone();
        assert!(after.id != before && after.metrics.contains("b."));
        assert_eq!(all.admit(3, ID, push(after.id), client), Ok(()));
        let unknown = Push { codec_known: false, ..push(after.id) };
        let much = Push { too_large: true, ..push(after.id) };
        assert_eq!(all.admit(2000, ID, unknown, client), Err(ErrorCode::UnsupportedCompressionType));
        assert_eq!(all.admit(4000, ID, much, client), Err(ErrorCode::TelemetryTooLarge));
    }

    #[test]
    fn a_client_that_no_subscription_matches_is_asked_for_nothing() {
        let mut all = instances("*");
        let stranger = || Client { id: "stranger".to_owned(), ..client() };
        let wanted = all.ask(0, ID, stranger).unwrap();
        assert_eq!((wanted.metrics.len(), wanted.interval_ms), (0, PUSH_INTERVAL_DEFAULT_MS));
    }

    #[test]
    fn series_are_bounded_and_go_with_a_client_that_is_silent() {
        let mut all = instances("*");
        let other = Uuid::from_u128(8);
        for id in [ID, other] {
            all.ask(0, id, client).unwrap();
        }
        assert_eq!(all.keep(ID, series(8)), 0);
        assert_eq!(all.keep(other, series(5)), 3, "ten in all");
        assert_eq!(all.keep(ID, series(2)), 0, "in place of those before");
        assert_eq!(all.series(1).iter().map(|client| client.series.0.len()).sum::<usize>(), 4);
        assert_eq!(all.series(SILENCE_MIN_MS), Vec::new());
        assert_eq!((all.series, all.by_id.len(), all.by_end.len()), (0, 0, 0));
    }

    #[test]
    fn clients_beyond_the_bound_push_out_the_one_that_was_silent_longest() {
        let mut all = instances("*");
        for number in 0..=INSTANCES_MAX as u128 {
            all.ask(number as i64, Uuid::from_u128(number + 1), client).unwrap();
        }
        assert_eq!((all.by_id.len(), all.by_end.len()), (INSTANCES_MAX, INSTANCES_MAX));
        assert!(!all.by_id.contains_key(&Uuid::from_u128(1)));
    }

    #[test]
    fn an_instance_is_called_as_kafka_calls_it() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(java_uuid(id), "ASNFZ4mrze8BI0VniavN7w");
    }
}
