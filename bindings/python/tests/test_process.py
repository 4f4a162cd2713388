"""Signals, forks, the end of the program: what a client does in a process that does not go straight."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from conftest import python_command

Run = Callable[..., "subprocess.CompletedProcess[str]"]

WAITS = {
    "poll": "consumer.poll(timeout=None)",
    "iteration": "next(consumer)",
    "batches": "next(consumer.batches())",
    "flush": "producer.flush()",
    "result": "producer.send('t', b'v').result()",
    "close": "producer.close()",
    "admin": "Admin(bootstrap_servers=SILENT).list_topics()",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_every_wait(bootstrap: str, topic: str, wait: str) -> None:
    program = f"""
import socket
from ottla import *
silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
SILENT = "127.0.0.1:%d" % silent.getsockname()[1]
with Producer(bootstrap_servers=BOOTSTRAP) as sender:
    sender.send(TOPIC, b"v")
producer = Producer(bootstrap_servers=SILENT)
delivery = producer.send("t", b"v")
consumer = Consumer(TOPIC, bootstrap_servers=BOOTSTRAP, start="latest")
print("waiting", flush=True)
try:
    {WAITS[wait]}
except KeyboardInterrupt:
    print("interrupted", flush=True)
try:
    producer.close(timeout=0)
except KafkaError:
    pass
"""
    child = subprocess.Popen(
        python_command(program, bootstrap, TOPIC=topic), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        time.sleep(0.3)  # the child is between its line and its wait; a signal in between would end it all the same
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    finally:
        child.kill()
        child.wait()
    assert (out, child.returncode) == ("interrupted\n", 0), err


def test_a_forked_child_gets_an_error_and_can_start_anew(run_python: Run, topic: str) -> None:
    ended = run_python(
        """
import os, sys, warnings
from ottla import *
from ottla.errors import ForkError
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of fork in a process with threads
producer = Producer(bootstrap_servers=BOOTSTRAP)
delivery = producer.send(TOPIC, b"parent", partition=0)
delivery.result(30)
many = producer.send_many(TOPIC, [b"parent"], partition=0)
consumer = Consumer(TOPIC, bootstrap_servers=BOOTSTRAP)
admin = Admin(bootstrap_servers=BOOTSTRAP)
child = os.fork()
if child == 0:
    calls = [
        lambda: producer.send(TOPIC, b"v"), lambda: producer.flush(), lambda: producer.close(),
        lambda: delivery.result(), lambda: delivery.done(), lambda: many.result(),
        lambda: consumer.poll(), lambda: next(consumer), lambda: consumer.seek(TopicPartition(TOPIC, 0), 0),
        lambda: consumer.close(), lambda: admin.list_topics(),
    ]
    for call in calls:
        try:
            call()
        except ForkError as error:
            assert error.fatal and "make a new one" in str(error)
        else:
            print("no error", flush=True)
            os._exit(1)
    repr(delivery), repr(producer)
    del producer, consumer, admin, delivery, many
    told = []
    with Producer(bootstrap_servers=BOOTSTRAP) as own:
        own.send(TOPIC, b"child", partition=0, on_delivery=lambda error, placement: told.append(placement)).result(30)
    assert told
    with Consumer(TOPIC, bootstrap_servers=BOOTSTRAP) as own:
        print(len(own.poll(timeout=20)) > 0, flush=True)
    sys.exit(7)
_, status = os.waitpid(child, 0)
many.result(30)
producer.send(TOPIC, b"parent again", partition=0).result(30)
print(os.waitstatus_to_exitcode(status), len(consumer.poll(timeout=20)) > 0)
producer.close()
""",
        TOPIC=topic,
    )
    assert ended.stdout.split() == ["True", "7", "True"], ended.stderr
    assert ended.returncode == 0, ended.stderr


def test_a_multiprocessing_pool_can_use_clients_of_its_own(run_python: Run, topic: str) -> None:
    ended = run_python(
        """
import multiprocessing, warnings
from ottla import Producer
warnings.simplefilter("ignore", DeprecationWarning)
def work(number):
    with Producer(bootstrap_servers=BOOTSTRAP) as producer:
        return producer.send(TOPIC, b"%d" % number, partition=0).result(30).offset
if __name__ == "__main__":
    first = work(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(sorted([first] + pool.map(work, range(1, 6))))
""",
        TOPIC=topic,
    )
    assert ended.stdout == "[0, 1, 2, 3, 4, 5]\n", ended.stderr


def test_a_program_that_forgets_to_close_still_delivers(run_python: Run, topic: str) -> None:
    ended = run_python(
        """
from ottla import Producer
producer = Producer(bootstrap_servers=BOOTSTRAP, linger_ms=60_000)
producer.send(TOPIC, b"v", partition=0, on_delivery=lambda error, placement: print(error, placement.offset))
""",
        TOPIC=topic,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("None 0\n", "", 0)


def test_a_producer_that_is_dropped_unclosed_warns_and_delivers(run_python: Run, topic: str) -> None:
    ended = run_python(
        """
from ottla import Consumer, Producer
def forget():
    Producer(bootstrap_servers=BOOTSTRAP, linger_ms=60_000).send(TOPIC, b"v", partition=0)
forget()
with Consumer(TOPIC, bootstrap_servers=BOOTSTRAP) as consumer:
    print([record.value for record in consumer.poll(timeout=20)])
""",
        TOPIC=topic,
    )
    assert ended.stdout == "[b'v']\n", ended.stderr
    assert "ResourceWarning" in ended.stderr


def test_exit_in_the_middle_of_everything_is_quiet(run_python: Run, topic: str) -> None:
    ended = run_python(
        """
import logging, threading
logging.basicConfig(level=logging.CRITICAL)
from ottla import Consumer, Producer
producer = Producer(bootstrap_servers=BOOTSTRAP)
producer.send(TOPIC, b"v").result(30)
def poll(consumer):
    while True:
        consumer.poll(timeout=None)
def send():
    while True:
        producer.send(TOPIC, b"v", on_delivery=lambda *_: None)
try:
    for target, arguments in ((poll, (Consumer(TOPIC, bootstrap_servers=BOOTSTRAP),)), (send, ())):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    producer.send(TOPIC, b"v").result(30)
finally:
    print("end", flush=True)
""",
        TOPIC=topic,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("end\n", "", 0)


ADDRESS = """
import socket
with socket.socket() as unused:
    unused.bind(("127.0.0.1", 0))
    ADDRESS = "127.0.0.1:%d" % unused.getsockname()[1]
"""


def test_a_program_that_reaches_no_broker_says_what_it_lost_and_why(run_python: Run) -> None:
    ended = run_python(
        ADDRESS
        + """
import logging, ottla._producer
ottla._producer._AT_EXIT_S = 0.5
logging.disable(logging.CRITICAL)
producer = ottla.Producer(bootstrap_servers=ADDRESS)
for _ in range(3):
    producer.send("t", b"v")
print(ADDRESS)
"""
    )
    assert "ottla: at exit: closed with 3 records not yet acknowledged" in ended.stderr
    assert f"cannot reach {ended.stdout.strip()}: connection refused (" in ended.stderr
    assert "attempts)" in ended.stderr


def test_connection_trouble_is_told_once_while_it_happens(run_python: Run) -> None:
    ended = run_python(
        ADDRESS
        + """
import ottla
producer = ottla.Producer(bootstrap_servers=ADDRESS, delivery_timeout_ms=1500)
delivery = producer.send("t", b"v")
try:
    delivery.result(timeout=0.7)
except ottla.errors.KafkaTimeoutError as error:
    print("result:", error)
try:
    producer.flush(timeout=0.1)
except ottla.errors.KafkaTimeoutError as error:
    print("flush:", error)
try:
    delivery.result()
except ottla.errors.DeliveryTimeoutError as error:
    print("late:", error)
producer.close()
"""
    )
    assert ended.stderr.count("cannot reach") == 1, ended.stderr
    lines = ended.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["result", "flush", "late"], ended.stderr
    assert all("connection refused (" in line and "attempts)" in line for line in lines), lines


def test_ctrl_c_in_flush_says_what_was_lost(bootstrap: str) -> None:
    program = (
        ADDRESS
        + """
import ottla._producer
ottla._producer._AT_EXIT_S = 0.5
producer = ottla.Producer(bootstrap_servers=ADDRESS)
producer.send("t", b"v")
print("waiting", flush=True)
producer.flush()
"""
    )
    child = subprocess.Popen(
        python_command(program, bootstrap), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        time.sleep(0.3)  # as above
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
    finally:
        child.kill()
        child.wait()
    assert "KeyboardInterrupt" in err
    assert "ottla: at exit: closed with a record not yet acknowledged" in err
    assert child.returncode == -signal.SIGINT or child.returncode == 130


def test_importing_starts_no_thread(run_python: Run) -> None:
    ended = run_python("import os, ottla; print(len(os.listdir('/proc/self/task')))")
    assert ended.stdout == "1\n"


def test_a_hundred_thousand_records_leave_no_memory_behind(run_python: Run, topic: str) -> None:
    ended = run_python(
        """
import gc
from ottla import Consumer, Producer

def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def round(topic, count):
    with Producer(bootstrap_servers=BOOTSTRAP) as producer:
        for number in range(0, count, 1000):
            producer.send_many(topic, [b"x" * 100] * 900)
            for _ in range(100):
                producer.send(topic, b"x" * 100, key=b"k", headers={"h": b"1"}, on_delivery=lambda *_: None)
        producer.flush(60)
    seen = 0
    with Consumer(topic, bootstrap_servers=BOOTSTRAP) as consumer:
        while seen < count:
            for record in consumer.poll(1000, timeout=20):
                record.value, record.key, record.headers, memoryview(record)
                seen += 1

round(TOPIC + "-warm", 20_000)
before = resident()
for turn in range(5):
    round(f"{TOPIC}-{turn}", 20_000)
print((resident() - before) >> 20)
""",
        TOPIC=topic,
    )
    assert int(ended.stdout or 999) < 24, ended.stderr
