"""The HTTP binding in, the Kafka binding out, each by the official SDK."""

import json

import requests
from checks import case, equal, run_cases
from cloudevents.conversion import to_binary, to_json, to_structured
from cloudevents.http import CloudEvent, from_json
from cloudevents.kafka import KafkaMessage, from_binary, from_structured
from hydrant import HTTP, http_read, make_topic

ATTRIBUTES = {"type": "order.placed", "source": "/shop/é 1", "subject": "100% \"sure\"",
              "partitionkey": "customer-17", "datacontenttype": "application/json"}
DATA = {"amount": 12.5, "name": "é"}


def post(topic, headers, body):
    answer = requests.post(f"http://{HTTP}/topics/{topic}/records", data=body, headers=headers, timeout=30)
    assert answer.ok, f"{answer.status_code} {answer.text}"
    return answer


def message(record):
    """The record as the SDK wants a message of a Kafka client; its key becomes `partitionkey`."""
    return KafkaMessage(headers=dict(record.headers), key=record.key.decode(), value=record.value)


def same(found, sent, *ignored):
    def kept(event):
        return {name: value for name, value in event.get_attributes().items() if name not in ignored}

    equal(kept(found), kept(sent), "attributes")
    equal(found.data, sent.data, "data")


@case
def binary_mode():
    topic, event = make_topic(), CloudEvent(ATTRIBUTES, DATA)
    answer = post(topic, *to_binary(event))
    equal(answer.status_code, 201)
    record, = http_read(topic, 1)
    equal(record.key, b"customer-17")
    same(from_binary(message(record)), event)


@case
def structured_mode():
    topic, event = make_topic(), CloudEvent(ATTRIBUTES, DATA)
    equal(post(topic, *to_structured(event)).status_code, 201)
    record, = http_read(topic, 1)
    equal(record.key, b"customer-17")
    # The SDK overwrites this attribute with the record header `content-type`.
    same(from_structured(message(record)), event, "datacontenttype")


@case
def batched_mode():
    topic = make_topic()
    events = [CloudEvent({**ATTRIBUTES, "partitionkey": f"k{n}"}, {"n": n}) for n in range(3)]
    body = b"[" + b",".join(to_json(event) for event in events) + b"]"
    answer = post(topic, {"content-type": "application/cloudevents-batch+json"}, body)
    equal([entry["offset"] for entry in answer.json()["records"]], [0, 1, 2])
    records = http_read(topic, 3)
    equal([record.key for record in records], [b"k0", b"k1", b"k2"])
    for record, event in zip(records, events, strict=True):
        # The SDK overwrites this attribute with the record header `content-type`.
        same(from_structured(message(record)), event, "datacontenttype")


def read_batch(topic):
    answer = requests.get(f"http://{HTTP}/topics/{topic}/records", timeout=30,
                          headers={"accept": "application/cloudevents-batch+json"})
    assert answer.ok, f"{answer.status_code} {answer.text}"
    return [from_json(json.dumps(event)) for event in answer.json()]


@case
def events_of_every_mode_are_read_as_a_batch():
    topic, event = make_topic(), CloudEvent(ATTRIBUTES, DATA)
    post(topic, *to_binary(event))
    post(topic, *to_structured(event))
    post(topic, {"content-type": "application/cloudevents-batch+json"}, b"[" + to_json(event) + b"]")
    picture = CloudEvent({**ATTRIBUTES, "datacontenttype": "image/png"}, bytes(range(256)))
    post(topic, *to_binary(picture))
    read = read_batch(topic)
    equal(len(read), 4)
    for found in read[:3]:
        same(found, event)
    same(read[3], picture)


@case
def binary_data_stays_bytes():
    topic = make_topic()
    event = CloudEvent({**ATTRIBUTES, "datacontenttype": "image/png"}, bytes(range(256)))
    post(topic, *to_binary(event))
    record, = http_read(topic, 1)
    equal(record.value, bytes(range(256)))


run_cases()
