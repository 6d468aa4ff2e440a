"""confluent-kafka: producer, consumer group, admin, and a server that is killed."""

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import doors
import groups
from checks import case, equal, run_cases, wait_until
from hydrant import (HTTP, KAFKA, HttpError, Instance, Record, call, fresh, http_produce, in_order, make_topic,
                     restart_server)

CODECS = ("gzip", "snappy", "lz4", "zstd")


def produce(topic, records, codec="none", **options):
    """Produces with idempotence, as is usual today; returns the records as acknowledged."""
    producer = Producer({"bootstrap.servers": KAFKA, "enable.idempotence": True, "linger.ms": 5,
                         "compression.type": codec, "partitioner": "murmur2_random", **options})
    stored = {}

    def delivered(n, record):
        def report(error, message):
            stored[n] = error or Record(topic, message.partition(), message.offset(), *record)
        return report

    for n, (key, value, headers, timestamp) in enumerate(records):
        producer.produce(topic, value, key, headers=list(headers), timestamp=timestamp,
                         on_delivery=delivered(n, (key, value, tuple(headers), timestamp)))
    equal(producer.flush(30), 0, "records that are not acknowledged")
    refused = [error for error in stored.values() if not isinstance(error, Record)]
    equal(refused, [], "records that are refused")
    return [stored[n] for n in range(len(records))]


def consumer(group, **options):
    return Consumer({"bootstrap.servers": KAFKA, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "session.timeout.ms": 10_000, **options})


def record_of(message):
    if message.error():
        raise KafkaException(message.error())
    return Record(message.topic(), message.partition(), message.offset(), message.key(), message.value(),
                  tuple(message.headers() or ()), message.timestamp()[1])


def read(topic, count):
    """Reads a topic from its beginning without a group's help."""
    reader = consumer(fresh("read"))
    found = reader.list_topics(topic, 10).topics[topic].partitions
    reader.assign([TopicPartition(topic, partition, 0) for partition in found])
    records = []
    wait_until(lambda: f"{count} records, got {len(records)}",
               lambda: records.extend(map(record_of, reader.consume(500, 0.2))) or len(records) >= count)
    reader.close()
    return records


class Native:
    """A group member, as `groups` wants it."""

    def __init__(self, group, topic):
        self.consumer = consumer(group)
        self.consumer.subscribe([topic])

    def poll(self):
        return [record_of(message) for message in self.consumer.consume(500, 0.1)]

    def assignment(self):
        return {(held.topic, held.partition) for held in self.consumer.assignment()}

    def commit(self):
        self.consumer.commit(asynchronous=False)

    def committed(self, topic, partitions):
        found = self.consumer.committed([TopicPartition(topic, partition) for partition in partitions], 10)
        return {entry.partition: entry.offset for entry in found if entry.offset >= 0}

    def close(self):
        self.consumer.close()


def admin():
    return AdminClient({"bootstrap.servers": KAFKA})


@case
def both_doors_show_the_same_records():
    doors.check_round_trip(produce, read)


@case
def null_header_values_survive():
    topic = make_topic()
    headers = (("null", None), ("empty", b""), ("null", None))
    stored = produce(topic, [(b"k", b"v", headers, doors.BASE_MS)])
    stored += http_produce(topic, [(b"k", b"v", headers, doors.BASE_MS)])
    equal(read(topic, 2), stored)


@case
def every_codec_comes_out_of_both_doors():
    for codec in CODECS:
        doors.check_codec(produce, read, codec)


@case
def a_key_has_one_partition():
    doors.check_same_partition(produce)


@case
def acknowledgement_levels():
    for acks in ("0", "1", "all"):
        topic = make_topic()
        producer = Producer({"bootstrap.servers": KAFKA, "acks": acks})
        for n in range(10):
            producer.produce(topic, str(n).encode())
        equal(producer.flush(30), 0, f"records left with acks={acks}")
        equal([record.value for record in read(topic, 10)], [str(n).encode() for n in range(10)])


@case
def group_shares_partitions_with_an_instance():
    groups.check_sharing(Native)


@case
def commits_cross_the_doors():
    groups.check_commits_cross(Native)


@case
def instance_takes_over_from_native():
    groups.check_native_leaves(Native)


@case
def native_takes_over_from_instance():
    groups.check_http_leaves(Native)


@case
def members_resume_at_the_commit():
    groups.check_resumes(Native)


@case
def idle_instance_does_not_hold_up_the_group():
    groups.check_idle_instance(Native)


@case
def admin_creates_and_deletes_topics():
    name = fresh("admin")
    client = admin()
    client.create_topics([NewTopic(name, 5, 1, config={"retention.ms": "3600000"})])[name].result(10)
    described = call("GET", f"/topics/{name}")
    equal(len(described["partitions"]), 5, "partitions over HTTP")
    equal(described["configs"]["retention.ms"], "3600000", "configuration over HTTP")
    equal(len(client.list_topics(name, timeout=10).topics[name].partitions), 5, "partitions by metadata")
    try:
        client.create_topics([NewTopic(name, 1, 1)])[name].result(10)
        raise AssertionError("a topic was created twice")
    except KafkaException as error:
        equal(error.args[0].name(), "TOPIC_ALREADY_EXISTS")
    client.delete_topics([name])[name].result(10)
    wait_until("deleted topic is gone", lambda: name not in client.list_topics(timeout=10).topics)
    try:
        call("GET", f"/topics/{name}")
        raise AssertionError("deleted topic is still there over HTTP")
    except HttpError as error:
        equal(error.status, 404)


@case
def metadata_is_the_same_through_both_doors():
    make_topic(3)
    found = admin().list_topics(timeout=10)
    over_http = set(call("GET", "/topics"))
    equal({name for name in over_http if not name.startswith("__")},
          {name for name in found.topics if not name.startswith("__")}, "topics")
    equal(call("GET", "/brokers")["brokers"], sorted(found.brokers), "brokers")


@case
def offsets_by_time():
    topic = make_topic(2)
    records = [(None, str(n).encode(), (), doors.BASE_MS + n * 1000, n % 2) for n in range(20)]
    http_produce(topic, records)
    asker = consumer(fresh("times"))

    def ask(*times):
        found = asker.offsets_for_times([TopicPartition(topic, p, at) for p, at in enumerate(times)], 10)
        return [entry.offset for entry in found]

    equal(ask(doors.BASE_MS, doors.BASE_MS), [0, 0])
    equal(ask(doors.BASE_MS + 4000, doors.BASE_MS + 4001), [2, 2], "times on and between records")
    equal(ask(doors.BASE_MS + 10**9, doors.BASE_MS + 10**9), [-1, -1], "times after the end")
    equal(asker.get_watermark_offsets(TopicPartition(topic, 0), 10), (0, 10), "watermarks")
    bounds = call("GET", f"/topics/{topic}/partitions/0/offsets")
    equal((bounds["beginning_offset"], bounds["end_offset"]), (0, 10), "watermarks over HTTP")
    asker.close()


@case
def seek():
    topic = make_topic()
    stored = http_produce(topic, [(None, str(n).encode(), (), doors.BASE_MS) for n in range(30)])
    reader = consumer(fresh("seek"))
    reader.assign([TopicPartition(topic, 0, 20)])
    equal(record_of(wait_until("a record", lambda: reader.poll(0.2))), stored[20])
    reader.seek(TopicPartition(topic, 0, 7))
    equal(record_of(wait_until("a record", lambda: reader.poll(0.2))), stored[7])
    reader.close()


@case
def kill_and_restart_keep_everything():
    topic, group = make_topic(4, "durable"), fresh("durable")
    stored = produce(topic, doors.samples("before", 80))
    stored += http_produce(topic, doors.samples("http", 80))
    reader = Native(group, topic)
    records = []
    wait_until("all records", lambda: records.extend(reader.poll()) or len(records) >= len(stored))
    reader.commit()
    reader.close()
    ends = {record.partition: record.offset + 1 for record in in_order(stored)}
    instance = Instance(group)
    instance.subscribe(topic)
    done = http_produce(topic, doors.samples("done", 20))
    equal(in_order(instance.read(len(done))), in_order(done), "records before the kill")
    instance.commit()
    ends |= {record.partition: record.offset + 1 for record in in_order(done)}
    open_ = http_produce(topic, doors.samples("open", 20))
    equal(in_order(instance.read(len(open_))), in_order(open_), "records delivered and not committed")
    restart_server("KILL")
    equal(call("GET", f"/topics/{topic}")["name"], topic, "topic after the restart")
    stored = in_order(stored + done + open_)
    equal(in_order(read(topic, len(stored))), stored, "records after the restart")
    equal(instance.base_uri, f"http://{HTTP}{instance.path}", "address of the instance")
    equal(instance.committed(topic, range(4)), ends, "commits after the restart")
    newer = http_produce(topic, doors.samples("after", 40))
    found = instance.read(len(open_ + newer))
    equal(in_order(found), in_order(open_ + newer), "what was not committed comes again, then the rest")
    instance.commit()
    instance.close()
    reader = Native(group, topic)
    last = produce(topic, doors.samples("last", 40))
    records = []
    wait_until("the last records", lambda: records.extend(reader.poll()) or len(records) >= len(last))
    equal(in_order(records), in_order(last), "records of a native member after the restart")
    reader.close()


@case
def producer_and_member_outlive_a_restart():
    topic, group = make_topic(4, "outlive"), fresh("outlive")
    member, instance = Native(group, topic), Instance(group)
    instance.subscribe(topic)
    producer = Producer({"bootstrap.servers": KAFKA, "enable.idempotence": True, "linger.ms": 0,
                         "reconnect.backoff.max.ms": 500})
    acknowledged, seen = [], []

    def report(error, message):
        if error:
            raise KafkaException(error)
        acknowledged.append((message.partition(), message.offset(), message.value()))

    def send(begin, end):
        for n in range(begin, end):
            producer.produce(topic, str(n).encode(), partition=n % 4, on_delivery=report)
        producer.poll(0)

    def all_seen():
        found = member.poll() + instance.poll(20)
        seen.extend((record.partition, record.offset, record.value) for record in found)
        return set(seen) == set(acknowledged)

    send(0, 200)
    equal(producer.flush(30), 0, "records left before the kill")
    wait_until("all records before the kill", all_seen, 40)
    send(200, 300)
    restart_server("KILL")
    send(300, 400)
    equal(producer.flush(40), 0, "records left after the kill")
    values = sorted(int(value) for _, _, value in acknowledged)
    equal(values, list(range(400)), "acknowledged records")
    wait_until(lambda: f"all records, {len(set(seen))} of {len(set(acknowledged))}", all_seen, 60)
    stored = [(record.partition, record.offset, record.value) for record in read(topic, 400)]
    equal(sorted(stored), sorted(acknowledged), "log: every record once")
    member.close()
    instance.close()


run_cases()
