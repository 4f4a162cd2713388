"""What a member of a group tells the test: a line for each record it was handed, each offset that it committed, and each
change of what it owns."""

import sys
import threading

told = threading.Event()
owned = set()


def listen():
    """Begins to wait for the end of standard input, which asks the member to leave."""
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()


def got(partition, offset, value):
    print("got", partition, offset, value.decode(), flush=True)


def committed(offsets):
    """Offsets that the broker has confirmed, by partition."""
    for partition, offset in sorted(offsets.items()):
        print("committed", partition, offset, flush=True)


def assigned(partitions):
    """Partitions that come to those it owns."""
    owned.update(partitions)
    print("owns", *sorted(owned), flush=True)


def revoked(partitions):
    """Partitions that it must give up, or has lost."""
    owned.difference_update(partitions)
    print("owns", *sorted(owned), flush=True)
