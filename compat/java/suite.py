"""Kafka's own tools: console producer and consumer, performance tools, admin commands."""

import json
import os
import re
import subprocess
import tempfile

import doors
import groups
from checks import Skip, case, equal, run_cases
from hydrant import KAFKA, Instance, Record, call, fresh, http_produce, http_read, in_order, make_topic
from process import LineConsumer

TOOLS = "org.apache.kafka.tools."
LOGGER = "-Dorg.slf4j.simpleLogger."
# What the consumer is assigned is told by its log alone, on standard error.
JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"{LOGGER}defaultLogLevel=warn",
        f"{LOGGER}log.org.apache.kafka.clients.consumer.internals=info", "-cp", os.environ["HYDRANT_CLASSPATH"]]


def command(tool, *arguments):
    return [*JAVA, TOOLS + tool, "--bootstrap-server", KAFKA, *arguments]


def run(tool, *arguments, lines=()):
    """Runs a tool to its end; returns what it prints."""
    done = subprocess.run(command(tool, *arguments), input="".join(f"{line}\n" for line in lines),
                          capture_output=True, text=True, timeout=90, check=False)
    said = done.stdout + done.stderr
    if "UnsupportedVersionException" in said:
        api = re.search(r"UnsupportedVersionException: (.*)", said).group(1)
        raise Skip(f"the server does not advertise what {tool} needs: {api}")
    if done.returncode or "Exception" in said:
        raise AssertionError(f"{tool} {' '.join(arguments)} ended with {done.returncode}: {said}")
    return done.stdout


SHOW = [word for setting in ("print.timestamp=true", "print.partition=true", "print.offset=true",
                             "print.headers=true", "print.key=true", "key.separator=|", "null.literal=<null>")
        for word in ("--formatter-property", setting)]


def record_of(topic, line):
    """Reads a line of the console consumer as set up by `SHOW`."""
    time, partition, offset, headers, key, value = line.split("|", 5)
    pairs = () if headers == "NO_HEADERS" else (pair.split(":", 1) for pair in headers.split(","))
    return Record(topic, int(partition.removeprefix("Partition:")), int(offset.removeprefix("Offset:")), _bytes(key),
                  _bytes(value), tuple((name, _bytes(text)) for name, text in pairs),
                  int(time.removeprefix("CreateTime:")))


def _bytes(text):
    return None if text == "<null>" else text.encode()


def read(topic, count):
    found = run("consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", str(count),
                "--timeout-ms", "20000", *SHOW)
    return in_order(record_of(topic, line) for line in found.splitlines())


class Native(LineConsumer):
    """A console consumer in a group, as `groups` wants it."""

    def __init__(self, group, topic):
        settings = ("auto.commit.interval.ms=100", "session.timeout.ms=10000", "heartbeat.interval.ms=500")
        options = [word for setting in settings for word in ("--command-property", setting)]
        super().__init__(group, topic, command("consumer.ConsoleConsumer", "--topic", topic, "--from-beginning",
                                               "--group", group, *options, *SHOW))

    def parse_record(self, line):
        return record_of(self.topic, line)

    def parse_assignment(self, line):
        if "Revoke previously assigned partitions" in line:
            return set()
        change = re.search(r"Adding newly assigned partitions: (.*)", line)
        if not change:
            return None
        names = filter(None, change.group(1).strip("[]").split(", "))
        return {(name.rpartition("-")[0], int(name.rpartition("-")[2])) for name in names}


@case
def console_tools_and_http_show_the_same_records():
    topic = make_topic(3)
    settings = ("parse.key=true", "parse.headers=true", "headers.delimiter=;", "key.separator=|", "null.marker=<null>")
    options = [word for setting in settings for word in ("--reader-property", setting)]
    run("ConsoleProducer", "--topic", topic, *options, "--compression-codec", "zstd",
        lines=[f"trace:a{n},n:{n};key {n % 7}|value {n} ключ" for n in range(40)] + ["why:deleted;key 1|<null>"])
    http_produce(topic, [(f"key {n % 7}".encode(), f"http {n}".encode(), (("n", str(n).encode()),), doors.BASE_MS + n)
                         for n in range(40)])
    found = http_read(topic, 81)
    equal(read(topic, 81), found, "records read by the console consumer")
    first = next(record for record in found if record.value == "value 5 ключ".encode())
    equal((first.key, first.headers), (b"key 5", (("trace", b"a5"), ("n", b"5"))), "record of the console producer")
    equal(sum(record.value is None for record in found), 1, "tombstones")
    places = {}
    for record in found:
        places.setdefault(record.key, set()).add(record.partition)
    equal([key for key, partitions in places.items() if len(partitions) > 1], [], "keys on several partitions")


@case
def performance_tools_find_every_record():
    topic = make_topic(4)
    said = run("ProducerPerformance", "--topic", topic, "--num-records", "50000", "--record-size", "200",
               "--throughput", "-1", "--command-property", "compression.type=lz4")
    equal("50000 records sent" in said, True, f"producer's summary in {said!r}")
    bounds = [call("GET", f"/topics/{topic}/partitions/{partition}/offsets") for partition in range(4)]
    equal(sum(entry["end_offset"] for entry in bounds), 50_000, "records by HTTP")
    said = run("ConsumerPerformance", "--topic", topic, "--num-records", "50000", "--timeout", "20000", "--hide-header")
    equal(int(said.strip().splitlines()[-1].split(", ")[4]), 50_000, "records consumed")


@case
def topics_tool_creates_lists_and_describes():
    topic = fresh("tool")
    run("TopicCommand", "--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=3600000")
    equal(topic in run("TopicCommand", "--list").splitlines(), True, "topic is listed")
    equal(topic in call("GET", "/topics"), True, "topic is listed over HTTP")
    described = run("TopicCommand", "--describe", "--topic", topic)
    equal(re.search(r"PartitionCount: (\d+)", described).group(1), "3")
    equal("retention.ms=3600000" in described, True, f"configuration in {described!r}")
    equal(len(re.findall(r"\tPartition: \d+\tLeader: \d+\t", described)), 3, "partitions with a leader")
    equal(call("GET", f"/topics/{topic}")["configs"]["retention.ms"], "3600000", "configuration over HTTP")


@case
def offsets_tool_tells_the_end():
    topic = make_topic(2)
    http_produce(topic, [(None, b"x", (), doors.BASE_MS + n, 0) for n in range(7)])
    equal(run("GetOffsetShell", "--topic", topic).split(), [f"{topic}:0:7", f"{topic}:1:0"], "end offsets")
    found = run("GetOffsetShell", "--topic", topic, "--time", str(doors.BASE_MS + 3)).split()
    equal(found[0], f"{topic}:0:3", "offset by time")


@case
def groups_tool_describes_the_group_of_an_instance():
    topic, group = make_topic(2), fresh("tool")
    with Instance(group) as instance:
        instance.subscribe(topic)
        stored = http_produce(topic, [(None, b"x", (), doors.BASE_MS, n % 2) for n in range(10)])
        instance.read(len(stored))
        instance.commit()
        http_produce(topic, [(None, b"y", (), doors.BASE_MS, 1)])
        equal(group in run("consumer.group.ConsumerGroupCommand", "--list").splitlines(), True, "group is listed")
        said = run("consumer.group.ConsumerGroupCommand", "--describe", "--group", group)
        rows = [line.split() for line in said.splitlines() if line.startswith(group)]
        equal(sorted(row[1:6] for row in rows), [[topic, "0", "5", "5", "0"], [topic, "1", "5", "6", "1"]],
              "topic, partition, commit, end and lag")
        equal([row[6] == "-" for row in rows], [False, False], "partitions without a member")
        said = run("consumer.group.ConsumerGroupCommand", "--describe", "--members", "--verbose", "--group", group)
        members = [line for line in said.splitlines() if line.startswith(group)]
        equal(len(members), 1, "members")
        equal(f"{topic}(0,1)" in members[0] or f"{topic}:0,1" in members[0], True, f"assignment in {members[0]!r}")


@case
def groups_tool_resets_and_deletes():
    tool = "consumer.group.ConsumerGroupCommand"
    topic, group = make_topic(1), fresh("tool")
    http_produce(topic, [(None, b"x", (), doors.BASE_MS + n, 0) for n in range(10)])
    with Instance(group) as instance:
        instance.subscribe(topic)
        instance.read(10)
        instance.commit()
    committed = lambda: call("GET", f"/admin/groups/{group}")["offsets"]
    moves = (("--to-earliest", 0), ("--to-latest", 10), ("--shift-by=-3", 7), ("--to-offset=4", 4),
             ("--to-datetime=2999-01-01T00:00:00.000", 10))
    for rule, offset in moves:
        before = committed()[0]["committed_offset"]
        arguments = ("--reset-offsets", "--group", group, "--topic", topic, *rule.split("="))
        run(tool, *arguments, "--dry-run")
        equal(committed()[0]["committed_offset"], before, f"commit after a dry run of {rule}")
        run(tool, *arguments, "--execute")
        equal(committed()[0]["committed_offset"], offset, f"commit after {rule}")
    run(tool, "--delete-offsets", "--group", group, "--topic", topic)
    equal(committed(), [], "commits after --delete-offsets")
    run(tool, "--delete", "--group", group)
    equal(group in run(tool, "--list").splitlines(), False, "group is listed")


@case
def records_tool_deletes_the_oldest():
    topic = make_topic(1)
    http_produce(topic, [(None, b"x", (), doors.BASE_MS + n, 0) for n in range(9)])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as wanted:
        json.dump({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 5}]}, wanted)
        wanted.flush()
        said = run("DeleteRecordsCommand", "--offset-json-file", wanted.name)
    equal("low_watermark: 5" in said, True, f"low watermark in {said!r}")
    equal([record.offset for record in read(topic, 4)], [5, 6, 7, 8], "offsets that are left")


@case
def groups_tool_describes_a_shared_group():
    with groups.Pair(Native) as pair:
        stored = pair.produce("shared")
        pair.expect(stored)
        pair.commit()
        said = run("consumer.group.ConsumerGroupCommand", "--describe", "--group", pair.group)
        rows = [line.split() for line in said.splitlines() if line.startswith(pair.group)]
        equal({(row[1], int(row[2])) for row in rows}, pair.all, "partitions")
        equal({tuple(row[3:6]) for row in rows}, {("20", "20", "0")}, "commit, end and lag")
        equal(len({row[6] for row in rows}), 2, f"members in {said!r}")


@case
def group_shares_partitions_with_an_instance():
    groups.check_sharing(Native)


@case
def instance_takes_over_from_native():
    groups.check_native_leaves(Native)


@case
def native_takes_over_from_instance():
    groups.check_http_leaves(Native)


run_cases()
