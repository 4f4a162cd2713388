"""The core's log lines come through `logging`."""

from __future__ import annotations

import logging
import socket
import time

import pytest

from ottla import Producer


def unreachable(level: int, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    with socket.socket() as unused, caplog.at_level(level, logger="ottla"):
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with Producer(bootstrap_servers=address, delivery_timeout_ms=200) as producer, pytest.raises(TimeoutError):
            producer.send("t", b"v").result(30)
        deadline = time.monotonic() + 10
        while not caplog.records and level < logging.ERROR and time.monotonic() < deadline:
            time.sleep(0.01)
        return [record for record in caplog.records if address in record.getMessage()]


def test_warnings_come_through_loggers_named_ottla(caplog: pytest.LogCaptureFixture) -> None:
    records = unreachable(logging.WARNING, caplog)
    assert records
    assert all(record.name.startswith("ottla.") for record in records)
    assert {record.levelno for record in records} == {logging.WARNING}


def test_a_level_above_keeps_them_out(caplog: pytest.LogCaptureFixture) -> None:
    assert unreachable(logging.ERROR, caplog) == []
