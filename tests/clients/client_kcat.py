"""kcat as a member of a group: its lines turned into those that the tests read. It commits by itself and does not say what."""

import json
import re
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
        "reconnect.backoff.max.ms": 200,
        "partition.assignment.strategy": "cooperative-sticky" if o["cooperative"] else "range",
    }
    if o["instance"] is not None:
        settings["group.instance.id"] = o["instance"]
    command = ["kcat", "-b", o["bootstrap"], "-u", "-f", "got %p %o %s\n"]
    for name, value in settings.items():
        command += ["-X", f"{name}={value}"]
    command += ["-G", o["group"], o["topic"]]
    kcat = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    threading.Thread(target=rebalances, args=(kcat.stderr,), daemon=True).start()
    member.listen()
    # It ends by itself when it reaches no broker.
    while kcat.poll() is None and not member.told.wait(0.1):
        pass
    kcat.send_signal(signal.SIGTERM)
    sys.exit(kcat.wait())


def rebalances(lines):
    """`% Group GROUP rebalanced: incremental assignment of N partition(s) (memberid ID, …): TOPIC [0], TOPIC [1]`."""
    for line in lines:
        change = re.match(r"% Group .* rebalanced: (incremental )?(assign|revoke).*\): (.*)", line)
        if change is None:
            sys.stderr.write(line)
            continue
        partitions = [int(number) for number in re.findall(r"\[(\d+)\]", change[3])]
        {"assign": member.assigned, "revoke": member.revoked}[change[2]](partitions)


if __name__ == "__main__":
    {"join": join}[sys.argv[1]](json.loads(sys.argv[2]))
