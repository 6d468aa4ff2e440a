"""One log, two doors: what goes in by one must come out by both, the same.

A native client is given as two functions:
  produce(topic, records, **options) -> [Record]   records are (key, value, headers, timestamp)
  read(topic, count) -> [Record]                   all of a topic from its beginning, no group
"""

from checks import equal
from hydrant import http_produce, http_read, in_order, make_topic

BASE_MS = 1_700_000_000_000


def samples(tag, count):
    """Records of every kind: keyless, tombstone, empty, binary, headers twice, empty and null."""
    headers = (("trace", b"abc"), ("trace", b"\x00\xff"), ("empty", b""), ("ключ", "значение".encode()))
    records = [
        (f"{tag}-all".encode(), b"value", headers, BASE_MS),
        (None, b"no key", (), BASE_MS + 1),
        (f"{tag}-tombstone".encode(), None, (("why", b"deleted"),), BASE_MS + 2),
        (b"", b"", (), BASE_MS + 3),
        (bytes(range(256)), bytes(reversed(range(256))) * 16, (), BASE_MS + 4),
    ]
    for n in range(len(records), count):
        value = f"{tag} {n} ".encode() * 20
        records.append((f"{tag}-key-{n % 13}".encode(), value, (("n", str(n).encode()),), BASE_MS + n))
    return records


def check_round_trip(produce, read, partitions=3, count=60):
    """Produces by both doors, reads by both doors, compares everything."""
    topic = make_topic(partitions)
    stored = produce(topic, samples("native", count))
    stored += http_produce(topic, samples("http", count))
    expected = in_order(stored)
    equal(in_order(read(topic, len(expected))), expected, "records read by the native client")
    equal(http_read(topic, len(expected)), expected, "records read over HTTP")


def check_codec(produce, read, codec):
    """A compressed batch comes out of both doors."""
    topic = make_topic(1)
    expected = in_order(produce(topic, samples(codec, 300), codec=codec))
    equal(http_read(topic, len(expected)), expected, f"{codec} records read over HTTP")
    equal(in_order(read(topic, len(expected))), expected, f"{codec} records read by the native client")


def check_same_partition(produce):
    """A key goes to the same partition through both doors (murmur2, as Java places it)."""
    topic = make_topic(7)
    records = [(f"customer-{n}".encode(), b"x", (), BASE_MS) for n in range(50)]
    native = {record.key: record.partition for record in produce(topic, records)}
    over_http = {record.key: record.partition for record in http_produce(topic, records)}
    equal(over_http, native, "partitions by key")
    if len(set(native.values())) < 5:
        raise AssertionError(f"keys are not spread: {native}")
