"""Consumer instances: their life, what they read, what they commit, where they seek."""

import threading
import time

import doors
from api import EMBEDDED, ROOT, V2, Consumer, ask, fails, make_topic, names, positions, produce
from checks import case, equal, wait_until
from hydrant import fresh


@case
def instance_lives_and_dies():
    with Consumer() as consumer:
        equal(consumer.ask("GET", "subscription")["topics"], [], "no subscription yet")
        fails("POST", f"/consumers/{consumer.group}", 409, 40902, {"name": consumer.name})
        ask("POST", f"/consumers/{fresh('other')}", {"name": consumer.name})
    for method, path, body in (
            ("DELETE", "", None), ("POST", "/subscription", {"topics": ["t"]}), ("GET", "/subscription", None),
            ("DELETE", "/subscription", None), ("POST", "/assignments", names("t", 0)), ("GET", "/assignments", None),
            ("GET", "/records", None), ("POST", "/offsets", positions("t", p0=1)), ("GET", "/offsets", names("t", 0)),
            ("POST", "/positions", positions("t", p0=1)), ("POST", "/positions/beginning", names("t", 0)),
            ("POST", "/positions/end", names("t", 0))):
        fails(method, consumer.path + path, 404, 40403, body)
    Consumer(group=consumer.group, name=consumer.name)


@case
def settings_are_read_and_checked():
    group = f"/consumers/{fresh('settings')}"
    first, second = ask("POST", group), ask("POST", group, {})
    equal(first["instance_id"] == second["instance_id"], False, "made-up names differ")
    ask("POST", group, {"topic.metadata.refresh.interval.ms": 100, "exclude.internal.topics": True})
    ask("POST", group, {"auto.commit.enable": False, "fetch.min.bytes": "512", "consumer.request.timeout.ms": 500})
    equal(ask("POST", group, {"id": "by-id", "name": "by-name"})["instance_id"], "by-id", "id overrides name")
    for wrong, code in (({"format": "cbor"}, 422), ({"format": 7}, 422), ({"auto.offset.reset": "middle"}, 42204),
                        ({"fetch.min.bytes": 10_000_001}, 40001), ({"fetch.min.bytes": -2}, 40001)):
        fails("POST", group, 422, code, wrong)
    fails("POST", group, 400, 400, raw=b'{"name":')
    for content in (*EMBEDDED.values(), "application/json"):
        ask("POST", group, {}, content=content)


@case
def address_is_that_of_the_caller():
    group = f"/consumers/{fresh('address')}"
    made = ask("POST", group, {"name": "a"}, headers={"Host": "proxy.example:8443"})
    equal(made["base_uri"], f"http://proxy.example:8443{group}/instances/a")
    made = ask("POST", group, {"name": "b"}, headers={"X-Forwarded-Host": "public.example", "X-Forwarded-Proto": "https"})
    equal(made["base_uri"].startswith("https://public.example"), True, f"address {made['base_uri']}")
    made = ask("POST", group, {"name": "c d/ü"})
    tail = made["base_uri"].removeprefix(ROOT)
    equal(ask("GET", f"{tail}/subscription")["topics"], [], "an address with escapes works")


@case
def subscription_is_replaced_and_dropped():
    one, two = make_topic(1), make_topic(1)
    with Consumer() as consumer:
        consumer.subscribe(one)
        equal(consumer.ask("GET", "subscription")["topics"], [one])
        consumer.subscribe(two, one)
        equal(sorted(consumer.ask("GET", "subscription")["topics"]), sorted([one, two]))
        consumer.ask("DELETE", "subscription", status=204)
        equal(consumer.ask("GET", "subscription")["topics"], [])
        fails("GET", f"{consumer.path}/records", 409, 40903, accept=EMBEDDED["json"])
        consumer.assign(one, 0)
        equal(consumer.ask("GET", "assignments"), names(one, 0), "assigned after the subscription was dropped")


@case
def pattern_subscribes_to_what_it_matches():
    prefix = fresh("pattern")
    for name in (f"{prefix}-a", f"{prefix}-b", f"x-{prefix}-c"):
        ask("POST", "/admin/topics", {"topic_name": name, "partitions_count": 1}, content="application/json", status=201)
        produce(name, [{"value": name}])
    with Consumer() as consumer:
        consumer.ask("POST", "subscription", {"topic_pattern": f"^{prefix}-.*"}, status=204)
        equal(sorted(record["value"] for record in consumer.read(2)), [f"{prefix}-a", f"{prefix}-b"])
        equal(sorted(consumer.ask("GET", "subscription")["topics"]), [f"{prefix}-a", f"{prefix}-b"])
        late = f"{prefix}-late"
        ask("POST", "/admin/topics", {"topic_name": late, "partitions_count": 1}, content="application/json", status=201)
        produce(late, [{"value": late}])
        equal([record["value"] for record in consumer.read(1)], [late], "a topic that is made later")


@case
def subscription_and_assignment_exclude_each_other():
    topic = make_topic(2)
    with Consumer() as consumer:
        consumer.assign(topic, 1)
        fails("POST", f"{consumer.path}/subscription", 409, 40903, {"topics": [topic]})
        equal(consumer.ask("GET", "assignments"), names(topic, 1))
        consumer.assign(topic, 0)
        equal(consumer.ask("GET", "assignments"), names(topic, 0), "assignment is replaced")
    with Consumer() as consumer:
        fails("GET", f"{consumer.path}/records", 409, 40903, accept=EMBEDDED["json"])
        consumer.subscribe(topic)
        fails("POST", f"{consumer.path}/assignments", 409, 40903, names(topic, 0))
        for wrong in ({}, {"topics": 7}, {"topic_pattern": "["}):
            fails("POST", f"{consumer.path}/subscription", (400, 409, 422), (400, 40903, 422), wrong)
        equal(consumer.ask("GET", "subscription")["topics"], [topic], "subscription after refused ones")


@case
def first_poll_returns_records():
    topic = make_topic(3)
    produce(topic, [{"value": n, "partition": n % 3} for n in range(6)])
    for enter in (Consumer.subscribe, lambda consumer, topic: consumer.assign(topic, 0, 1, 2)):
        with Consumer() as consumer:
            enter(consumer, topic)
            equal(len(consumer.poll(5000)) > 0, True, "records in the first poll")


@case
def format_must_match():
    topic = make_topic(1)
    produce(topic, [{"value": {"a": 1}}])
    with Consumer("json") as consumer:
        consumer.subscribe(topic)
        fails("GET", f"{consumer.path}/records", 406, 40601, accept=EMBEDDED["binary"])
        fails("GET", f"{consumer.path}/records", 406, (406, 40601), accept="text/html")
        for accept in ("*/*", "application/*", "application/json", V2, f"{EMBEDDED['binary']};q=0.1, {EMBEDDED['json']}"):
            found = ask("GET", f"{consumer.path}/records?timeout=5000", accept=accept)
            equal([record["value"] for record in found], [{"a": 1}], f"records for {accept}")
            consumer.ask("POST", "positions/beginning", names(topic, 0), status=204)


@case
def poll_waits_as_told():
    topic = make_topic(1)
    with Consumer() as consumer:
        consumer.assign(topic, 0)
        begun = time.monotonic()
        equal(consumer.poll(700), [])
        took = time.monotonic() - begun
        equal(0.65 <= took < 3, True, f"an empty poll of 700 ms took {took:.2f} s")
        found = []
        waiting = threading.Thread(target=lambda: found.extend(consumer.poll(20_000)))
        begun = time.monotonic()
        waiting.start()
        produce(topic, [{"value": "now"}])
        waiting.join(30)
        took = time.monotonic() - begun
        equal([record["value"] for record in found], ["now"])
        equal(took < 5, True, f"a poll that had a record took {took:.2f} s")


@case
def max_bytes_bounds_a_poll_but_never_starves():
    topic = make_topic(1)
    produce(topic, [{"value": "x" * 998} for _ in range(20)] + [{"value": "y" * 900_000}, {"value": "z"}])
    with Consumer() as consumer:
        consumer.assign(topic, 0)
        offsets = []
        while len(offsets) < 22:
            records = consumer.poll(5000, max_bytes=3500)
            equal(len(records) > 0, True, f"records of a poll after {len(offsets)}")
            size = sum(len(record["value"]) + 2 for record in records)
            equal(size <= 3500 or len(records) == 1, True, f"{size} bytes in {len(records)} records")
            offsets += [int(record["offset"]) for record in records]
        equal(offsets, list(range(22)))
        consumer.ask("POST", "positions/beginning", names(topic, 0), status=204)
        equal(len(consumer.poll(5000, max_bytes=1)), 1, "records with max_bytes=1")


@case
def commit_keeps_the_offset_after_the_record():
    topic = make_topic(3)
    with Consumer() as consumer:
        consumer.subscribe(topic)
        produce(topic, [{"value": n, "partition": n % 2} for n in range(10)])
        consumer.read(10)
        equal(consumer.committed(topic, 0, 1, 2), {}, "before any commit")
        consumer.commit((topic, 0, 2))
        equal(consumer.committed(topic, 0, 1), {0: 3})
        consumer.ask("POST", "offsets", {"offsets": [{"topic": topic, "partition": 1, "offset": 0, "metadata": "note"}]})
        found = consumer.ask("GET", "offsets", names(topic, 1))
        equal(found, {"offsets": [{"topic": topic, "partition": 1, "offset": 1, "metadata": "note"}]})
        everything = {(0, 3), (1, 1)}
        found = consumer.ask("GET", "offsets")["offsets"]
        equal({(entry["partition"], entry["offset"]) for entry in found}, everything, "committed, asked without a body")
        found = consumer.ask("GET", f"offsets?topic={topic}&partition=1")["offsets"]
        equal([entry["offset"] for entry in found], [1], "committed, asked by query")


@case
def empty_commit_keeps_exactly_what_was_delivered():
    topic = make_topic(1)
    produce(topic, [{"value": "x" * 1000} for _ in range(10)])
    group = fresh("exact")
    with Consumer(group=group) as consumer:
        consumer.subscribe(topic)
        consumer.ask("POST", "offsets")
        equal(consumer.committed(topic, 0), {}, "commit before anything was delivered")
        delivered = 0
        for body in (None, {}):
            delivered += len(consumer.poll(5000, max_bytes=2200))
            equal(delivered < 10, True, "some records are left")
            consumer.ask("POST", "offsets", body)
            equal(consumer.committed(topic, 0), {0: delivered}, f"commit with body {body}")
        consumer.poll(5000, max_bytes=1)
        consumer.ask("POST", "offsets", {"offsets": []})
        equal(consumer.committed(topic, 0), {0: delivered}, "commit of an empty list")
    with Consumer(group=group) as consumer:
        consumer.subscribe(topic)
        found = [int(record["offset"]) for record in consumer.read(10 - delivered)]
        equal(found, list(range(delivered, 10)), "the next instance of the group")


@case
def auto_commit_keeps_what_was_delivered():
    topic = make_topic(1)
    produce(topic, [{"value": n} for n in range(6)])
    group = fresh("auto")
    with Consumer(group=group, **{"auto.commit.enable": "true"}) as consumer:
        consumer.subscribe(topic).read(6)
    produce(topic, [{"value": "new"}])
    with Consumer(group=group) as consumer:
        equal(consumer.committed(topic, 0), {0: 6}, "committed when the instance was deleted")
        equal([record["value"] for record in consumer.subscribe(topic).read(1)], ["new"])


@case
def bad_commits_are_refused():
    topic = make_topic(1)
    with Consumer() as consumer:
        consumer.subscribe(topic).poll(100)
        fails("POST", f"{consumer.path}/offsets", 404, (40401, 40402), positions("nope", p0=1))
        fails("POST", f"{consumer.path}/offsets", 404, 40402, positions(topic, p7=1))
        fails("POST", f"{consumer.path}/offsets", 400, 400, raw=b'{"offsets":')
        fails("POST", f"{consumer.path}/offsets", (400, 422), (400, 422), {"offsets": [{"topic": topic, "offset": 1}]})
        equal(consumer.committed(topic, 0), {})


@case
def seeking():
    topic = make_topic(2)
    produce(topic, [{"value": n, "partition": 0, "timestamp": doors.BASE_MS + n * 1000} for n in range(10)])
    with Consumer() as consumer:
        consumer.assign(topic, 0)

        def next_after(path, body):
            consumer.ask("POST", path, body, status=204)
            return [int(record["value"]) for record in consumer.poll(300)]

        equal(next_after("positions", positions(topic, p0=7)), [7, 8, 9])
        equal(next_after("positions/beginning", names(topic, 0)), list(range(10)))
        equal(next_after("positions/end", names(topic, 0)), [])
        at = [{"topic": topic, "partition": 0, "timestamp": "2023-11-14T22:13:26Z"}]  # BASE_MS + 6 s
        equal(next_after("positions", {"timestamps": at}), [6, 7, 8, 9])
        later = [{"topic": topic, "partition": 0, "timestamp": "2100-01-01T00:00:00Z"}]
        equal(next_after("positions", {"timestamps": later}), [], "a time after the end")
        equal(consumer.committed(topic, 0), {}, "seeking commits nothing")
        for path, body in (("positions", positions(topic, p1=0)), ("positions/beginning", names(topic, 1)),
                           ("positions/end", names(topic, 1))):
            fails("POST", f"{consumer.path}/{path}", 409, 40903, body)


@case
def undecodable_record_does_not_break_the_instance():
    topic = make_topic(1)
    produce(topic, [{"value": "good"}])
    produce(topic, [{"value": "/wBub3QganNvbg=="}], "binary")
    produce(topic, [{"value": "also good"}])
    with Consumer() as consumer:
        consumer.assign(topic, 0)
        equal([record["value"] for record in consumer.poll(2000, max_bytes=1)], ["good"], "what lies before it")
        for _ in range(2):
            fails("GET", f"{consumer.path}/records?timeout=500", (408, 422), (40801, 422), accept=EMBEDDED["json"])
        consumer.ask("POST", "positions", positions(topic, p0=2), status=204)
        equal([record["value"] for record in consumer.poll(2000)], ["also good"])


@case
def two_instances_share_a_topic():
    topic, group = make_topic(4), fresh("two")
    with Consumer(group=group) as one, Consumer(group=group) as two:
        one.subscribe(topic)
        two.subscribe(topic)

        def held(consumer):
            return {entry["partition"] for entry in consumer.ask("GET", "assignments")["partitions"]}

        wait_until(lambda: f"two shares: {held(one)} and {held(two)}",
                   lambda: len(held(one)) == len(held(two)) == 2 and held(one) | held(two) == {0, 1, 2, 3})
        produce(topic, [{"value": n, "partition": n % 4} for n in range(40)])
        found = one.read(20) + two.read(20)
        equal(sorted(int(record["value"]) for record in found), list(range(40)))
