"""The consumer's outside: what to read from where, the context manager, batches."""

from __future__ import annotations

import logging
from re import Pattern
from typing import TYPE_CHECKING, NamedTuple

from . import _core
from ._settings import CONSUMER, GROUP, GroupSettings, gather
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Literal, Self, TypeAlias, Unpack

    from ._core import Batch

    Start: TypeAlias = Literal["earliest", "latest"] | int | datetime
    _OnPartitions: TypeAlias = Callable[[list["TopicPartition"]], object]

_log = logging.getLogger("ottla")


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Consumer(_core.Consumer):
    """Reads records, on its own or as a member of a group.

    As a member of a group, which shares the partitions out among its members and remembers how far they have read::

        with Consumer("packages", bootstrap_servers="127.0.0.1:9092", group_id="indexers") as consumer:
            for record in consumer:
                index(record)

    A record is done with when the next one is asked for, or when the block ends without an exception; from then on it
    counts as read. With ``auto_commit=False`` call :meth:`commit`. Topics can be a regular expression,
    ``re.compile("packages-.*")``. ``on_assign``, ``on_revoke`` and ``on_lost`` are called with the partitions that come
    and go, on the thread that polls and while it polls: after ``on_revoke`` they go to another member, so that is the
    time to finish with them and to commit; with ``on_lost`` they are gone already.

    On its own, without ``group_id``, it reads whole topics or single partitions::

        with Consumer("packages", bootstrap_servers="127.0.0.1:9092", start="earliest") as consumer:
            for record in consumer:
                print(record.partition, record.offset, record.key)

    ``start`` is ``"earliest"``, ``"latest"``, an offset, or a datetime (the first record of that time or later). In a
    group it counts for partitions of which nothing is committed; where ``offset_reset`` is set, that does. Iteration
    goes on for ever; with ``idle_timeout`` it ends when no record came for that many seconds.

    Settings are keywords (see :class:`ottla.ConsumerSettings`, with a group :class:`ottla.GroupSettings`) or a
    dictionary ``config`` with Kafka's names. Without a group the topics are looked up here and now: one that does not
    exist raises ``UnknownTopicOrPartitionError``.
    """

    _group_id: str | None
    _auto_commit: bool
    _on_revoke: _OnPartitions | None

    def __new__(
        cls,
        topics: str | Pattern[str] | TopicPartition | Iterable[str | TopicPartition] = (),
        *,
        bootstrap_servers: str | Sequence[str] | None = None,
        group_id: str | None = None,
        start: Start = "earliest",
        idle_timeout: float | None = None,
        on_assign: _OnPartitions | None = None,
        on_revoke: _OnPartitions | None = None,
        on_lost: _OnPartitions | None = None,
        config: Mapping[str, object] | None = None,
        **settings: Unpack[GroupSettings],
    ) -> Self:
        _core._set_log_level(_log.getEffectiveLevel())
        named = {**settings, "group_id": group_id} if group_id is not None else settings
        found = gather(GROUP, bootstrap_servers, config, named)
        if "group_id" not in found:
            alone = [name for name in found if name in GROUP and name not in CONSUMER]
            if alone or on_assign or on_revoke or on_lost:
                raise ConfigError(f"{alone[0] if alone else 'a listener'} needs a group_id", name="CONFIG")
        elif "offset_reset" not in found:
            found["start"] = start
        consumer = super().__new__(cls, found, idle_timeout)
        consumer._group_id = str(found["group_id"]) if "group_id" in found else None
        consumer._auto_commit = bool(found.get("auto_commit", True))
        try:
            if consumer._group_id is None:
                if isinstance(topics, Pattern):
                    raise ConfigError("a pattern needs a group_id", name="CONFIG")
                consumer.assign(topics, start)
            else:
                consumer._begin(topics, start, on_assign, on_revoke, on_lost)
        except BaseException:
            _core.Consumer.close(consumer)
            raise
        return consumer

    def _begin(
        self,
        topics: str | Pattern[str] | TopicPartition | Iterable[str | TopicPartition],
        start: Start,
        on_assign: _OnPartitions | None,
        on_revoke: _OnPartitions | None,
        on_lost: _OnPartitions | None,
    ) -> None:
        if isinstance(topics, str | Pattern):
            self.subscribe(topics, on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)
            return
        places = [topics] if isinstance(topics, TopicPartition) else list(topics)
        names = [place for place in places if isinstance(place, str)]
        if names and len(names) < len(places):
            raise ConfigError("topics to subscribe to and partitions to assign do not go together", name="CONFIG")
        if names:
            self.subscribe(names, on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)
        elif places:
            self.assign(places, start)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(30.0, failed=kind is not None)

    def close(self, timeout: float | None = 30.0) -> None:
        """Stop fetching; iteration ends, also in other threads. A member commits what it was handed (``auto_commit``)
        and leaves its group, within ``timeout`` seconds; ``on_revoke`` is called with its partitions first.

        Leaving a ``with`` block by an exception does the same, but what was handed out last is not committed.
        """
        self._end(timeout, failed=False)

    def _end(self, timeout: float | None, *, failed: bool) -> None:
        if self.closed:
            return
        if self._group_id is None:
            super().close()
            return
        try:
            self._give_up()
        finally:
            self._leave(timeout, failed)

    def _give_up(self) -> None:
        """The listener hears of what this member gives up of its own will."""
        on_revoke = getattr(self, "_on_revoke", None)
        owned = self.assignment()
        if on_revoke is not None and owned:
            on_revoke(owned)

    def subscribe(
        self,
        topics: str | Pattern[str] | Iterable[str],
        *,
        on_assign: _OnPartitions | None = None,
        on_revoke: _OnPartitions | None = None,
        on_lost: _OnPartitions | None = None,
    ) -> None:
        """Read these topics as a member of the group, in place of those before. A pattern stands for all topics, now
        and later, whose whole name matches. Returns at once: partitions come while you poll."""
        self._on_revoke = on_revoke
        listeners = {"assigned": on_assign, "revoked": on_revoke, "lost": on_lost}

        def tell(what: str, places: list[tuple[str, int]]) -> None:
            listener = listeners[what]
            if listener is not None:
                listener([TopicPartition(*place) for place in places])

        self._listen(tell)
        if isinstance(topics, Pattern):
            self._subscribe_pattern(topics.pattern)
        else:
            self._subscribe([topics] if isinstance(topics, str) else list(topics))

    def unsubscribe(self, timeout: float | None = 30.0) -> None:
        """Leave the group and read nothing. What was handed out is committed first (``auto_commit``)."""
        self._give_up()
        self._unsubscribe(timeout)

    def commit(
        self, offsets: Mapping[TopicPartition, int] | None = None, *, timeout: float | None = 30.0
    ) -> None:
        """Commit what was handed out, or these offsets, each that of the next record to read. Returns when the broker
        has them, durably with an Ottla broker.

        ``BrokerError`` with the name ``ILLEGAL_GENERATION``, ``UNKNOWN_MEMBER_ID`` or ``STALE_MEMBER_EPOCH`` says that
        the partitions may belong to another member by now: what was not committed is read again there.
        """
        if offsets is None:
            self._commit(timeout)
        else:
            self._commit_offsets([(*place, offset) for place, offset in offsets.items()], timeout)

    def committed(
        self, partitions: Iterable[TopicPartition] | None = None, *, timeout: float | None = 30.0
    ) -> dict[TopicPartition, int]:
        """What the group has committed of these partitions, or of those being read; none of those it has not."""
        places = [(topic, partition) for topic, partition in (self.assignment() if partitions is None else partitions)]
        return {TopicPartition(topic, part): offset for topic, part, offset in self._committed(places, timeout)}

    def batches(self, max_records: int = 500) -> Iterator[Batch]:
        """Iterate in batches, each the consecutive records of one partition; ends where iteration by record ends."""
        while (batch := self._next_batch(max_records)) is not None:
            yield batch

    def assign(self, topics: str | TopicPartition | Iterable[str | TopicPartition], start: Start = "earliest") -> None:
        """Read these, too. What is read already moves to the new start."""
        partitions: list[tuple[str, int]] = []
        for item in [topics] if isinstance(topics, str | TopicPartition) else topics:
            if isinstance(item, str):
                self._assign_topic(item, start)
            else:
                topic, partition = item
                partitions.append((topic, partition))
        if partitions:
            self._assign(partitions, start)

    def unassign(self, partition: TopicPartition) -> None:
        """Read this partition no more, and drop what was fetched of it."""
        self._unassign(*partition)

    def assignment(self) -> list[TopicPartition]:
        """The partitions being read."""
        return [TopicPartition(*part) for part in self._assignment()]

    def seek(self, partition: TopicPartition, start: Start) -> None:
        """Go on reading elsewhere. Also the way to go on after an error of this partition."""
        self._seek(*partition, start)

    def position(self, partition: TopicPartition, timeout: float | None = 10.0) -> int:
        """The offset of the next record of this partition."""
        return self._position(*partition, timeout)

    def beginning_offsets(self, timeout: float | None = 10.0) -> dict[TopicPartition, int]:
        """The first offset of every partition being read."""
        return self.offsets_at("earliest", timeout)

    def end_offsets(self, timeout: float | None = 10.0) -> dict[TopicPartition, int]:
        """The offset behind the last readable record of every partition being read."""
        return self.offsets_at("latest", timeout)

    def offsets_at(self, start: Start, timeout: float | None = 10.0) -> dict[TopicPartition, int]:
        """The offset that a start stands for; for a datetime that no record reaches, the end."""
        assigned = self.assignment()
        found = {topic: self._offsets(topic, start, timeout) for topic in {part.topic for part in assigned}}
        return {part: found[part.topic][part.partition] for part in assigned}

    def high_watermark(self, partition: TopicPartition) -> int | None:
        """The end of the partition as of the last fetch, without asking; None before the first."""
        return self._high_watermark(*partition)

    def pause(self, *partitions: TopicPartition) -> None:
        """Stop fetching these without forgetting where they stand. What was fetched is still polled."""
        for part in partitions:
            self._pause(*part, True)

    def resume(self, *partitions: TopicPartition) -> None:
        """Fetch paused partitions again."""
        for part in partitions:
            self._pause(*part, False)
