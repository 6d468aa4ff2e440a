"""A stream, a REST instance and a librdkafka consumer share one group over 12 partitions.

Each of them is killed in turn while a producer goes on. Judged at the end: every record was
delivered at least once, and no committed offset ever went back.
"""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from hydrant import HTTP, KAFKA, call, fresh

JSON = "application/json"
PARTITIONS = 12
TOPIC, GROUP = fresh("mix"), fresh("group")
STEP_SECONDS = 60


class Seen:
    """What was delivered, by whom, and what was committed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.values, self.by = set(), {}

    def take(self, who, value):
        with self.lock:
            self.values.add(value)
            self.by[who] = self.by.get(who, 0) + 1

    def count(self, who):
        with self.lock:
            return self.by.get(who, 0)


class Stream(threading.Thread):
    """A stream that acknowledges what it read; killed by closing its socket."""

    def __init__(self, seen, name):
        super().__init__(daemon=True)
        self.seen, self.name_, self.last_id, self.stopped = seen, name, None, False
        self.generations, self.share = [], 0

    def run(self):
        while not self.stopped:
            try:
                self.read()
            except (OSError, http.client.HTTPException):
                pass

    def read(self):
        connection = http.client.HTTPConnection(HTTP, timeout=30)
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        connection.request("GET", f"/consumers/{GROUP}/stream?topics={TOPIC}&from=earliest"
                           f"&ack=explicit&member={self.name_}", headers=headers)
        self.socket = connection.sock
        answer, event, unacked, seen_id = connection.getresponse(), None, 0, self.last_id
        while line := answer.readline():
            line = line.rstrip(b"\n").decode()
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("id: "):
                seen_id = line[4:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                if event == "assigned":
                    self.generations.append(data["generation"])
                    self.share = len(data["partitions"])
                elif event is None:
                    self.seen.take("stream", data["value"])
                    unacked += 1
            elif not line:
                # Only an event that is whole counts as seen: the id comes before the data.
                event, self.last_id = None, seen_id
                if unacked >= 50:
                    self.ack()
                    unacked = 0

    def ack(self):
        try:
            call("POST", f"/consumers/{GROUP}/acks?member={self.name_}", {"cursor": self.last_id},
                 content=JSON, accept="*/*")
        except Exception:  # a rebalance: it comes again
            pass

    def kill(self):
        """Breaks the connection; the thread connects again, as a browser does."""
        self.socket.shutdown(socket.SHUT_RDWR)

    def end(self):
        self.stopped = True
        self.kill()


class Rest(threading.Thread):
    """A REST instance that polls and commits; killed by never calling again."""

    def __init__(self, seen):
        super().__init__(daemon=True)
        self.seen, self.stopped = seen, False
        made = call("POST", f"/consumers/{GROUP}", {"format": "json", "auto.offset.reset": "earliest",
                                                    "auto.commit.enable": "false"})
        self.base = f"/consumers/{GROUP}/instances/{made['instance_id']}"
        call("POST", f"{self.base}/subscription", {"topics": [TOPIC]})

    def run(self):
        while not self.stopped:
            try:
                records = call("GET", f"{self.base}/records?timeout=500",
                               accept="application/vnd.kafka.json.v2+json")
                for record in records:
                    self.seen.take("rest", record["value"])
                if records and not self.stopped:
                    call("POST", f"{self.base}/offsets")
            except Exception:
                if not self.stopped:
                    time.sleep(0.05)

    def kill(self):
        """Stops in the middle of reading; deleting it stands for its idle timeout of 5 minutes."""
        self.stopped = True
        self.join()
        call("DELETE", self.base)


class Native(threading.Thread):
    """A librdkafka consumer; killed with SIGKILL, so the group misses it for its session."""

    def __init__(self, seen):
        super().__init__(daemon=True)
        self.seen = seen
        script = Path(__file__).with_name("native.py")
        self.process = subprocess.Popen([sys.executable, script, KAFKA, GROUP, TOPIC],
                                        stdout=subprocess.PIPE, text=True)

    def run(self):
        for line in self.process.stdout:
            value = line.rsplit(" ", 1)[1]
            self.seen.take("native", int(value))

    def kill(self):
        self.process.kill()
        self.process.wait()


class Load(threading.Thread):
    """Produces numbers, over all partitions in turn, until it is told to stop."""

    def __init__(self):
        super().__init__(daemon=True)
        self.acked, self.stopped = 0, False

    def run(self):
        while not self.stopped:
            first = self.acked
            records = [{"value": first + n, "partition": (first + n) % PARTITIONS} for n in range(120)]
            call("POST", f"/topics/{TOPIC}", {"records": records},
                 content="application/vnd.kafka.json.v2+json")
            self.acked += len(records)
            time.sleep(0.03)


class Commits(threading.Thread):
    """Watches the committed offsets of the group; none may go back."""

    def __init__(self):
        super().__init__(daemon=True)
        from confluent_kafka import Consumer, TopicPartition
        self.consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": GROUP})
        self.partitions = [TopicPartition(TOPIC, p) for p in range(PARTITIONS)]
        self.last, self.back, self.looks, self.stopped = {}, [], 0, False

    def look(self):
        for found in self.consumer.committed(self.partitions, timeout=10):
            before = self.last.get(found.partition, -1)
            if found.offset < 0:
                continue
            if found.offset < before:
                self.back.append((found.partition, before, found.offset))
            self.last[found.partition] = found.offset
        self.looks += 1

    def run(self):
        while not self.stopped:
            self.look()
            time.sleep(0.05)


def wait_for(what, condition):
    deadline = time.monotonic() + STEP_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {STEP_SECONDS} s: {what}")
        time.sleep(0.05)


def grows(seen, *names):
    """Waits until each of them was given records from now on."""
    before = {name: seen.count(name) for name in names}
    wait_for(f"records for {names}", lambda: all(seen.count(n) > before[n] for n in names))


def main():
    call("POST", "/admin/topics", {"topic_name": TOPIC, "partitions_count": PARTITIONS}, content=JSON)
    seen, passed = Seen(), []
    load, commits = Load(), Commits()
    stream, rest, native = Stream(seen, "tab-1"), Rest(seen), Native(seen)
    for part in (load, commits, stream, rest, native):
        part.start()
    # All have joined when each has its third.
    wait_for("three equal shares", lambda: stream.share == PARTITIONS // 3)
    grows(seen, "stream", "rest", "native")
    passed.append("a stream, an instance and a native consumer share a group")

    count = len(stream.generations)
    stream.kill()
    wait_for("the stream again", lambda: len(stream.generations) > count)
    assert stream.generations[-1] == stream.generations[count - 1], stream.generations
    grows(seen, "stream", "rest", "native")
    passed.append("a stream that breaks comes back without a rebalance")

    rest.kill()
    grows(seen, "stream", "native")
    rest = Rest(seen)
    rest.start()
    grows(seen, "stream", "rest", "native")
    passed.append("an instance that ends gives its partitions to the others")

    native.kill()
    native = Native(seen)
    native.start()
    grows(seen, "stream", "rest", "native")
    passed.append("a native consumer that is killed is replaced")

    load.stopped = True
    load.join()
    wait_for("every record", lambda: len(seen.values) >= load.acked)
    assert seen.values == set(range(load.acked)), "records are missing or made up"
    passed.append(f"every record of {load.acked} was delivered at least once")
    commits.stopped = True
    commits.join()
    commits.look()
    assert not commits.back and commits.last, commits.back
    passed.append(f"no commit went back in {commits.looks} looks")
    stream.end()
    native.kill()
    rest.kill()
    for name in passed:
        print(f"ok  {name}")
    print(f"delivered: {seen.by}", file=sys.stderr)
    print(f"{len(passed)} passed, 0 failed")


main()
