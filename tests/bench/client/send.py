"""Records without a key, sent from Python by our client and by confluent-kafka: CPU per record, throughput, and the spread over partitions.

OTTLA BOOTSTRAP [PAIRS]: the binary that makes the topics, and a broker that runs. The clients take turns, each run in a
process and with a topic of its own; a tenth warms up and is not timed. Prints the runs, then min / median / max of the ratios.
Needs both clients in this Python.
"""

import json
import random
import resource
import statistics
import subprocess
import sys
import time

RECORDS = 400_000
BYTES = 100
PARTITIONS = 4


def cpu():
    it = resource.getrusage(resource.RUSAGE_SELF)
    return it.ru_utime + it.ru_stime


def measured(send, flush):
    value = random.Random(1).randbytes(BYTES)
    send(value, RECORDS // 10)
    flush()
    begin, used = time.monotonic(), cpu()
    send(value, RECORDS)
    flush()
    print(f"{RECORDS / (time.monotonic() - begin):.0f} {(cpu() - used) / RECORDS * 1e9:.0f}")


def ours(bootstrap, topic, callback):
    from ottla import Producer
    settled = [0]

    def told(*_):
        settled[0] += 1

    with Producer(bootstrap_servers=bootstrap) as producer:
        def send(value, count):
            if callback:
                for _ in range(count):
                    producer.send(topic, value, on_delivery=told)
            else:
                for _ in range(count):
                    producer.send(topic, value)
        measured(send, producer.flush)


def theirs(bootstrap, topic, callback):
    from confluent_kafka import Producer
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "queue.buffering.max.messages": 1_000_000})
    settled = [0]

    def told(*_):
        settled[0] += 1

    how = {"on_delivery": told} if callback else {}

    def send(value, count):
        for at in range(count):
            while True:
                try:
                    producer.produce(topic, value, **how)
                    break
                except BufferError:
                    producer.poll(0.01)
            if at % 1000 == 0:
                producer.poll(0)

    measured(send, lambda: producer.flush(60))


def printed(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def main():
    if sys.argv[1] == "run":
        _, _, client, bootstrap, topic, callback = sys.argv
        return (ours if client == "ours" else theirs)(bootstrap, topic, callback == "callback")
    ottla, bootstrap = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 5

    def tool(*words):
        return printed(ottla, "--bootstrap", bootstrap, *words)

    for kind in ["plain", "callback"]:
        rows = {"ours": [], "theirs": []}
        for pair in range(pairs):
            for client in rows:
                topic = f"{kind}-{client}-{pair}"
                tool("topic", "create", topic, "--partitions", str(PARTITIONS))
                out = printed(sys.executable, __file__, "run", client, bootstrap, topic, kind)
                rows[client].append([float(word) for word in out.split()])
                ends = tool("--json", "topic", "offsets", topic)
                spread = [json.loads(line)["end_offset"] for line in ends.splitlines()]
                print(kind, client, *rows[client][-1], spread)
                tool("topic", "delete", topic, "--yes")
        for at, name, turn in [(0, "throughput", False), (1, "CPU per record", True)]:
            pairs_of = zip(rows["ours"], rows["theirs"])
            ratios = sorted(their[at] / our[at] if turn else our[at] / their[at] for our, their in pairs_of)
            middle = {client: statistics.median(row[at] for row in rows[client]) for client in rows}
            print(f"{kind} {name}: {ratios[0]:.2f} / {statistics.median(ratios):.2f} / {ratios[-1]:.2f} x better; medians {middle}")


main()
