"""A real broker for the tests: a process of its own on a free port, its data in a temporary directory."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_READY_S = 30


class Broker:
    """A running broker."""

    def __init__(self, *settings: str) -> None:
        binary = os.environ.get("OTTLA_BIN", str(ROOT / "target/release/ottla"))
        if not Path(binary).exists():
            pytest.skip(f"there is no broker at {binary}: cargo build --release, or set OTTLA_BIN")
        self.data_dir = tempfile.mkdtemp(prefix="ottla-python-")
        command = [binary, "serve", "--data-dir", self.data_dir, "--listen", "127.0.0.1:0"]
        for setting in settings:
            command += ["--set", setting]
        self.log: list[str] = []
        self._ready = threading.Event()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.bootstrap = ""
        if self._ready.wait(_READY_S):
            words = next(line for line in self.log if "listening on " in line).split("listening on ")[1]
            self.bootstrap = words.split()[0]
        else:
            self.stop()
            pytest.fail("the broker did not start:\n" + "".join(self.log))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if "listening on " in line:
                self._ready.set()

    def stop(self) -> None:
        """End it by its id, wait, and remove its data."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def pause(self) -> None:
        """It keeps its connections and answers nothing until ``resume``."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One broker for all tests that leave it as it is."""
    running = Broker()
    yield running
    running.stop()


@pytest.fixture
def start_broker() -> Iterator[Callable[..., Broker]]:
    """Brokers of a test's own, with settings (``"auto.create.topics.enable=false"``)."""
    started: list[Broker] = []

    def start(*settings: str) -> Broker:
        started.append(Broker(*settings))
        return started[-1]

    yield start
    for running in started:
        running.resume()
        running.stop()


@pytest.fixture(scope="session")
def bootstrap(broker: Broker) -> str:
    return broker.bootstrap


_numbers = itertools.count()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return f"{name[:150]}-{next(_numbers)}"


@pytest.fixture
def run_python(bootstrap: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in an interpreter of its own; ``BOOTSTRAP`` and what is given as keywords are its globals."""

    def run(program: str, timeout: float = 60, **names: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            python_command(program, bootstrap, **names), capture_output=True, text=True, timeout=timeout, check=False
        )

    return run


def python_command(program: str, bootstrap: str, **names: object) -> list[str]:
    import sys

    given = "".join(f"{name} = {value!r}\n" for name, value in {"BOOTSTRAP": bootstrap, **names}.items())
    return [sys.executable, "-W", "default", "-c", given + program]
