"""Records on their way between a test and a client: partition, offset, key, value, one after the other.

Lengths are 4 bytes, -1 means null; everything is big-endian.
"""

import struct

HEADER = struct.Struct(">iqii")


def read(path):
    """Yields (partition, key, value) of every record; partition -1 leaves the choice to the client."""
    with open(path, "rb") as file:
        while header := file.read(HEADER.size):
            partition, _offset, key_bytes, value_bytes = HEADER.unpack(header)
            key = None if key_bytes < 0 else file.read(key_bytes)
            value = None if value_bytes < 0 else file.read(value_bytes)
            yield partition, key, value


class Writer:
    def __init__(self, path):
        self.file = open(path, "wb")

    def write(self, partition, offset, key, value):
        key_bytes = -1 if key is None else len(key)
        value_bytes = -1 if value is None else len(value)
        self.file.write(HEADER.pack(partition, offset, key_bytes, value_bytes) + (key or b"") + (value or b""))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


class Reports:
    """What a client says about each record it sent, a line each, in the order of sending: `partition offset`."""

    def __init__(self, count):
        self.lines = ["missing"] * count

    def delivered(self, index, partition, offset):
        self.lines[index] = f"{'none' if partition is None else partition} {'none' if offset is None else offset}"

    def failed(self, index, error):
        self.lines[index] = "error " + " ".join(str(error).split())

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in self.lines)


def numbered(name, number):
    """Key and value of a record that says which one it is; its section changes with the number."""
    key = f"{name}:{number}"
    return key.encode(), f"Package: {key}\nSection: s{number % 11}\nFiller: {'x' * (number % 200)}\n".encode()
