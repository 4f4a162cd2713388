"""Send the packages of this machine's Debian index, then count by partition where they went.

``python examples/packages.py 127.0.0.1:9092 [FILE]``, FILE being a ``…_Packages`` file; without one, it makes some up.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ottla import Consumer, KafkaError, Placement, Producer, TopicPartition

TOPIC = "packages"


def stanzas(path: Path | None) -> Iterator[tuple[bytes, bytes]]:
    """Name and stanza of every package."""
    text = b"\n\n".join(b"Package: p%d\nSection: s%d" % (number, number % 9) for number in range(1000))
    for stanza in (path.read_bytes() if path else text).split(b"\n\n"):
        name = stanza.partition(b"\n")[0].removeprefix(b"Package: ")
        if name:
            yield name, stanza + b"\n"


def main(bootstrap: str, path: Path | None) -> None:
    sent: Counter[int] = Counter()

    def count(error: KafkaError | None, placement: Placement | None) -> None:
        if placement is not None:
            sent[placement.partition] += 1
        else:
            print("not stored:", error, file=sys.stderr)

    with Producer(bootstrap_servers=bootstrap, compression="zstd") as producer:
        for name, stanza in stanzas(path):
            producer.send(TOPIC, stanza, key=name, headers={"source": b"index"}, on_delivery=count)

    stored: Counter[int] = Counter()
    with Consumer(TOPIC, bootstrap_servers=bootstrap, start="earliest", idle_timeout=1.0) as consumer:
        ends: dict[TopicPartition, int] = consumer.end_offsets()
        for batch in consumer.batches():
            stored[batch.partition] += len(batch)
    for part, end in sorted(ends.items()):
        print(f"{part.topic}-{part.partition}: sent {sent[part.partition]}, read {stored[part.partition]} of {end}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
