"""Settings: our names with their types, Kafka's dotted names for each, and what becomes of a value written as text.

The defaults live in the Rust core alone; ``Producer.settings`` and ``Consumer.settings`` show what is in force.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, TypedDict

from .errors import ConfigError

Compression: TypeAlias = Literal["none", "gzip", "snappy", "lz4", "zstd"]
Acks: TypeAlias = Literal["all", 0, 1, -1, "0", "1", "-1"]
OffsetReset: TypeAlias = Literal["fail", "earliest", "latest"]
IsolationLevel: TypeAlias = Literal["read_committed", "read_uncommitted"]
GroupProtocol: TypeAlias = Literal["classic", "consumer"]
Assignor: TypeAlias = Literal["range", "roundrobin", "sticky", "cooperative-sticky"]


class ClientSettings(TypedDict, total=False):
    """How to reach a cluster and how patient to be."""

    client_id: str
    """How this program names itself in the broker's logs."""
    connect_timeout_ms: int
    """How long one connection attempt may take, name look-up and handshake included."""
    request_timeout_ms: int
    """How long a broker may take to answer before its connection counts as dead."""
    metadata_age_ms_max: int
    """After this long, what is known of topics and brokers is asked for again."""
    retry_backoff_ms: int
    """First pause after a failed request; it doubles up to ``retry_backoff_ms_max``."""
    retry_backoff_ms_max: int
    """Longest pause between two attempts of a request."""
    reconnect_backoff_ms: int
    """First pause after a failed connection attempt; it doubles up to ``reconnect_backoff_ms_max``."""
    reconnect_backoff_ms_max: int
    """Longest pause between two connection attempts."""
    response_bytes_max: int
    """A response that announces more than this ends the connection."""


class ProducerSettings(ClientSettings, total=False):
    """What a :class:`ottla.Producer` can be told."""

    acks: Acks
    """``"all"``: durable, the default. ``1``: appended, not yet durable. ``0``: no answer, silent about every loss."""
    idempotent: bool
    """Retries neither double nor reorder records. On with ``acks="all"``, off with the others."""
    compression: Compression | None
    """How batches are compressed."""
    compression_level: int | None
    """The codec's own level; None means its default."""
    linger_ms: int
    """How long a batch waits for company. 0 sends at once; under load batches fill up anyway."""
    batch_bytes: int
    """A batch is closed when it holds this much. One larger record makes a batch of its own."""
    request_bytes_max: int
    """The largest record, and the most that one request carries. Not above the topic's ``max.message.bytes``."""
    buffer_bytes: int
    """Everything not yet acknowledged fits into this much memory; then ``send`` waits."""
    requests_in_flight_max: int
    """Requests on one connection that may await their answers, 1 to 5."""
    delivery_timeout_ms: int
    """From ``send`` to the acknowledgement, retries included; after that the record has failed."""
    topic_wait_ms: int
    """How long a topic may be unknown to the cluster before records for it fail."""
    auto_create_topics: bool
    """Whether asking for an unknown topic may create it, if the broker's settings allow that."""


class ConsumerSettings(ClientSettings, total=False):
    """What a :class:`ottla.Consumer` can be told."""

    offset_reset: OffsetReset
    """What to do when the log does not hold the position: ``"fail"`` says so, the others go on there."""
    isolation_level: IsolationLevel
    """Which records of transactions are read: those of committed ones (default), or all."""
    fetch_bytes_min: int
    """The broker waits for this much, or for ``fetch_wait_ms_max``, before it answers."""
    fetch_bytes_max: int
    """The most one answer carries (one batch may exceed it)."""
    partition_bytes_max: int
    """The most one answer carries of one partition (one batch may exceed it)."""
    fetch_wait_ms_max: int
    """How long the broker may wait for data."""
    buffer_bytes: int
    """Fetching pauses while this much is fetched and not yet polled."""
    batch_bytes_max: int
    """A compressed batch may unpack to this much."""
    check_crcs: bool
    """Whether the checksum of every batch is verified."""
    unreachable_ms_max: int
    """Brokers out of reach for this long make ``poll`` say so, once per period; it keeps trying all the while."""


class GroupSettings(ConsumerSettings, total=False):
    """What a :class:`ottla.Consumer` with a ``group_id`` can be told."""

    group_instance_id: str
    """Makes the member a static one: if it comes back within the session, it gets what it had without a rebalance."""
    group_protocol: GroupProtocol
    """``"classic"``: the members share out the partitions. ``"consumer"``: the broker does (KIP-848)."""
    assignors: Sequence[Assignor]
    """Classic protocol: how partitions may be shared out, what is liked best first. ``["cooperative-sticky"]``, unless
    set."""
    broker_assignor: str
    """Consumer protocol: the assignor of the broker, ``"uniform"`` or ``"range"``."""
    session_timeout_ms: int
    """Classic protocol: without a heartbeat for this long the member is taken for dead."""
    heartbeat_interval_ms: int
    """Classic protocol: time between two heartbeats."""
    poll_interval_ms_max: int
    """The program has to poll this often; else the member leaves the group until it does."""
    auto_commit: bool
    """Commit what is done with: from time to time, before a rebalance, and when the consumer is closed. On, unless
    set. Records are done with when the next ones are asked for."""
    auto_commit_interval_ms: int
    """Time between two such commits."""


def _text(name: str, value: object) -> object:
    if isinstance(value, str):
        return value
    raise ConfigError(f"{name} is {value!r}, it must be a text", name="CONFIG")


def _number(name: str, value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    try:
        return int(value) if isinstance(value, str) else _refuse(name, value, "a whole number")
    except ValueError:
        return _refuse(name, value, "a whole number")


def _number_or_none(name: str, value: object) -> object:
    return None if value is None else _number(name, value)


def _switch(name: str, value: object) -> object:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value if isinstance(value, bool) else _refuse(name, value, "True or False")


def _texts(name: str, value: object) -> object:
    words = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if isinstance(words, Sequence) and all(isinstance(word, str) for word in words):  # pyright: ignore[reportUnknownVariableType]
        # Java names its classes.
        classes = {f"org.apache.kafka.clients.consumer.{java}": ours for java, ours in _ASSIGNORS.items()}
        return [classes.get(str(word), str(word)) for word in words]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return _refuse(name, value, "a list of texts")


_ASSIGNORS = {
    "RangeAssignor": "range",
    "RoundRobinAssignor": "roundrobin",
    "StickyAssignor": "sticky",
    "CooperativeStickyAssignor": "cooperative-sticky",
}


def _group_protocol(name: str, value: object) -> object:
    word = value.lower() if isinstance(value, str) else value
    return word if word in ("classic", "consumer") else _refuse(name, value, '"classic" or "consumer"')


def _acks(name: str, value: object) -> object:
    words = {"all": -1, "-1": -1, "1": 1, "0": 0}
    found = words.get(str(value).lower())
    return _refuse(name, value, '"all", 1 or 0') if found is None else found


def _compression(name: str, value: object) -> object:
    if value is None:
        return "none"
    known = ("none", "gzip", "snappy", "lz4", "zstd")
    return value if value in known else _refuse(name, value, f"None or one of {', '.join(known[1:])}")


def _isolation_level(name: str, value: object) -> object:
    if value in ("read_committed", "read_uncommitted"):
        return value
    raise ConfigError(f"{name} is {value!r}, it must be read_committed or read_uncommitted", name="CONFIG")


def _offset_reset(name: str, value: object) -> object:
    # Kafka's words first, then librdkafka's.
    words = {"none": "fail", "error": "fail", "smallest": "earliest", "beginning": "earliest"}
    words |= {"largest": "latest", "end": "latest", "fail": "fail", "earliest": "earliest", "latest": "latest"}
    found = words.get(str(value).lower())
    return _refuse(name, value, '"fail", "earliest" or "latest"') if found is None else found


def _refuse(name: str, value: object, bound: str) -> object:
    raise ConfigError(f"{name} is {value!r}, it must be {bound}", name="CONFIG")


class _Setting(NamedTuple):
    read: Callable[[str, object], object]
    kafka: tuple[str, ...] = ()
    """The same setting's names in Kafka's Java client and in librdkafka."""


_CLIENT: dict[str, _Setting] = {
    "client_id": _Setting(_text, ("client.id",)),
    "connect_timeout_ms": _Setting(_number, ("socket.connection.setup.timeout.ms",)),
    "request_timeout_ms": _Setting(_number, ("request.timeout.ms", "socket.timeout.ms")),
    "metadata_age_ms_max": _Setting(_number, ("metadata.max.age.ms",)),
    "retry_backoff_ms": _Setting(_number, ("retry.backoff.ms",)),
    "retry_backoff_ms_max": _Setting(_number, ("retry.backoff.max.ms",)),
    "reconnect_backoff_ms": _Setting(_number, ("reconnect.backoff.ms",)),
    "reconnect_backoff_ms_max": _Setting(_number, ("reconnect.backoff.max.ms",)),
    "response_bytes_max": _Setting(_number, ("receive.message.max.bytes",)),
}

ADMIN = _CLIENT

PRODUCER: dict[str, _Setting] = _CLIENT | {
    "acks": _Setting(_acks, ("acks", "request.required.acks")),
    "idempotent": _Setting(_switch, ("enable.idempotence",)),
    "compression": _Setting(_compression, ("compression.type", "compression.codec")),
    "compression_level": _Setting(_number_or_none, ("compression.level",)),
    "linger_ms": _Setting(_number, ("linger.ms", "queue.buffering.max.ms")),
    "batch_bytes": _Setting(_number, ("batch.size",)),
    "request_bytes_max": _Setting(_number, ("max.request.size", "message.max.bytes")),
    "buffer_bytes": _Setting(_number, ("buffer.memory",)),
    "requests_in_flight_max": _Setting(_number, ("max.in.flight.requests.per.connection", "max.in.flight")),
    "delivery_timeout_ms": _Setting(_number, ("delivery.timeout.ms", "message.timeout.ms")),
    "topic_wait_ms": _Setting(_number, ("max.block.ms", "topic.metadata.propagation.max.ms")),
    "auto_create_topics": _Setting(_switch, ("allow.auto.create.topics",)),
}

CONSUMER: dict[str, _Setting] = _CLIENT | {
    "offset_reset": _Setting(_offset_reset, ("auto.offset.reset",)),
    "isolation_level": _Setting(_isolation_level, ("isolation.level",)),
    "fetch_bytes_min": _Setting(_number, ("fetch.min.bytes",)),
    "fetch_bytes_max": _Setting(_number, ("fetch.max.bytes",)),
    "partition_bytes_max": _Setting(_number, ("max.partition.fetch.bytes", "fetch.message.max.bytes")),
    "fetch_wait_ms_max": _Setting(_number, ("fetch.max.wait.ms", "fetch.wait.max.ms")),
    "buffer_bytes": _Setting(_number),
    "batch_bytes_max": _Setting(_number),
    "check_crcs": _Setting(_switch, ("check.crcs",)),
    "unreachable_ms_max": _Setting(_number),
}

GROUP: dict[str, _Setting] = CONSUMER | {
    "group_id": _Setting(_text, ("group.id",)),
    "group_instance_id": _Setting(_text, ("group.instance.id",)),
    "group_protocol": _Setting(_group_protocol, ("group.protocol",)),
    "assignors": _Setting(_texts, ("partition.assignment.strategy",)),
    "broker_assignor": _Setting(_text, ("group.remote.assignor",)),
    "session_timeout_ms": _Setting(_number, ("session.timeout.ms",)),
    "heartbeat_interval_ms": _Setting(_number, ("heartbeat.interval.ms",)),
    "poll_interval_ms_max": _Setting(_number, ("max.poll.interval.ms",)),
    "auto_commit": _Setting(_switch, ("enable.auto.commit",)),
    "auto_commit_interval_ms": _Setting(_number, ("auto.commit.interval.ms",)),
}
"""What only a member of a group has comes after all that a consumer has."""

_NOT_YET = {
    "transactional.id": "transactions are not there yet: leave out transactional.id",
}


def gather(
    table: Mapping[str, _Setting],
    bootstrap_servers: str | Sequence[str] | None,
    config: Mapping[str, object] | None,
    keywords: Mapping[str, object],
) -> dict[str, object]:
    """One dictionary in our names, from keywords and from a dictionary in Kafka's names (or ours)."""
    ours = {dotted: name for name, setting in table.items() for dotted in setting.kafka}
    found: dict[str, object] = {}
    for key, value in keywords.items():
        if key not in table:
            dotted = key.replace("_", ".")
            known = ["bootstrap_servers", *table]
            raise TypeError(_NOT_YET[dotted]) if dotted in _NOT_YET else _unknown(key, known, TypeError)
        found[key] = table[key].read(key, value)
    for key, value in (config or {}).items():
        if key in ("bootstrap.servers", "bootstrap_servers", "metadata.broker.list"):
            if bootstrap_servers is not None:
                raise ConfigError(f"bootstrap_servers is given twice, once as {key}", name="CONFIG")
            bootstrap_servers = _servers(key, value)
            continue
        name = ours.get(key, key)
        if name not in table:
            raise ConfigError(_NOT_YET[key], name="CONFIG") if key in _NOT_YET else _unknown(key, [*table, *ours])
        if name in found:
            raise ConfigError(f"{name} is given twice, once as {key}", name="CONFIG")
        found[name] = table[name].read(key, value)
    if found.get("acks", -1) != -1:
        found.setdefault("idempotent", False)
    found["bootstrap_servers"] = _servers("bootstrap_servers", bootstrap_servers)
    return found


def _servers(name: str, value: object) -> list[str]:
    match value:
        case None:
            return ["127.0.0.1:9092"]
        case str():
            return [part.strip() for part in value.split(",") if part.strip()]
        case Sequence() if all(isinstance(part, str) for part in value):  # pyright: ignore[reportUnknownVariableType]
            return [str(part) for part in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case _:
            raise ConfigError(f"{name} is {value!r}, it must be HOST:PORT or a list of them", name="CONFIG")


def _unknown(key: str, known: list[str], kind: type[Exception] = ConfigError) -> Exception:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return kind(f"there is no setting {key!r}{hint}")
