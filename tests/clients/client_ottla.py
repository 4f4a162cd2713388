"""The wheel of this project."""

import json
import sys
import threading
import time

from ottla import Consumer, KafkaError, Producer

import record_file


def produce(o):
    records = list(record_file.read(o["in"]))
    reports = record_file.Reports(len(records))
    with Producer(
        bootstrap_servers=o["bootstrap"], compression=o["codec"], idempotent=o["idempotent"], linger_ms=o["linger_ms"]
    ) as producer:
        sent = [
            producer.send(o["topic"], value, key=key, partition=None if partition < 0 else partition)
            for partition, key, value in records
        ]
        for index, delivery in enumerate(sent):
            try:
                placement = delivery.result(timeout=60)
                reports.delivered(index, placement.partition, placement.offset)
            except KafkaError as error:
                reports.failed(index, repr(error))
    reports.save(o["out"])


def consume(o):
    deadline = time.monotonic() + 60
    with Consumer(o["topic"], bootstrap_servers=o["bootstrap"], start="earliest") as consumer:
        ends = consumer.end_offsets()
        left = {partition.partition: end for partition, end in ends.items() if end > 0}
        with record_file.Writer(o["out"]) as out:
            while left:
                assert time.monotonic() < deadline, f"not everything came within 60 s: {left}"
                for record in consumer.poll(5000, timeout=1.0):
                    out.write(record.partition, record.offset, record.key, record.value)
                    if record.offset + 1 >= left.get(record.partition, 1 << 62):
                        del left[record.partition]


def produce_until_told(o):
    """Numbers from `name` 0 upwards, an `ack` line for each acknowledged one, until standard input ends."""
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
    room = threading.Semaphore(100)
    printing = threading.Lock()

    def report(number):
        def delivered(error, placement):
            with printing:
                print(f"failed {number} {error!r}" if error else f"ack {number}", flush=True)
            room.release()
        return delivered

    number = 0
    with Producer(
        bootstrap_servers=o["bootstrap"],
        compression=o["codec"],
        linger_ms=2,
        delivery_timeout_ms=300_000,
        retry_backoff_ms=20,
        retry_backoff_ms_max=100,
        reconnect_backoff_ms=10,
        reconnect_backoff_ms_max=50,
    ) as producer:
        while not told.is_set():
            if room.acquire(timeout=0.05):
                key, value = record_file.numbered(o["name"], number)
                partition = number % o["partitions"]
                producer.send(o["topic"], value, key=key, partition=partition, on_delivery=report(number))
                number += 1
        producer.flush(timeout=120)
    print("sent", number, "left", 0, flush=True)


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "produce_until_told": produce_until_told}[sys.argv[1]](json.loads(sys.argv[2]))
