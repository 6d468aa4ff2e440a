"""kcat: produce with every codec, consume, metadata, offsets by time, a balanced group."""

import json
import re
import subprocess

import doors
import groups
from checks import case, equal, run_cases
from hydrant import KAFKA, Record, call, http_produce, http_read, in_order, make_topic
from process import LineConsumer

CODECS = ("gzip", "snappy", "lz4", "zstd")


def kcat(*arguments, lines=()):
    """Runs kcat to its end; returns what it prints."""
    done = subprocess.run(["kcat", "-b", KAFKA, *arguments], input="".join(f"{line}\n" for line in lines),
                          capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise AssertionError(f"kcat {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def record_of(line):
    """Reads a line of `kcat -J`."""
    entry = json.loads(line)
    names = entry.get("headers", [])
    headers = tuple((name, _bytes(value)) for name, value in zip(names[::2], names[1::2]))
    return Record(entry["topic"], entry["partition"], entry["offset"], _bytes(entry["key"]),
                  _bytes(entry["payload"]), headers, entry["ts"])


def read(topic):
    return [record_of(line) for line in kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J").splitlines()]


def _bytes(text):
    return None if text is None else text.encode()


class Native(LineConsumer):
    """`kcat -G`, as `groups` wants it."""

    def __init__(self, group, topic):
        settings = ("auto.offset.reset=earliest", "auto.commit.interval.ms=100", "session.timeout.ms=10000")
        options = [word for setting in settings for word in ("-X", setting)]
        super().__init__(group, topic, ["kcat", "-b", KAFKA, "-u", "-J", *options, "-G", group, topic])

    def parse_record(self, line):
        return record_of(line)

    def parse_assignment(self, line):
        change = re.search(r"rebalanced \(memberid \S*\): (assigned|revoked):(.*)", line)
        if not change:
            return None
        found = re.findall(r"(\S+) \[(\d+)\]", change.group(2))
        return {(topic, int(partition)) for topic, partition in found} if change.group(1) == "assigned" else set()


@case
def keys_headers_and_tombstones_arrive():
    topic = make_topic(3)
    kcat("-P", "-t", topic, "-K", "|", "-Z", "-H", "trace=abc", "-H", "empty=", "-H", "trace=def",
         lines=["k1|v1", "k2|v2 ключ", "k1|", "|no key"])
    found = http_read(topic, 4)
    headers = (("trace", b"abc"), ("empty", b""), ("trace", b"def"))
    shown = sorted(((record.key, record.value, record.headers) for record in found), key=str)
    expected = [(b"k1", b"v1"), (b"k2", "v2 ключ".encode()), (b"k1", None), (None, b"no key")]
    equal(shown, sorted(((*pair, headers) for pair in expected), key=str), "records over HTTP")
    equal(in_order(read(topic)), found, "records read by kcat")


@case
def every_codec_comes_out_of_both_doors():
    for codec in CODECS:
        topic = make_topic()
        values = [f"{codec} {n} {'x' * 200}" for n in range(300)]
        kcat("-P", "-t", topic, "-z", codec, lines=values)
        found = http_read(topic, 300)
        equal([record.value.decode() for record in found], values, f"{codec} over HTTP")
        equal(read(topic), found, f"{codec} read by kcat")


@case
def http_records_come_out_of_kcat():
    topic = make_topic(3)
    records = [(f"k{n % 5}".encode(), None if n == 7 else f"value {n}".encode(), (("n", str(n).encode()),),
                doors.BASE_MS + n) for n in range(50)]
    equal(in_order(read(topic)), [], "empty topic")
    stored = http_produce(topic, records)
    equal(in_order(read(topic)), in_order(stored))


@case
def metadata_is_the_same_through_both_doors():
    topic = make_topic(5)
    listed = json.loads(kcat("-L", "-J"))
    equal([broker["id"] for broker in listed["brokers"]], call("GET", "/brokers")["brokers"], "brokers")
    partitions = {entry["topic"]: len(entry["partitions"]) for entry in listed["topics"]}
    equal(partitions[topic], 5, "partitions")
    over_http = {name for name in call("GET", "/topics") if not name.startswith("__")}
    equal({name for name in partitions if not name.startswith("__")}, over_http, "topics")


@case
def offsets_by_time():
    topic = make_topic(2)
    http_produce(topic, [(None, b"x", (), doors.BASE_MS + n * 1000, n % 2) for n in range(20)])

    def ask(timestamp):
        found = kcat("-Q", "-t", f"{topic}:0:{timestamp}", "-t", f"{topic}:1:{timestamp}")
        return [int(offset) for _, offset in sorted(re.findall(r"\[(\d+)\] offset (-?\d+)", found))]

    equal(ask(doors.BASE_MS), [0, 0])
    equal(ask(doors.BASE_MS + 4000), [2, 2])
    equal(ask(doors.BASE_MS + 4001), [3, 2])
    equal(ask(-2), [0, 0], "beginning")
    equal(ask(-1), [10, 10], "end")


@case
def group_shares_partitions_with_an_instance():
    groups.check_sharing(Native)


@case
def instance_takes_over_from_native():
    groups.check_native_leaves(Native)


@case
def native_takes_over_from_instance():
    groups.check_http_leaves(Native)


@case
def members_resume_at_the_commit():
    groups.check_resumes(Native)


run_cases()
