"""Hydrant through nginx: live streams, breaks on either side, large bodies, links, WebSockets."""

import asyncio
import json
import os
import socket
import subprocess
import threading
import time

import httpx
import httpx_sse
import requests
import websockets

from checks import case, equal, run_cases, wait_until
from follower import Follower
from hydrant import HTTP, Instance, make_topic, restart_server
from proxy import Proxy

ROOT = f"http://{HTTP}"
JSON_V2 = "application/vnd.kafka.json.v2+json"
HEARTBEAT_S = 15
PROMPT_S = HEARTBEAT_S / 10  # before anything but the record itself could push it through
MIB = 1024 * 1024

proxy = Proxy()


def produce(topic, values, root=ROOT, headers=()):
    body = json.dumps({"records": [{"value": value, "partition": 0} for value in values]})
    answer = requests.post(f"{root}/topics/{topic}", data=body, timeout=60,
                           headers={"Content-Type": JSON_V2, **dict(headers)})
    return answer


def through(name, topic, kind="stream", **query):
    return str(httpx.URL(f"{proxy.url[name]}/topics/{topic}/{kind}", params=query))


def is_there(follower, count):
    return wait_until(lambda: f"{count} records, {len(follower.records)} are there; {follower.statuses}",
                      lambda: len(follower.records) >= count)


def worst_delay(name, topic):
    """The longest time from before a record is produced until its event is there, in seconds."""
    follower = Follower(through(name, topic, **{"from": "earliest", "heartbeat": HEARTBEAT_S}))
    worst = 0.0
    for n in range(20):
        begun = time.monotonic()
        equal(produce(topic, [n]).status_code, 200)
        is_there(follower, n + 1)
        worst = max(worst, follower.records[n][3] - begun)
    follower.stop()
    equal(follower.statuses, [200])
    return worst


@case
def events_are_prompt_with_the_defaults_of_nginx():
    for name in ("bare", "documented", "packing"):
        worst = worst_delay(name, make_topic())
        print(f"     {name}: at most {worst * 1000:.0f} ms from produce to receipt")
        equal(worst < PROMPT_S, True, f"{name}: {worst} s")


@case
def a_buffer_would_be_noticed():
    topic = make_topic()
    follower = Follower(through("deaf", topic, **{"from": "earliest", "heartbeat": 3}))
    equal(produce(topic, [1]).status_code, 200)
    time.sleep(PROMPT_S)  # what does not come can only be waited for
    equal(follower.records, [], "events that nginx keeps")
    follower.stop()


@case
def packed_events_are_events():
    topic = make_topic()
    produce(topic, range(5))
    with httpx.Client(timeout=30) as client, httpx_sse.connect_sse(
            client, "GET", through("packing", topic, **{"from": "earliest", "until": "end"})) as source:
        equal(source.response.headers.get("content-encoding"), "gzip")
        events = [(event.event, event.data) for event in source.iter_sse()]
    equal([json.loads(data)["value"] for name, data in events if name == "message"], list(range(5)))
    equal(events[-1][0], "end")


@case
def lines_of_json_and_long_polls_are_prompt():
    topic = make_topic()
    for name in ("bare", "documented", "packing"):
        with httpx.stream("GET", through(name, topic), headers={"Accept": "application/x-ndjson"}, timeout=30) as answer:
            lines = (json.loads(line) for line in answer.iter_lines())
            equal(next(lines)["@"], "ready")
            begun = time.monotonic()
            produce(topic, [name])
            found = next(line for line in lines if "@" not in line)
            equal((found["value"], time.monotonic() - begun < PROMPT_S), (name, True))
        poll = through(name, topic, "partitions/0/records", **{"offset": found["offset"] + 1, "wait": "20s"})
        answers = []
        asker = threading.Thread(target=lambda poll=poll: answers.append(requests.get(poll, timeout=60)))
        asker.start()
        begun = time.monotonic()
        wait_until("a record after the poll began", lambda: produce(topic, ["polled"]).ok and not asker.join(0.2) and answers)
        equal(answers[0].status_code, 200, answers[0].text)
        equal(answers[0].json()["records"][0]["value"], "polled")
        equal(time.monotonic() - begun < PROMPT_S, True, "long poll")


class Load:
    """Produces straight to Hydrant until `stop`; `stored` has what was acknowledged."""

    def __init__(self, topic):
        self.topic, self.stored, self.stopping = topic, [], False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        n = 0
        while not self.stopping:
            try:
                for entry in produce(self.topic, [n]).json()["offsets"]:
                    self.stored.append((entry["offset"], n))
            except (requests.RequestException, KeyError):
                time.sleep(0.05)  # it is away; whether the record is stored nobody told us
            n += 1

    def stop(self):
        self.stopping = True
        self.thread.join(60)
        return self.stored


def check_break(name, patient, interrupt):
    """Nothing is lost, repeated or out of order over a break."""
    topic = make_topic()
    load = Load(topic)
    follower = Follower(through(name, topic, **{"from": "earliest", "ids": "each"}), patient)
    for _ in range(2):
        is_there(follower, len(follower.records) + 20)
        interrupt()
    is_there(follower, len(follower.records) + 20)
    stored = load.stop()
    wait_until(lambda: f"offset {stored[-1]}, {follower.statuses}",
               lambda: follower.records[-1][1] >= stored[-1][0])
    follower.stop()
    equal([offset for _, offset, _, _ in follower.records], list(range(len(follower.records))), "offsets")
    seen = {offset: value for _, offset, value, _ in follower.records}
    equal([(offset, seen.get(offset)) for offset, _ in stored], stored)
    return follower.statuses


@case
def a_stream_goes_on_over_a_reload_of_nginx():
    statuses = check_break("bare", False, proxy.reload)
    equal(statuses.count(200) >= 2, True, statuses)


@case
def a_stream_goes_on_over_kill_9_of_hydrant():
    statuses = check_break("bare", True, lambda: restart_server("KILL"))
    equal(statuses.count(200) >= 3, True, statuses)


@case
def an_event_source_survives_502_as_documented():
    statuses = check_break("documented", False, lambda: restart_server("KILL"))
    equal(set(statuses) <= {200, "broken"}, True, statuses)


def tell_server(*command):
    """Runs a function of lib.sh."""
    lib = f"{os.environ['HYDRANT_COMPAT']}/lib.sh"
    subprocess.run(["bash", lib, *command], stdin=subprocess.DEVNULL, timeout=90, check=True)


@case
def while_hydrant_is_away_only_streams_are_told_to_wait():
    tell_server("stop_server", "KILL")
    answers = [requests.get(through("documented", "any"), headers={"Accept": accept}, timeout=30)
               for accept in ("text/event-stream", "application/json")]
    tell_server("start_server")
    equal([answer.status_code for answer in answers], [200, 502])
    equal(answers[0].headers["content-type"], "text/event-stream")
    equal(answers[0].text, "retry: 2000\n\n")


@case
def bodies_are_as_large_as_nginx_lets_them():
    topic = make_topic()
    small, large = "x" * MIB, "x" * (3 * MIB)
    answer = produce(topic, [large], proxy.url["bare"])
    equal((answer.status_code, "nginx" in answer.text), (413, True))
    for name in ("documented", "open"):
        equal(produce(topic, [n for n in range(20000)], proxy.url[name]).status_code, 200, name)
        answer = produce(topic, [small[:900_000]], proxy.url[name])
        equal(answer.status_code, 200, name)


@case
def chunked_bodies_pass():
    topic = make_topic()
    body = json.dumps({"records": [{"value": "x" * 100} for _ in range(5000)]}).encode()
    for name in ("bare", "documented", "open"):
        pieces = (body[at:at + 8192] for at in range(0, len(body), 8192))
        answer = requests.post(f"{proxy.url[name]}/topics/{topic}", data=pieces, headers={"Content-Type": JSON_V2}, timeout=60)
        equal((answer.status_code, len(answer.json()["offsets"])), (200, 5000), name)


@case
def our_413_comes_through():
    topic = make_topic()
    body = b" " * (65 * MIB)
    pieces = [lambda: body, lambda: (body[at:at + MIB] for at in range(0, len(body), MIB))]
    for make in pieces:
        answer = requests.post(f"{proxy.url['open']}/topics/{topic}", data=make(), headers={"Content-Type": JSON_V2}, timeout=120)
        equal((answer.status_code, answer.headers["content-type"]), (413, "application/vnd.kafka.v2+json"), answer.text)
        equal(answer.json()["error_code"], 413)


@case
def links_name_the_proxy():
    group = "links"
    cases = [("documented", "", proxy.url["documented"]), ("below", "/log", f"{proxy.url['below']}/log")]
    for name, prefix, expected in cases:
        root = proxy.url[name] + prefix
        answer = requests.post(f"{root}/consumers/{group}", json={"name": name, "auto.offset.reset": "earliest"}, timeout=30,
                               headers={"Content-Type": "application/vnd.kafka.v2+json"})
        base = answer.json()["base_uri"]
        equal(base, f"{expected}/consumers/{group}/instances/{name}")
        topic = make_topic()
        produce(topic, [1], root)
        v2 = {"Content-Type": "application/vnd.kafka.v2+json"}
        equal(requests.post(f"{base}/subscription", json={"topics": [topic]}, headers=v2, timeout=30).status_code, 204)
        found = []
        wait_until("the record", lambda: found.extend(requests.get(
            f"{base}/records?timeout=1000", headers={"Accept": "application/vnd.kafka.binary.v2+json"}, timeout=30).json()) or found)
        equal(requests.delete(base, headers=v2, timeout=30).status_code, 204)
        clusters = requests.get(f"{root}/v3/clusters", timeout=30).json()
        equal(clusters["metadata"]["self"], f"{expected}/v3/clusters")


@case
def a_page_behind_nginx_is_the_servers_own():
    topic = make_topic()
    origin = proxy.url["documented"]
    equal(produce(topic, [1], origin, {"Origin": origin}).status_code, 200)
    equal(produce(topic, [2], origin, {"Origin": "http://elsewhere.example"}).status_code, 403)


@case
def a_websocket_passes():
    topic = make_topic()
    produce(topic, [0, 1, 2])
    address = proxy.url["documented"].replace("http", "ws") + "/ws"

    async def talk():
        async with websockets.connect(address, subprotocols=["hydrant.v1+json"], origin=proxy.url["documented"]) as socket_:
            await socket_.send(json.dumps({"type": "subscribe", "id": "a", "topic": topic, "from": "earliest"}))
            await socket_.send(json.dumps({"type": "produce", "id": "p", "topic": topic, "records": [{"value": 3}]}))
            values = []
            while len(values) < 4:
                message = json.loads(await asyncio.wait_for(socket_.recv(), 30))
                values += [record["value"] for record in message.get("records", [])]
            equal(values, [0, 1, 2, 3])
        try:
            await websockets.connect(address, origin="http://elsewhere.example")
        except websockets.InvalidStatus as refused:
            equal(refused.response.status_code, 403)
        else:
            raise AssertionError("another origin was let in")

    asyncio.run(talk())


@case
def http_1_0_clients_read_until_the_connection_closes():
    topic = make_topic()
    produce(topic, [0, 1])
    host, port = HTTP.split(":")
    for accept in ("text/event-stream", "application/x-ndjson"):
        with socket.create_connection((host, int(port)), 30) as connection:
            target = f"/topics/{topic}/stream?from=earliest&limit=3"
            connection.sendall(f"GET {target} HTTP/1.0\r\nAccept: {accept}\r\n\r\n".encode())
            answer = b""
            while b'"offset":1' not in answer:
                answer += connection.recv(65536)
            produce(topic, [2])
            while piece := connection.recv(65536):
                answer += piece
        head, body = answer.decode().split("\r\n\r\n", 1)
        equal(head.split("\r\n")[0], "HTTP/1.0 200 OK")
        equal("transfer-encoding" in head.lower(), False, head)
        equal(body.count('"value":'), 3, body)
        equal('"limit"' in body, True, body)


try:
    run_cases()
finally:
    proxy.stop()
