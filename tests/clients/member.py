"""What a member of a group tells the test: a line for each record it was handed, and for each offset that it committed."""

import sys
import threading

told = threading.Event()


def listen():
    """Begins to wait for the end of standard input, which asks the member to leave."""
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()


def got(partition, offset, value):
    print("got", partition, offset, value.decode(), flush=True)


def committed(offsets):
    """Offsets that the broker has confirmed, by partition."""
    for partition, offset in sorted(offsets.items()):
        print("committed", partition, offset, flush=True)
