"""Producing, and that what was produced is what is read: exactly."""

import base64
import json
import time

import doors
from api import EMBEDDED, Consumer, ask, b64, check_offsets, fails, make_topic, produce
from checks import case, equal


def raw_produce(topic, values):
    """Produces JSON values as they are written, one partition; returns nothing."""
    text = ",".join(f'{{"partition":0,"value":{value}}}' for value in values)
    ask("POST", f"/topics/{topic}", raw=f'{{"records":[{text}]}}'.encode(), content=EMBEDDED["json"])


def read_text(topic, count):
    """The values of a topic as the bytes that lie in the log."""
    with Consumer("binary") as consumer:
        values = [record["value"] for record in consumer.subscribe(topic).read(count)]
    return [None if value is None else base64.b64decode(value, validate=True) for value in values]


@case
def offsets_are_answered_in_order():
    topic = make_topic(3)
    records = [{"key": f"k{n}", "value": n, "partition": n % 3} for n in range(9)]
    equal(produce(topic, records), [(n % 3, n // 3) for n in range(9)])
    answer = ask("POST", f"/topics/{topic}/partitions/2", {"records": [{"value": 1}, {"value": 2}]},
                 content=EMBEDDED["json"])
    equal(check_offsets(answer, 2), [(2, 3), (2, 4)])


@case
def every_format_round_trips():
    samples = {
        "json": [({"a": [1, None, "é\u2028\\\""]}, {"id": 7}), ("key", [True, False, None])],
        "binary": [(b64(bytes(range(256))), b64(b"\xff\x00")), (b64(b""), b64(b""))],
        "text": [("schlüssel", "zwei\nzeilen\t\u0000"), ("", "")],
    }
    for kind, pairs in samples.items():
        topic = make_topic(1)
        produce(topic, [{"key": key, "value": value} for key, value in pairs], kind)
        with Consumer(kind) as consumer:
            found = consumer.subscribe(topic).read(len(pairs))
            equal([(record["key"], record["value"]) for record in found],
                  [(_as_read(key), _as_read(value)) for key, value in pairs], kind)
            equal(set(found[0]), {"topic", "key", "value", "partition", "offset", "timestamp"}, "fields of a record")


def _as_read(value):
    return json.loads(json.dumps(value), parse_int=str, parse_float=str)


@case
def falsy_json_and_tombstones_are_exact():
    topic = make_topic(1)
    raw_produce(topic, ["0", "false", '""', "{}", "[]", '"null"', "null"])
    equal(read_text(topic, 7), [b"0", b"false", b'""', b"{}", b"[]", b'"null"', None])
    with Consumer() as consumer:
        values = [record["value"] for record in consumer.subscribe(topic).read(7)]
        equal(values, ["0", False, "", {}, [], "null", None])
    missing = make_topic(1)
    produce(missing, [{"key": "k"}])
    equal(read_text(missing, 1), [None], "record without a value")


@case
def numbers_keep_every_digit():
    numbers = ["12345678901234567890123456789", "0.1000000000000000055511151231257827", "1e400", "-0", "1.0", "1.50",
               "9007199254740993", "1E-7", "-1.7976931348623157e+308"]
    topic = make_topic(1)
    raw_produce(topic, numbers + [f'{{"n":[{",".join(numbers)}]}}'])
    equal(read_text(topic, 10)[:9], [number.encode() for number in numbers], "bytes in the log")
    with Consumer() as consumer:
        values = [record["value"] for record in consumer.subscribe(topic).read(10)]
    equal([str(value) for value in values[:9]], numbers, "numbers")
    equal([str(value) for value in values[9]["n"]], numbers, "nested numbers")


@case
def json_is_kept_compact_and_in_order():
    topic = make_topic(1)
    raw_produce(topic, ['{ "z" : 1 ,\n "a" : [ 1 , 2 ] , "s" : " kept  inside " }'])
    equal(read_text(topic, 1), [b'{"z":1,"a":[1,2],"s":" kept  inside "}'])


@case
def headers_and_timestamps_round_trip():
    topic = make_topic(1)
    headers = [{"key": "trace", "value": b64(b"abc")}, {"key": "trace", "value": b64(b"\x00\xff")},
               {"key": "empty", "value": ""}, {"key": "null", "value": None}, {"key": "", "value": b64(b"x")}]
    records = [{"value": 1, "headers": headers, "timestamp": doors.BASE_MS}, {"value": 2, "timestamp": 0},
               {"value": 3, "headers": []}]
    produce(topic, records)
    with Consumer() as consumer:
        first, second, third = consumer.subscribe(topic).read(3)
    equal((first["headers"], first["timestamp"]), (headers, doors.BASE_MS))
    equal((second["timestamp"], "headers" in second), (0, False), "timestamp 0 and no headers")
    equal(abs(int(third["timestamp"]) - time.time() * 1000) < 60_000, True, "timestamp of the server")


@case
def bad_bodies_are_refused_as_a_whole():
    topic = make_topic(1)
    cases = [
        (b"{", 400, 400, "json"), (b'{"records":[{"value":1},]}', 400, 400, "json"), (b"\xff", 400, 400, "json"),
        (b'{"records":7}', (400, 422), (400, 422), "json"), (b'{"records":[7]}', (400, 422), (400, 422), "json"),
        (b"", 422, 422, "json"), (b"null", (400, 422), (400, 422), "json"), (b"{}", 422, 422, "json"),
        (b'{"records":[]}', 422, 422, "json"),
        (b'{"records":[{"value":1},{"valur":2}]}', 422, 422, "json"),
        (b'{"records":[{"value":1,"partition":"x"}]}', (400, 422), (400, 422), "json"),
        (b'{"records":[{"value":1,"timestamp":"yesterday"}]}', (400, 422), (400, 422), "json"),
        (b'{"records":[{"value":1,"headers":[{"key":"h","value":"%%%"}]}]}', 400, 400, "json"),
        (b'{"records":[{"value":"QUI="},{"value":"no base64!"}]}', 400, 400, "binary"),
        (b'{"records":[{"value":"QUI"}]}', 400, 400, "binary"), (b'{"records":[{"value":7}]}', 400, 400, "binary"),
        (b'{"records":[{"key":{},"value":"QUI="}]}', 400, 400, "binary"),
        (b'{"records":[{"value":7}]}', 400, 400, "text"),
    ]
    for raw, status, code, kind in cases:
        fails("POST", f"/topics/{topic}", status, code, raw=raw, content=EMBEDDED[kind])
    equal(ask("GET", f"/topics/{topic}/partitions/0/offsets")["end_offset"], 0, "records stored by refused requests")


@case
def unknown_targets_are_refused():
    topic = make_topic(1)
    body = {"records": [{"value": 1}]}
    fails("POST", "/topics/nope", 404, 40401, body, content=EMBEDDED["json"])
    fails("POST", "/topics/nope/partitions/0", 404, 40401, body, content=EMBEDDED["json"])
    fails("POST", f"/topics/{topic}/partitions/1", 404, 40402, body, content=EMBEDDED["json"])
    fails("POST", f"/topics/{topic}/partitions/foo", 404, 404, body, content=EMBEDDED["json"])
    equal("nope" in ask("GET", "/topics"), False, "topic was created by a refused request")


@case
def too_large_record_fails_alone():
    topic = make_topic(1)
    records = [{"value": "before"}, {"value": "x" * 1_500_000}, {"value": "after"}]
    entries = ask("POST", f"/topics/{topic}", {"records": records}, content=EMBEDDED["json"])["offsets"]
    equal([entry["error_code"] for entry in entries], [None, 50002, None], "errors by record")
    equal([entry["offset"] for entry in entries], [0, None, 1], "offsets by record")
    equal(read_text(topic, 2), [b'"before"', b'"after"'])
