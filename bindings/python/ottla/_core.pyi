"""The compiled part, used through ``ottla``; what begins with an underscore is for this package alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, Self, TypeAlias, final

from ottla.errors import KafkaError

__version__: str
"""The version of this package."""

_Payload: TypeAlias = bytes | bytearray | memoryview
_Headers: TypeAlias = Iterable[tuple[str, _Payload | None]] | Mapping[str, _Payload | None]
_Callback: TypeAlias = Callable[[KafkaError | None, Placement | None], object]
_Start: TypeAlias = Literal["earliest", "latest"] | int | datetime
_Partition: TypeAlias = tuple[int, int | None, int, list[int], list[int], int | None, int | None]
_Version: TypeAlias = tuple[int, str, str, int, int, list[str], bool]
_Plugin: TypeAlias = tuple[str, int | None, int | None, list[_Version], list[str]]

@final
class Placement:
    """Where a record is stored."""

    def __new__(cls, topic: str, partition: int, offset: int | None, timestamp: int) -> Self: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int:
        """The partition that holds the record: the addressed one, or the one that the topic's partitioner chose."""
    @property
    def offset(self) -> int | None:
        """The offset there; None if the broker does not tell (``acks=0``)."""
    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970: the record's own, or the broker's if the topic stamps records itself."""
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class Delivery:
    """What became of one record. Dropping it does not take the record back."""

    def result(self, timeout: float | None = None) -> Placement:
        """Wait for the record to be stored; raise the error that kept it from being stored."""
    def exception(self, timeout: float | None = None) -> KafkaError | None:
        """Wait for the outcome; return the error, or None if the record is stored."""
    def done(self) -> bool:
        """Whether the outcome is known."""

@final
class Deliveries:
    """What became of the records of one ``send_many``, in order."""

    def result(self, timeout: float | None = None) -> list[Placement]:
        """Wait for all records to be stored; raise the first error, with a note that counts them."""
    def exceptions(self, timeout: float | None = None) -> list[KafkaError | None]:
        """Wait for all outcomes; return one error or None per record."""
    def done(self) -> bool:
        """Whether all outcomes are known."""
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Delivery]: ...
    def __getitem__(self, index: int, /) -> Delivery: ...

@final
class Record:
    """A record that was read.

    Fields are made when they are asked for: ``value``, ``key`` and ``headers`` copy each time, so keep what you use
    twice. ``memoryview(record)`` sees the value without a copy. A record keeps the batch alive that it came in.
    """

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970, -1 for none."""
    @property
    def timestamp_type(self) -> Literal["create", "append"]:
        """The origin of the timestamp: the producer, or the broker when it appended."""
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> list[tuple[str, bytes | None]]:
        """In order; names may repeat."""
    def header(self, name: str, default: bytes | None = None) -> bytes | None:
        """The value of the last header of that name, or ``default``."""
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Batch:
    """Consecutive records of one partition; its columns are the fastest way to their fields."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def timestamp_type(self) -> Literal["create", "append"]: ...
    def values(self) -> list[bytes | None]: ...
    def keys(self) -> list[bytes | None]: ...
    def offsets(self) -> list[int]: ...
    def timestamps(self) -> list[int]: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Record]: ...
    def __getitem__(self, index: int, /) -> Record: ...

class Producer:
    def __new__(
        cls,
        settings: dict[str, object],
        postbox: Callable[[list[tuple[Any, KafkaError | None, Placement | None]]], object] | None,
    ) -> Self: ...
    def send(
        self,
        topic: str,
        value: _Payload | None,
        *,
        key: _Payload | None = None,
        headers: _Headers | None = None,
        partition: int | None = None,
        timestamp: int | datetime | None = None,
        on_delivery: _Callback | None = None,
    ) -> Delivery:
        """Hand over a record and return at once; wait only while ``buffer_bytes`` are on their way.

        Without ``partition`` the key decides as in every Kafka client; without a key, batches take turns. On a topic
        with a partitioner the broker decides, and ``Delivery.result().partition`` tells. ``timestamp`` is a datetime
        or milliseconds since 1970; now, by default. ``on_delivery(error, placement)`` runs on a thread of this
        package; one of its arguments is None.

        A record that fails while the program holds no ``Delivery`` of it and it has no ``on_delivery`` is reported by
        the next ``flush`` or ``close``.
        """
    def send_many(
        self,
        topic: str,
        records: Iterable[_Payload | tuple[_Payload | None, _Payload | None] | None],
        *,
        partition: int | None = None,
        timestamp: int | datetime | None = None,
        on_delivery: _Callback | None = None,
    ) -> Deliveries:
        """Hand over many records, each a value or a ``(key, value)``: half the cost of as many calls of ``send``."""
    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything sent so far is settled and its callbacks have run.

        Raises :class:`~ottla.errors.KafkaTimeoutError` when the time is over (sending goes on), or the first error of
        records that failed unseen.
        """
    def close(self, timeout: float | None = None) -> None:
        """Take no more records, wait for those under way, give up what is left after ``timeout`` seconds.

        Raises what ``flush`` raises. Closing again does nothing.
        """
    @property
    def closed(self) -> bool: ...
    @property
    def given_up(self) -> int:
        """Records that ``close`` gave up."""
    @property
    def buffered_bytes(self) -> int:
        """Bytes sent and not yet settled."""
    def partition_count(self, topic: str, timeout: float | None = None) -> int | None:
        """How many partitions a topic has; None if there is no such topic."""
    def _wait_for_space(self, timeout: float) -> bool: ...

class Consumer:
    def __new__(cls, settings: dict[str, object], idle_timeout: float | None) -> Self: ...
    def poll(self, max_records: int = 500, timeout: float | None = 1.0) -> list[Record]:
        """Up to ``max_records`` records as soon as there are any; an empty list after ``timeout`` seconds.

        The fast path: one wait, then records that cost next to nothing until their fields are read. Records of one
        partition come in offset order. An error concerns one partition (which then waits for a ``seek``) or the
        connection (which is being mended): polling again goes on with the rest.
        """
    def _next_batch(self, max_records: int) -> Batch | None: ...
    def poll_batches(self, max_records: int = 500, timeout: float | None = 1.0) -> list[Batch]:
        """Like ``poll``, in batches: each the consecutive records of one partition."""
    def close(self) -> None:
        """Stop fetching. Iteration ends, also in other threads."""
    @property
    def closed(self) -> bool: ...
    @property
    def idle_timeout(self) -> float | None:
        """Iteration ends when no record came for this many seconds."""
    def __iter__(self) -> Iterator[Record]: ...
    def __next__(self) -> Record: ...
    def _assign_topic(self, topic: str, start: _Start, timeout: float | None = None) -> list[int]: ...
    def _assign(self, partitions: list[tuple[str, int]], start: _Start, timeout: float | None = None) -> None: ...
    def _unassign(self, topic: str, partition: int) -> None: ...
    def _assignment(self) -> list[tuple[str, int]]: ...
    def _seek(self, topic: str, partition: int, start: _Start) -> None: ...
    def _position(self, topic: str, partition: int, timeout: float | None = None) -> int: ...
    def _high_watermark(self, topic: str, partition: int) -> int | None: ...
    def _offsets(self, topic: str, start: _Start, timeout: float | None = None) -> dict[int, int]: ...
    def _pause(self, topic: str, partition: int, paused: bool) -> None: ...
    def _listen(self, listener: Callable[[str, list[tuple[str, int]]], None] | None) -> None: ...
    def _subscribe(self, topics: list[str]) -> None: ...
    def _subscribe_pattern(self, expression: str) -> None: ...
    def _unsubscribe(self, timeout: float | None = None) -> None: ...
    def _commit(self, timeout: float | None = None) -> None: ...
    def _commit_offsets(self, offsets: list[tuple[str, int, int]], timeout: float | None = None) -> None: ...
    def _committed(
        self, partitions: list[tuple[str, int]], timeout: float | None = None
    ) -> list[tuple[str, int, int]]: ...
    def _uncommitted(self) -> list[tuple[str, int, int]]: ...
    def _poll_at_once(self, max_records: int) -> list[Record]: ...
    def _leave(self, timeout: float | None, failed: bool) -> None: ...

class Admin:
    def __new__(cls, settings: dict[str, object]) -> Self: ...
    def _create_topic(
        self,
        name: str,
        partitions: int | None,
        replicas: int | None,
        configs: list[tuple[str, str]],
        timeout: float | None = None,
    ) -> None: ...
    def _list_topics(self, timeout: float | None = None) -> list[tuple[str, int, bool]]: ...
    def _describe_topic(self, name: str, timeout: float | None = None) -> tuple[bool, list[_Partition]]: ...
    def _delete_topic(self, name: str, timeout: float | None = None) -> None: ...
    def _describe_config(
        self, name: str, timeout: float | None = None
    ) -> list[tuple[str, str | None, str, bool, str | None]]: ...
    def _set_config(self, name: str, changes: list[tuple[str, str | None]], timeout: float | None = None) -> None: ...
    def _describe_cluster(self, timeout: float | None = None) -> tuple[str | None, int, list[tuple[int, str]]]: ...
    def _push_plugin(self, name: str, component: bytes, timeout: float | None = None) -> tuple[int, str]: ...
    def _list_plugins(self, timeout: float | None = None) -> list[_Plugin]: ...
    def _describe_plugin(self, name: str, timeout: float | None = None) -> _Plugin: ...
    def _activate_plugin(self, name: str, version: int, timeout: float | None = None) -> int: ...
    def _roll_back_plugin(self, name: str, to: int | None, timeout: float | None = None) -> int: ...
    def _remove_plugin(self, name: str, version: int | None, timeout: float | None = None) -> None: ...

def _forked() -> None: ...
def _end_events() -> None: ...
def _begin_exit() -> None: ...
def _set_log_level(level: int) -> None: ...
