"""kcat as a member of a group. It commits by itself and does not say what; it ends when it reaches no broker."""

import json
import signal
import subprocess
import sys
import threading

import member


def join(o):
    settings = {
        "session.timeout.ms": o["session_timeout_ms"],
        "heartbeat.interval.ms": 300,
        "auto.commit.interval.ms": 100,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky" if o["cooperative"] else "range",
    }
    command = ["kcat", "-q", "-b", o["bootstrap"], "-u", "-f", "got %p %o %s\n"]
    for name, value in settings.items():
        command += ["-X", f"{name}={value}"]
    command += ["-G", o["group"], o["topic"]]
    kcat = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    member.listen()
    while kcat.poll() is None and not member.told.wait(0.1):
        pass
    kcat.send_signal(signal.SIGTERM)
    sys.exit(kcat.wait())


if __name__ == "__main__":
    {"join": join}[sys.argv[1]](json.loads(sys.argv[2]))
