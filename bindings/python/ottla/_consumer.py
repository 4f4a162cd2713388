"""The consumer's outside: what to read from where, the context manager, batches."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from . import _core
from ._settings import CONSUMER, ConsumerSettings, gather

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Literal, Self, TypeAlias, Unpack

    from ._core import Batch

    Start: TypeAlias = Literal["earliest", "latest"] | int | datetime

_log = logging.getLogger("ottla")


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Consumer(_core.Consumer):
    """Reads records of topics or of single partitions::

        with Consumer("packages", bootstrap_servers="127.0.0.1:9092", start="earliest") as consumer:
            for record in consumer:
                print(record.partition, record.offset, record.key)

    ``start`` is ``"earliest"``, ``"latest"``, an offset, or a datetime (the first record of that time or later).
    There are no consumer groups yet: positions live in this object alone. Iteration goes on for ever; with
    ``idle_timeout`` it ends when no record came for that many seconds.

    Settings are keywords (see :class:`ottla.ConsumerSettings`) or a dictionary ``config`` with Kafka's names. The
    topics are looked up here and now: one that does not exist raises ``UnknownTopicOrPartitionError``.
    """

    def __new__(
        cls,
        topics: str | TopicPartition | Iterable[str | TopicPartition] = (),
        *,
        bootstrap_servers: str | Sequence[str] | None = None,
        start: Start = "earliest",
        idle_timeout: float | None = None,
        config: Mapping[str, object] | None = None,
        **settings: Unpack[ConsumerSettings],
    ) -> Self:
        _core._set_log_level(_log.getEffectiveLevel())
        consumer = super().__new__(cls, gather(CONSUMER, bootstrap_servers, config, settings), idle_timeout)
        try:
            consumer.assign(topics, start)
        except BaseException:
            consumer.close()
            raise
        return consumer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
