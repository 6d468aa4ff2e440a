"""Filters, shapes, lines and WebSockets by PyPI's parsers: httpx-sse, sseclient-py, websockets."""

import asyncio
import json
import os
import uuid
from urllib.parse import urlencode

import httpx
import httpx_sse
import requests
import sseclient
import websockets

from checks import case, equal, run_cases

ADDRESS = os.environ["HYDRANT_HTTP"]
ROOT = f"http://{ADDRESS}"

# What a parser could take for a field, a line or an end.
NASTY = ["a\r\nid: 7", "a\rdata: x", "\n\nevent: ping", "\0", "é\u2028\u2029\ufeff", ": comment", " lead", ""]


def make_topic(partitions=1):
    topic = f"streams-{uuid.uuid4().hex[:8]}"
    body = {"topic_name": topic, "partitions_count": partitions}
    equal(requests.post(f"{ROOT}/admin/topics", json=body, timeout=30).status_code, 201)
    return topic


def produce(topic, records):
    headers = {"Content-Type": "application/vnd.kafka.json.v2+json"}
    answer = requests.post(f"{ROOT}/topics/{topic}", data=json.dumps({"records": records}), headers=headers, timeout=30)
    equal(answer.status_code, 200, answer.text)


def url(topic, **query):
    return f"{ROOT}/topics/{topic}/stream?" + urlencode({"from": "earliest", "until": "end"} | query, doseq=True)


def by_httpx(address):
    with httpx.Client(timeout=30) as client, httpx_sse.connect_sse(client, "GET", address) as source:
        return [(event.event, event.data, event.id) for event in source.iter_sse()]


def by_sseclient(address):
    with requests.get(address, headers={"Accept": "text/event-stream"}, stream=True, timeout=30) as answer:
        return [(event.event, event.data, event.id) for event in sseclient.SSEClient(answer.iter_content(None)).events()]


def lines(address):
    with httpx.Client(timeout=30) as client, client.stream("GET", address, headers={"Accept": "application/x-ndjson"}) as answer:
        equal(answer.headers["content-type"], "application/x-ndjson")
        return [json.loads(line) for line in answer.iter_lines()]


@case
def nothing_in_a_record_becomes_a_field():
    topic = make_topic()
    produce(topic, [{"key": text, "value": text} for text in NASTY])
    for parse in (by_httpx, by_sseclient):
        events = parse(url(topic))
        names = [name for name, _, _ in events]
        equal(names, ["ready"] + ["message"] * len(NASTY) + ["end"], parse.__name__)
        records = [json.loads(data) for name, data, _ in events if name == "message"]
        equal([record["value"] for record in records], NASTY, parse.__name__)
        equal(len({id for _, _, id in events}), len(NASTY) + 2, "ids differ")


@case
def names_of_events_come_from_topics_and_headers():
    topic = make_topic()
    headers = [{"key": "kind", "value": "bWFkZQ=="}], [{"key": "kind", "value": "cGluZw=="}], []
    produce(topic, [{"value": n, "headers": h} for n, h in enumerate(headers)])
    for query, expected in (({"event": "header:kind"}, ["made", "message", "message"]), ({"event": "topic"}, [topic] * 3)):
        for parse in (by_httpx, by_sseclient):
            events = parse(url(topic, data="value", **query))
            equal([name for name, _, _ in events][1:-1], expected, parse.__name__)


@case
def filters_leave_what_they_should():
    topic = make_topic()
    produce(topic, [{"key": f"user-{n % 3}", "value": {"n": n}} for n in range(30)])
    for query, expected in (
        ({"key": ['"user-1"', '"user-2"']}, [n for n in range(30) if n % 3]),
        ({"key_prefix": '"user-0'}, list(range(0, 30, 3))),
        ({"filter": "value.n % 7 == 0 && key.contains('user')"}, [0, 7, 14, 21, 28]),
        ({"filter": "value.n > 20", "limit": 2}, [21, 22]),
    ):
        values = [json.loads(data)["n"] for name, data, _ in by_httpx(url(topic, data="value", **query)) if name == "message"]
        equal(values, expected, query)


@case
def a_filtered_stream_resumes_at_every_record():
    topic = make_topic()
    produce(topic, [{"value": {"n": n}} for n in range(20)])
    query = {"filter": "value.n % 2 == 0", "data": "value"}
    events = [(data, id) for name, data, id in by_httpx(url(topic, **query)) if name == "message"]
    equal(len(events), 10)
    for at, (_, cursor) in enumerate(events):
        rest = by_sseclient(url(topic, last_event_id=cursor, **query))
        equal([data for name, data, _ in rest if name == "message"], [data for data, _ in events[at + 1:]])


@case
def batches_are_lists():
    topic = make_topic()
    produce(topic, [{"value": n} for n in range(25)])
    for parse in (by_httpx, by_sseclient):
        batches = [json.loads(data) for name, data, _ in parse(url(topic, batch=10, data="value")) if name == "batch"]
        equal(batches, [list(range(10)), list(range(10, 20)), list(range(20, 25))], parse.__name__)
    equal([len(line) for line in lines(url(topic, batch=10, data="value"))], [10, 10, 5])


@case
def lines_are_one_document_each():
    topic = make_topic()
    produce(topic, [{"key": text, "value": text} for text in NASTY])
    found = lines(url(topic))
    equal([line["@"] for line in found if "@" in line], ["ready", "end"])
    equal([line["value"] for line in found if "@" not in line], NASTY)
    equal(lines(url(topic, data="value")), NASTY, "bare lines")


@case
def cloud_events_have_what_they_need():
    topic = make_topic()
    produce(topic, [{"value": {"n": 1}}])
    event = next(line for line in lines(url(topic, data="cloudevent")) if "@" not in line)
    equal((event["specversion"], event["source"], event["data"]), ("1.0", f"/topics/{topic}/partitions/0", {"n": 1}))


@case
def websockets_subscribe_produce_and_count_credit():
    topic = make_topic()

    async def talk():
        async with websockets.connect(f"ws://{ADDRESS}/ws", subprotocols=["hydrant.v1+json"]) as socket:
            equal(socket.subprotocol, "hydrant.v1+json")
            say = lambda **message: socket.send(json.dumps(message))
            await say(type="subscribe", id="a", topic=topic, credit=4)
            equal(json.loads(await socket.recv())["type"], "ready")
            await say(type="produce", id="p", topic=topic, records=[{"value": text} for text in NASTY])
            values, produced = [], None
            while len(values) < len(NASTY) or produced is None:
                message = json.loads(await asyncio.wait_for(socket.recv(), 30))
                if message["type"] == "records":
                    equal(len(message["records"]) <= 4, True, "within the credit")
                    values += [record["value"] for record in message["records"]]
                    await say(type="credit", id="a", records=len(message["records"]))
                elif message["type"] == "produced":
                    produced = [entry["offset"] for entry in message["data"]["offsets"]]
            equal((values, produced), (NASTY, list(range(len(NASTY)))))

    asyncio.run(talk())


@case
def websockets_refuse_and_close_with_reasons():
    async def talk():
        async with websockets.connect(f"ws://{ADDRESS}/ws") as socket:
            await socket.send(json.dumps({"type": "subscribe", "id": "a", "topic": "nope"}))
            equal(json.loads(await socket.recv())["error_code"], 40401)
            await socket.send("not json")
            try:
                await socket.recv()
            except websockets.ConnectionClosed as closed:
                equal((closed.rcvd.code, "JSON" in closed.rcvd.reason), (1007, True))
            else:
                raise AssertionError("still open")

    asyncio.run(talk())


run_cases()
