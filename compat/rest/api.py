"""A strict v2 client: every answer's status, type and error envelope is checked."""

import base64
import json

import requests

from checks import equal, wait_until
from hydrant import HTTP, fresh

V2 = "application/vnd.kafka.v2+json"
EMBEDDED = {name: f"application/vnd.kafka.{name}.v2+json" for name in ("binary", "json", "text")}
ROOT = f"http://{HTTP}"

_session = requests.Session()


def ask(method, path, body=None, *, raw=None, content=V2, accept=V2, status=200, code=None, headers=()):
    """Sends a request, checks status and envelope, returns the parsed body or None.

    An error is asked for with `status` and `code`; without a code it is the status itself. Both
    may be tuples where the contract leaves a choice.
    """
    sent = {"Accept": accept, "Content-Type": content, **dict(headers)}
    if body is None and raw is None:
        del sent["Content-Type"]
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    answer = _session.request(method, ROOT + path, data=data, headers=sent, timeout=60)
    what = f"{method} {path} {(data or b'')[:300]!r}: {answer.status_code} {answer.text[:300]!r}"
    check_answer(answer, what, _tuple(status), _tuple(code))
    return answer.json() if answer.content else None


def check_answer(answer, what, statuses, codes):
    if answer.status_code not in statuses:
        raise AssertionError(f"{what}, expected {statuses}")
    if answer.status_code in (201, 204):
        equal(answer.content, b"", f"body of {what}")
        return
    kind = answer.headers.get("Content-Type", "").split(";")[0]
    if kind != V2 and kind not in EMBEDDED.values():
        raise AssertionError(f"{what}: content type {kind!r}")
    if answer.status_code >= 400:
        envelope = answer.json()
        equal(list(envelope), ["error_code", "message"], f"envelope of {what}")
        equal(type(envelope["message"]), str, f"message of {what}")
        wanted = codes if codes != (None,) else (answer.status_code,)
        if envelope["error_code"] not in wanted:
            raise AssertionError(f"{what}, expected error_code {wanted}")


def fails(method, path, status, code=None, body=None, **options):
    """Asks for an error."""
    return ask(method, path, body, status=status, code=code, **options)


def make_topic(partitions=1):
    name = fresh("rest")
    body = {"topic_name": name, "partitions_count": partitions}
    ask("POST", "/admin/topics", body, content="application/json", status=201)
    return name


def produce(topic, records, kind="json", **options):
    """Produces and returns `(partition, offset)` by record; none may fail."""
    answer = ask("POST", f"/topics/{topic}", {"records": records}, content=EMBEDDED[kind], **options)
    return check_offsets(answer, len(records))


def check_offsets(answer, count):
    equal(set(answer), {"offsets", "key_schema_id", "value_schema_id"}, "fields of the answer")
    equal((answer["key_schema_id"], answer["value_schema_id"]), (None, None), "schema ids")
    equal(len(answer["offsets"]), count, "entries")
    for entry in answer["offsets"]:
        equal((entry["error_code"], entry["error"]), (None, None), f"error of {entry}")
    return [(entry["partition"], entry["offset"]) for entry in answer["offsets"]]


def b64(data):
    return base64.b64encode(data).decode()


class Consumer:
    """A consumer instance, from the earliest record, without auto commit."""

    def __init__(self, kind="json", group=None, name=None, **settings):
        self.group, self.kind = group or fresh("group"), kind
        self.name = name or fresh("c")
        body = {"name": self.name, "format": kind, "auto.offset.reset": "earliest",
                "auto.commit.enable": "false", **settings}
        made = ask("POST", f"/consumers/{self.group}", body)
        equal(set(made), {"instance_id", "base_uri"}, "fields of the new instance")
        equal(made["instance_id"], self.name)
        self.path = f"/consumers/{self.group}/instances/{self.name}"
        equal(made["base_uri"], ROOT + self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        ask("DELETE", self.path, status=204)

    def ask(self, method, path, body=None, **options):
        return ask(method, f"{self.path}/{path}", body, **options)

    def subscribe(self, *topics):
        self.ask("POST", "subscription", {"topics": list(topics)}, status=204)
        return self

    def assign(self, topic, *partitions):
        self.ask("POST", "assignments", names(topic, *partitions), status=204)
        return self

    def poll(self, timeout=2000, **query):
        """Polls once; numbers stay text, so that every digit can be compared."""
        arguments = "&".join(f"{name}={value}" for name, value in {"timeout": timeout, **query}.items())
        answer = _session.get(f"{ROOT}{self.path}/records?{arguments}", headers={"Accept": EMBEDDED[self.kind]})
        check_answer(answer, f"GET {self.path}/records?{arguments}: {answer.text[:300]!r}", (200,), (None,))
        equal(answer.headers["Content-Type"].split(";")[0], EMBEDDED[self.kind], "content type of records")
        return json.loads(answer.content, parse_int=Number, parse_float=Number)

    def read(self, count, **query):
        """Polls until `count` records came; more is an error."""
        records = []
        wait_until(lambda: f"{count} records, got {len(records)}",
                   lambda: records.extend(self.poll(100, **query)) or len(records) >= count)
        equal(len(records), count, "records")
        return records

    def commit(self, *entries):
        """Commits `(topic, partition, offset processed)`, or what was delivered."""
        body = {"offsets": [{"topic": t, "partition": p, "offset": o} for t, p, o in entries]}
        equal(self.ask("POST", "offsets", body if entries else None), [], "answer to a commit")

    def committed(self, topic, *partitions):
        found = self.ask("GET", "offsets", names(topic, *partitions))["offsets"]
        return {entry["partition"]: entry["offset"] for entry in found}


class Number(str):
    """A number of a JSON text, digit for digit; equal to Python's number of the same text."""

    def __eq__(self, other):
        return str(self) == (other if isinstance(other, str) else json.dumps(other))

    __hash__ = str.__hash__


def names(topic, *partitions):
    return {"partitions": [{"topic": topic, "partition": partition} for partition in partitions]}


def positions(topic, **offsets):
    """Positions by partition: `positions(topic, p0=5)`."""
    return {"offsets": [{"topic": topic, "partition": int(name[1:]), "offset": offset}
                        for name, offset in offsets.items()]}


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)
