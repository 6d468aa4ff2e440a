"""The live stream of a topic: events, resumption by Last-Event-ID; three parsers agree."""

import json
import time

import httpx
import httpx_sse
import requests
import sseclient

from api import ROOT, Consumer, ask, b64, fails, make_topic, produce
from checks import case, equal
from doors import BASE_MS


class Parser:
    """The WHATWG rules for an event stream, as plain as they are."""

    def __init__(self, answer):
        self.chunks = answer.iter_content(None)
        self.buffer, self.ended, self.last_id = b"", False, ""

    def lines(self):
        while True:
            line, newline, rest = self.buffer.partition(b"\n")
            if newline:
                self.buffer = rest
                yield line.removesuffix(b"\r").decode()
                continue
            chunk = next(self.chunks, None)
            if chunk is None:
                return
            self.buffer += chunk

    def events(self):
        """Yields (event, data, id) of every event that is dispatched."""
        name, data = "", []
        for line in self.lines():
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                if data:
                    yield name or "message", "\n".join(data), self.last_id
                name, data = "", []
            elif field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif field == "id" and "\0" not in value:
                self.last_id = value


class Stream:
    """An open stream of a topic; iterates over its records."""

    def __init__(self, topic, start="from=earliest", last_id=None):
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        self.answer = requests.get(f"{ROOT}/topics/{topic}/stream?{start}", headers=headers, stream=True, timeout=30)
        equal(self.answer.status_code, 200, "status of the stream")
        equal(self.answer.headers["Content-Type"].split(";")[0], "text/event-stream")
        self.events = Parser(self.answer).events()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.answer.close()

    def read(self, count):
        """Reads `count` records as (record, id of its event)."""
        found = []
        for name, data, last_id in self.events:
            if name == "message":
                found.append((json.loads(data), last_id))
            if len(found) == count:
                return found
        raise AssertionError(f"stream ended after {len(found)} of {count} records")


def places(records):
    return [(record["partition"], record["offset"]) for record, _ in records]


def fill(topic, count, partitions):
    return produce(topic, [{"key": f"k{n}", "value": {"n": n, "text": "a\nb\r\nc"}, "partition": n % partitions,
                            "timestamp": BASE_MS + n, "headers": [{"key": "h", "value": b64(f"v{n}".encode())}]}
                           for n in range(count)])


@case
def stream_shows_what_an_instance_reads():
    topic = make_topic(3)
    fill(topic, 30, 3)
    with Stream(topic) as stream:
        streamed = {(record["partition"], record["offset"]): record for record, _ in stream.read(30)}
    with Consumer() as consumer:
        polled = consumer.subscribe(topic).read(30)
    for record in polled:
        shown = streamed[int(record["partition"]), int(record["offset"])]
        n = int(record["value"]["n"])
        equal((shown["topic"], shown["timestamp"]), (topic, int(record["timestamp"])))
        equal(shown["value"], {"n": n, "text": "a\nb\r\nc"}, "value")
        equal(shown["headers"], [["h", f"v{n}"]], "headers")


@case
def keys_are_shown_as_an_instance_shows_them():
    topic = make_topic(1)
    keys = ["k0", {"id": 1}, 17, None]
    produce(topic, [{"key": key, "value": 1} for key in keys])
    with Stream(topic) as stream:
        equal([record["key"] for record, _ in stream.read(4)], keys)


@case
def stream_resumes_after_every_record():
    topic = make_topic(3)
    stored = fill(topic, 24, 3)
    with Stream(topic) as stream:
        records = stream.read(24)
    equal(sorted(places(records)), sorted(stored), "one pass")
    equal(all(last_id for _, last_id in records), True, "every record has an id")
    for cut in range(1, 24):
        with Stream(topic, last_id=records[cut - 1][1]) as stream:
            rest = stream.read(24 - cut)
        equal(sorted(places(records[:cut] + rest)), sorted(stored), f"both parts when cut after {cut}")


@case
def stream_resumes_by_query():
    topic = make_topic(1)
    fill(topic, 10, 1)
    with Stream(topic) as stream:
        last_id = stream.read(4)[-1][1]
    for name in ("last_event_id", "lastEventId"):
        with Stream(topic, f"from=earliest&{name}={last_id}") as stream:
            equal(places(stream.read(6)), [(0, offset) for offset in range(4, 10)], name)


@case
def stream_goes_on_live():
    topic = make_topic(2)
    fill(topic, 4, 2)
    with Stream(topic) as stream:
        stream.read(4)
        for n in range(5):
            begun = time.monotonic()
            at = produce(topic, [{"value": f"live {n}", "partition": n % 2}])
            record, last_id = stream.read(1)[0]
            equal((record["partition"], record["offset"], record["value"]), (*at[0], f"live {n}"))
            equal(time.monotonic() - begun < 5, True, "a live record comes at once")
    produce(topic, [{"value": "missed"}])
    with Stream(topic, last_id=last_id) as stream:
        equal(stream.read(1)[0][0]["value"], "missed", "what came between two connections")


@case
def stream_from_the_end_shows_only_what_is_new():
    topic = make_topic(1)
    fill(topic, 5, 1)
    with Stream(topic, "from=latest") as stream:
        next(stream.events)  # the server's first event: the position is fixed
        produce(topic, [{"value": "new"}])
        equal(stream.read(1)[0][0]["value"], "new")


@case
def tombstones_and_bytes_are_told():
    topic = make_topic(1)
    produce(topic, [{"key": "gone", "value": None}])
    produce(topic, [{"value": b64(b"\xff\xfe")}], "binary")
    with Stream(topic) as stream:
        (tombstone, _), (binary, _) = stream.read(2)
    equal((tombstone["value"], tombstone["tombstone"]), (None, True))
    equal((binary["value"], binary["value_encoding"]), (b64(b"\xff\xfe"), "base64"))


@case
def other_parsers_read_the_same():
    topic = make_topic(2)
    fill(topic, 20, 2)
    with Stream(topic) as stream:
        expected = stream.read(20)
    url = f"{ROOT}/topics/{topic}/stream?from=earliest"

    def records(events):
        found = []
        for event in events:
            if event.event == "message":
                found.append((json.loads(event.data), event.id))
                if len(found) == 20:
                    return found
        return found

    with requests.get(url, headers={"Accept": "text/event-stream"}, stream=True, timeout=30) as answer:
        found = records(sseclient.SSEClient(answer.iter_content(None)).events())
    equal(sorted(places(found)), sorted(places(expected)), "sseclient-py")
    with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
        found = records(source.iter_sse())
    equal(sorted(places(found)), sorted(places(expected)), "httpx-sse")
    with httpx.Client() as client, httpx_sse.connect_sse(
            client, "GET", url, headers={"Last-Event-ID": found[11][1]}) as source:
        rest = []
        for event in source.iter_sse():
            if event.event == "message":
                rest.append((json.loads(event.data), event.id))
                if len(rest) == 8:
                    break
    equal(sorted(places(found[:12] + rest)), sorted(places(expected)), "httpx-sse, resumed")


@case
def bad_streams_are_refused():
    topic = make_topic(1)
    accept = {"accept": "text/event-stream"}
    fails("GET", "/topics/nope/stream", 404, (40401, 40403), **accept)
    fails("GET", f"/topics/{topic}/stream?from=nowhere", (400, 422), (400, 422), **accept)
    fails("GET", f"/topics/{topic}/stream", (400, 422), (400, 422), headers={"Last-Event-ID": "garbage"}, **accept)
    ask("GET", f"/topics/{topic}")
