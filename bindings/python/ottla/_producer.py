"""The producer's outside: settings by keyword, the context manager, and what happens to one that was not closed."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
import weakref
from typing import TYPE_CHECKING

from . import _core
from ._settings import PRODUCER, ProducerSettings, gather
from .errors import ForkError, KafkaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self, Unpack

_log = logging.getLogger("ottla")
_open: weakref.WeakSet[Producer] = weakref.WeakSet()

_AFTER_ERROR_S = 5.0
"""How long leaving a ``with`` block by an exception waits for records already sent."""
_AT_EXIT_S = 10.0
_FORGOTTEN_S = 1.0


class Producer(_core.Producer):
    """Sends records::

        with Producer(bootstrap_servers="127.0.0.1:9092") as producer:
            producer.send("packages", b"Section: shells", key=b"zsh")

    Idempotent and acknowledged by the durable log unless told otherwise: an acknowledged record survives a power cut,
    and retries neither double nor reorder records. One producer serves any number of threads.

    Settings are keywords (see :class:`ottla.ProducerSettings`) or a dictionary ``config`` with Kafka's names
    (``{"linger.ms": 20}``). Leaving the ``with`` block waits for everything sent and raises if a record failed unseen.
    """

    def __new__(
        cls,
        bootstrap_servers: str | Sequence[str] | None = None,
        *,
        config: Mapping[str, object] | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> Self:
        _core._set_log_level(_log.getEffectiveLevel())
        producer = super().__new__(cls, gather(PRODUCER, bootstrap_servers, config, settings), None)
        _open.add(producer)
        return producer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self.close(timeout=_AFTER_ERROR_S)
        except KafkaError as failure:
            # The exception under way tells the story; this is a part of it.
            _log.warning("while closing the producer: %s", failure)

    def close(self, timeout: float | None = None) -> None:
        _open.discard(self)
        super().close(timeout)

    def __del__(self) -> None:
        try:
            if self.closed or not self.buffered_bytes:
                return
        except ForkError:
            return  # a forked child's copy
        warnings.warn(f"{self!r} was never closed", ResourceWarning, stacklevel=2, source=self)
        super().close(_FORGOTTEN_S)


def close_at_exit() -> None:
    """A program that ends without closing still delivers what it sent, or says on stderr what it lost and why."""
    patience_s = _AT_EXIT_S
    for producer in list(_open):
        try:
            producer.close(timeout=patience_s)
        except ForkError:
            pass  # a forked child's copy: the parent delivers
        except KeyboardInterrupt:
            patience_s = 0.0
            _say(f"interrupted at exit; {producer.given_up} records were not delivered")
        except KafkaError as failure:
            _say(f"at exit: {failure}")


def _say(words: str) -> None:
    """Lost records belong on stderr, with any setting of logging."""
    with contextlib.suppress(OSError, ValueError):
        print(f"ottla: {words}", file=sys.stderr, flush=True)
