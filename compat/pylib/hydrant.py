"""The HTTP door for suites whose subject is a native client: standard library only."""

import base64
import http.client
import json
import os
import subprocess
import uuid
from typing import NamedTuple, Optional

HTTP = os.environ.get("HYDRANT_HTTP", "")
KAFKA = os.environ.get("HYDRANT_KAFKA", "")

V2 = "application/vnd.kafka.v2+json"
BINARY = "application/vnd.kafka.binary.v2+json"


class Record(NamedTuple):
    """A record as every client and both doors must show it."""

    topic: str
    partition: int
    offset: int
    key: Optional[bytes]
    value: Optional[bytes]
    headers: tuple
    timestamp: int


class HttpError(Exception):
    """An answer that is not a success."""

    def __init__(self, request, status, body):
        super().__init__(f"{request}: {status} {body[:500]}")
        self.status = status


def call(method, path, body=None, content=V2, accept=V2):
    """Sends one request; returns the parsed body of a success, raises `HttpError` else."""
    connection = http.client.HTTPConnection(HTTP, timeout=60)
    try:
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content
            body = json.dumps(body)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise HttpError(f"{method} {path} {body or ''}", answer.status, text)
    return json.loads(text) if text else None


def fresh(prefix):
    """A name nobody used before."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def make_topic(partitions=1, prefix="topic"):
    """Creates a topic of its own for a case."""
    name = fresh(prefix)
    call("POST", "/admin/topics", {"topic_name": name, "partitions_count": partitions}, "application/json")
    return name


def http_produce(topic, records):
    """Produces records `(key, value[, headers[, timestamp[, partition]]])`; returns them as stored."""
    body, plain = [], []
    for key, value, *rest in records:
        headers, timestamp, partition = (rest + [None] * 3)[:3]
        record = {"key": _encode(key), "value": _encode(value)}
        if headers:
            record["headers"] = [{"key": name, "value": _encode(bytes_)} for name, bytes_ in headers]
        if timestamp is not None:
            record["timestamp"] = timestamp
        if partition is not None:
            record["partition"] = partition
        body.append(record)
        plain.append((key, value, tuple(headers or ()), timestamp))
    answer = call("POST", f"/topics/{topic}", {"records": body}, BINARY)
    stored = []
    for (key, value, headers, timestamp), entry in zip(plain, answer["offsets"], strict=True):
        if entry.get("error_code") is not None:
            raise AssertionError(f"record refused: {entry}")
        stored.append(Record(topic, entry["partition"], entry["offset"], key, value, headers, timestamp))
    return stored


def http_read(topic, count):
    """Reads `count` records of a topic from its beginning, through an instance that is then gone."""
    with Instance(fresh("reader")) as reader:
        reader.subscribe(topic)
        return in_order(reader.read(count))


def in_order(records):
    """Sorts by partition and offset, the order in which doors are compared."""
    return sorted(records, key=lambda record: (record.topic, record.partition, record.offset))


class Instance:
    """A consumer instance: binary format, from the earliest record, commits only when told."""

    def __init__(self, group, name=None, **settings):
        self.group = group
        body = {"name": name or fresh("http"), "format": "binary",
                "auto.offset.reset": "earliest", "auto.commit.enable": "false", **settings}
        made = call("POST", f"/consumers/{group}", body)
        self.base_uri = made["base_uri"]
        self.path = f"/consumers/{group}/instances/{made['instance_id']}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def subscribe(self, *topics):
        call("POST", f"{self.path}/subscription", {"topics": list(topics)})

    def assignment(self):
        held = call("GET", f"{self.path}/assignments")["partitions"]
        return {(entry["topic"], entry["partition"]) for entry in held}

    def poll(self, timeout_ms=100):
        answer = call("GET", f"{self.path}/records?timeout={timeout_ms}", accept=BINARY)
        return [_record(entry) for entry in answer]

    def read(self, count, seconds=30):
        """Polls until `count` records are there; more than that is an error as well."""
        from checks import equal, wait_until

        records = []
        wait_until(lambda: f"{count} records, got {len(records)}",
                   lambda: records.extend(self.poll()) or len(records) >= count, seconds)
        equal(len(records), count, "records delivered over HTTP")
        return records

    def commit(self):
        """Commits what was delivered."""
        call("POST", f"{self.path}/offsets")

    def commit_processed(self, topic, partition, offset):
        """Commits that the record at `offset` is done: `offset + 1` is what the group keeps."""
        call("POST", f"{self.path}/offsets",
             {"offsets": [{"topic": topic, "partition": partition, "offset": offset}]})

    def committed(self, topic, partitions):
        wanted = [{"topic": topic, "partition": partition} for partition in partitions]
        found = call("GET", f"{self.path}/offsets", {"partitions": wanted})["offsets"]
        return {entry["partition"]: entry["offset"] for entry in found}

    def close(self):
        call("DELETE", self.path)


def restart_server(signal):
    """Ends the server with KILL or TERM and starts it again: same data, same addresses."""
    compat = os.environ["HYDRANT_COMPAT"]
    done = subprocess.run(["bash", f"{compat}/lib.sh", "restart_server", signal],
                          stdin=subprocess.DEVNULL, timeout=90, check=False)
    if done.returncode:
        raise AssertionError(f"server does not come back after SIG{signal}")


def _encode(value):
    return None if value is None else base64.b64encode(value).decode()


def _decode(text):
    return None if text is None else base64.b64decode(text, validate=True)


def _record(entry):
    headers = tuple((header["key"], _decode(header["value"])) for header in entry.get("headers", ()))
    return Record(entry["topic"], entry["partition"], entry["offset"], _decode(entry["key"]),
                  _decode(entry["value"]), headers, entry["timestamp"])
