"""Brokers, topics, partitions, and what is asked wrongly everywhere."""

from api import EMBEDDED, V2, ask, fails, make_topic, produce
from checks import case, equal
from hydrant import fresh


@case
def brokers_are_listed():
    found = ask("GET", "/brokers")
    equal(set(found), {"brokers"})
    equal([type(broker) for broker in found["brokers"]], [int])


@case
def topic_is_described():
    topic = make_topic(3)
    equal(topic in ask("GET", "/topics"), True, "topic is listed")
    found = ask("GET", f"/topics/{topic}")
    equal(set(found), {"name", "configs", "partitions"})
    equal(found["name"], topic)
    equal({type(value) for value in found["configs"].values()}, {str}, "types of the configuration")
    equal("cleanup.policy" in found["configs"], True, "cleanup.policy is told")
    broker = ask("GET", "/brokers")["brokers"][0]
    expected = [{"partition": partition, "leader": broker,
                 "replicas": [{"broker": broker, "leader": True, "in_sync": True}]} for partition in range(3)]
    equal(found["partitions"], expected)
    equal(ask("GET", f"/topics/{topic}/partitions"), expected)
    equal(ask("GET", f"/topics/{topic}/partitions/2"), expected[2])


@case
def partition_tells_its_offsets():
    topic = make_topic(2)
    produce(topic, [{"value": n, "partition": 1} for n in range(5)])
    equal(ask("GET", f"/topics/{topic}/partitions/0/offsets"), {"beginning_offset": 0, "end_offset": 0})
    equal(ask("GET", f"/topics/{topic}/partitions/1/offsets"), {"beginning_offset": 0, "end_offset": 5})


@case
def unknown_topics_and_partitions_have_their_codes():
    topic = make_topic(1)
    fails("GET", "/topics/nope", 404, 40403)
    for path in ("partitions", "partitions/0", "partitions/0/offsets"):
        fails("GET", f"/topics/nope/{path}", 404, 40401)
    for path in ("partitions/1", "partitions/1/offsets", "partitions/-1"):
        fails("GET", f"/topics/{topic}/{path}", 404, 40402)
    fails("GET", f"/topics/{topic}/partitions/foo", 404, 404)
    fails("GET", f"/topics/{topic}/partitions/foo/offsets", 404, 404)


@case
def topic_creation_is_checked():
    topic = make_topic(1)
    create = {"content": "application/json"}
    again = {"topic_name": topic, "partitions_count": 1}
    fails("POST", "/admin/topics", (400, 409), 40002, again, **create)
    for wrong in ({"topic_name": "with space"}, {"topic_name": fresh("t"), "partitions_count": 0},
                  {"topic_name": fresh("t"), "replication_factor": 3}):
        fails("POST", "/admin/topics", (400, 422), (40002, 422), {"partitions_count": 1, **wrong}, **create)
    fails("POST", "/admin/topics", 422, 422, {"partitions_count": 1}, **create)
    fails("POST", "/admin/topics", 400, 400, raw=b"{", **create)


@case
def trailing_slash_is_the_same_route():
    topic = make_topic(1)
    for path in ("/topics", "/brokers", f"/topics/{topic}", f"/topics/{topic}/partitions/0/offsets"):
        equal(ask("GET", f"{path}/"), ask("GET", path), path)


@case
def accept_is_negotiated():
    for accept in (V2, "*/*", "application/json", "application/*", f"text/html, {V2};q=0.9", "text/html, */*;q=0.1"):
        ask("GET", "/topics", accept=accept)
    for accept in ("text/html", "application/xml, text/plain"):
        fails("GET", "/topics", 406, 406, accept=accept)


@case
def routes_and_methods_have_an_envelope():
    topic = make_topic(1)
    for path in ("/nope", "/topics/x/y/z", "/consumers", "/consumers/g/instances"):
        fails("GET", path, 404, 404)
    for method, path in (("PUT", "/topics"), ("DELETE", "/brokers"), ("PATCH", f"/topics/{topic}/partitions"),
                         ("GET", "/consumers/g"), ("PUT", "/consumers/g/instances/i/records")):
        fails(method, path, 405, 405)


@case
def content_types_are_refused():
    topic = make_topic(1)
    body = {"records": [{"value": 1}]}
    for content in ("text/plain", "application/xml", "application/vnd.kafka.cbor.v2+json"):
        fails("POST", f"/topics/{topic}", 415, 415, body, content=content)
        fails("POST", f"/consumers/{fresh('g')}", 415, 415, {}, content=content)
    ask("POST", f"/topics/{topic}", body, content=f"{EMBEDDED['json']}; charset=utf-8")
