"""What can go wrong. Every error that this package raises on purpose is a :class:`KafkaError`.

The classes say what happened, ``code`` and ``name`` say it in Kafka's words, ``retriable`` and ``fatal`` say what can
be done::

    KafkaError
    ├── ConfigError (ValueError)               a setting that cannot work
    ├── KafkaConnectionError (ConnectionError) no broker can be reached, or it does not speak Kafka
    ├── KafkaTimeoutError (TimeoutError)       the wait is over; what was waited for goes on
    ├── DeliveryError                          records are not known to be stored
    │   └── DeliveryTimeoutError (TimeoutError)
    ├── BufferFullError                        the broker takes records more slowly than they are sent
    ├── ClientClosedError                      used after close()
    ├── ForkError (RuntimeError)               used in a forked child of the process that made it
    └── BrokerError                            Kafka has a code for it
        ├── UnknownTopicOrPartitionError   3
        ├── OffsetOutOfRangeError          1
        ├── CorruptMessageError            2
        ├── MessageTooLargeError           10, 18
        ├── InvalidTopicError              17
        ├── TopicAlreadyExistsError        36
        ├── InvalidConfigError             40
        ├── InvalidRecordError             87
        └── NotAuthorizedError             29, 30, 31, 53
"""

from __future__ import annotations

__all__ = [
    "BrokerError",
    "BufferFullError",
    "ClientClosedError",
    "ConfigError",
    "CorruptMessageError",
    "DeliveryError",
    "DeliveryTimeoutError",
    "ForkError",
    "InvalidConfigError",
    "InvalidRecordError",
    "InvalidTopicError",
    "KafkaConnectionError",
    "KafkaError",
    "KafkaTimeoutError",
    "MessageTooLargeError",
    "NotAuthorizedError",
    "OffsetOutOfRangeError",
    "TopicAlreadyExistsError",
    "UnknownTopicOrPartitionError",
]


class KafkaError(Exception):
    """The base of all errors of this package."""

    code: int | None
    """Kafka's error code, or None where Kafka has none for it."""
    name: str
    """Kafka's name of the code (``"MESSAGE_TOO_LARGE"``), or a word of our own in that style (``"BUFFER_FULL"``)."""
    retriable: bool
    """Whether the same call can succeed later."""
    fatal: bool
    """Whether the object that raised it is of no more use: make a new one."""
    topic: str | None
    """The topic concerned, if there is one."""
    partition: int | None
    """The partition concerned, if there is one."""
    offset: int | None
    """The offset concerned, if there is one. After damage: ``seek`` past it to go on."""
    in_doubt: bool
    """The record had been sent and its answer is missing: it may or may not be stored."""
    record_errors: list[tuple[int, str]]
    """The records for which the broker refused a batch: their index in it, and the broker's words about each."""

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        name: str = "",
        retriable: bool = False,
        fatal: bool = False,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
        in_doubt: bool = False,
        record_errors: list[tuple[int, str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.name = name
        self.retriable = retriable
        self.fatal = fatal
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.in_doubt = in_doubt
        self.record_errors = record_errors or []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r}, code={self.code}, name={self.name!r})"


class ConfigError(KafkaError, ValueError):
    """A setting that cannot work."""


class KafkaConnectionError(KafkaError, ConnectionError):
    """No broker can be reached, or what answers does not speak Kafka."""


class KafkaTimeoutError(KafkaError, TimeoutError):
    """The time given to a call is over. What it waited for goes on."""


class DeliveryError(KafkaError):
    """Records are not known to be stored. ``flush`` and ``close`` raise it for failures not seen before."""


class DeliveryTimeoutError(DeliveryError, TimeoutError):
    """A record was not acknowledged within ``delivery_timeout_ms``."""


class BufferFullError(KafkaError):
    """``buffer_bytes`` are waiting for acknowledgement and did not go down in time. Nothing was taken over."""


class ClientClosedError(KafkaError):
    """The producer, consumer or admin is closed."""


class PolledTooLateError(KafkaError):
    """The program did not poll within ``poll_interval_ms_max``: the partitions went to other members of the group."""


class ForkError(KafkaError, RuntimeError):
    """A client was used in a forked child. Its connections and threads stayed in the parent: make a new one here."""


class BrokerError(KafkaError):
    """An error that Kafka has a code for."""


class UnknownTopicOrPartitionError(BrokerError):
    """There is no such topic, or it has no such partition."""


class OffsetOutOfRangeError(BrokerError):
    """The log does not hold that offset: seek, or choose an ``offset_reset``."""


class CorruptMessageError(BrokerError):
    """Bytes that are no intact record batch. The position stays before it: seek past it to go on."""


class MessageTooLargeError(BrokerError):
    """A record or a batch is larger than the producer, the consumer or the topic allows."""


class InvalidTopicError(BrokerError):
    """No topic can have that name."""


class TopicAlreadyExistsError(BrokerError):
    """There is a topic of that name."""


class InvalidConfigError(BrokerError):
    """The broker does not take that setting or value."""


class InvalidRecordError(BrokerError):
    """The broker refused the record, or another one of its batch."""


class NotAuthorizedError(BrokerError):
    """The broker does not let this client do that."""


_BY_KIND: dict[str, type[KafkaError]] = {
    "late": PolledTooLateError,
    "config": ConfigError,
    "connection": KafkaConnectionError,
    "timeout": KafkaTimeoutError,
    "delivery": DeliveryError,
    "delivery_timeout": DeliveryTimeoutError,
    "buffer_full": BufferFullError,
    "closed": ClientClosedError,
    "fork": ForkError,
    "broker": BrokerError,
}

_BY_CODE: dict[int, type[KafkaError]] = {
    1: OffsetOutOfRangeError,
    2: CorruptMessageError,
    3: UnknownTopicOrPartitionError,
    10: MessageTooLargeError,
    17: InvalidTopicError,
    18: MessageTooLargeError,
    29: NotAuthorizedError,
    30: NotAuthorizedError,
    31: NotAuthorizedError,
    36: TopicAlreadyExistsError,
    40: InvalidConfigError,
    53: NotAuthorizedError,
    87: InvalidRecordError,
}


def from_core(
    kind: str,
    message: str,
    code: int | None,
    name: str,
    retriable: bool,
    fatal: bool,
    topic: str | None,
    partition: int | None,
    offset: int | None,
    in_doubt: bool,
    record_errors: list[tuple[int, str]],
) -> KafkaError:
    """Called by the compiled part: a code decides the class, without one the kind of failure does."""
    chosen = _BY_KIND[kind] if code is None else _BY_CODE.get(code, BrokerError)
    return chosen(
        message,
        code=code,
        name=name,
        retriable=retriable,
        fatal=fatal,
        topic=topic,
        partition=partition,
        offset=offset,
        in_doubt=in_doubt,
        record_errors=record_errors,
    )
