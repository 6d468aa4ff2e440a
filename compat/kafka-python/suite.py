"""kafka-python: producer, codecs, consumer group, admin. Runs with 3.0.12 and with 2.0.2."""

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import TopicAlreadyExistsError

import doors
import groups
from checks import Skip, case, equal, run_cases, wait_until
from hydrant import KAFKA, Instance, Record, call, fresh, http_produce, make_topic

CODECS = ("gzip", "snappy", "lz4", "zstd")


def produce(topic, records, codec=None):
    producer = KafkaProducer(bootstrap_servers=KAFKA, acks="all", linger_ms=5, compression_type=codec)
    sent = [(record, producer.send(topic, value=record[1], key=record[0], headers=list(record[2]),
                                   timestamp_ms=record[3])) for record in records]
    producer.flush(30)
    stored = []
    for (key, value, headers, timestamp), future in sent:
        at = future.get(10)
        stored.append(Record(topic, at.partition, at.offset, key, value, tuple(headers), timestamp))
    producer.close()
    return stored


def consumer(group=None):
    return KafkaConsumer(bootstrap_servers=KAFKA, group_id=group, auto_offset_reset="earliest",
                         enable_auto_commit=False, session_timeout_ms=10_000, heartbeat_interval_ms=500)


def poll(reader):
    """Polls once and flattens the batches."""
    batches = reader.poll(timeout_ms=100, max_records=500)
    return [Record(r.topic, r.partition, r.offset, r.key, r.value, tuple(r.headers), r.timestamp)
            for batch in batches.values() for r in batch]


def read(topic, count):
    reader = consumer()
    partitions = wait_until("partitions of the topic", lambda: reader.partitions_for_topic(topic))
    reader.assign([TopicPartition(topic, partition) for partition in partitions])
    records = []
    wait_until(lambda: f"{count} records, got {len(records)}",
               lambda: records.extend(poll(reader)) or len(records) >= count)
    reader.close()
    return records


class Native:
    """A group member, as `groups` wants it."""

    def __init__(self, group, topic):
        self.consumer = consumer(group)
        self.consumer.subscribe([topic])

    def poll(self):
        return poll(self.consumer)

    def assignment(self):
        return {(held.topic, held.partition) for held in self.consumer.assignment()}

    def commit(self):
        self.consumer.commit()

    def committed(self, topic, partitions):
        found = {partition: self.consumer.committed(TopicPartition(topic, partition)) for partition in partitions}
        return {partition: offset for partition, offset in found.items() if offset is not None}

    def close(self):
        self.consumer.close()


@case
def both_doors_show_the_same_records():
    doors.check_round_trip(produce, read)


@case
def every_codec_comes_out_of_both_doors():
    for codec in CODECS:
        doors.check_codec(produce, read, codec)


@case
def a_key_has_one_partition():
    doors.check_same_partition(produce)


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
def admin_creates_topics():
    name = fresh("admin")
    admin = KafkaAdminClient(bootstrap_servers=KAFKA)
    admin.create_topics([NewTopic(name, 5, 1, topic_configs={"retention.ms": "3600000"})])
    described = call("GET", f"/topics/{name}")
    equal(len(described["partitions"]), 5, "partitions over HTTP")
    equal(described["configs"]["retention.ms"], "3600000", "configuration over HTTP")
    try:
        admin.create_topics([NewTopic(name, 1, 1)])
        raise AssertionError("a topic was created twice")
    except TopicAlreadyExistsError:
        pass
    admin.delete_topics([name])
    wait_until("deleted topic is gone", lambda: name not in call("GET", "/topics"))
    admin.close()


@case
def admin_reads_commits_of_an_instance():
    topic, group = make_topic(2), fresh("admin")
    with Instance(group) as instance:
        instance.subscribe(topic)
        stored = http_produce(topic, doors.samples("admin", 20))
        instance.read(len(stored))
        instance.commit()
        ends = {record.partition: record.offset + 1 for record in stored}
        admin = KafkaAdminClient(bootstrap_servers=KAFKA)
        if hasattr(admin, "list_consumer_group_offsets"):
            found = admin.list_consumer_group_offsets(group)
        else:
            found = admin.list_group_offsets(group)[group]
        equal({entry.partition: found[entry].offset for entry in found}, ends, "commits of the group")
        admin.close()


@case
def admin_deletes_a_group_without_members():
    topic, group = make_topic(1), fresh("admin")
    stored = http_produce(topic, doors.samples("admin", 5))
    admin = KafkaAdminClient(bootstrap_servers=KAFKA)
    delete = admin.delete_groups if hasattr(admin, "delete_groups") else admin.delete_consumer_groups
    with Instance(group) as instance:
        instance.subscribe(topic)
        instance.read(len(stored))
        instance.commit()
        equal("NonEmptyGroup" in str(delete([group])), True, "group with a member is kept")
    wait_until("group is empty", lambda: call("GET", f"/admin/groups/{group}")["state"] == "Empty")
    equal("NonEmptyGroup" in str(delete([group])), False, "group without members is deleted")
    equal(group in [row["group_id"] for row in call("GET", "/admin/groups")], False, "group is listed")
    admin.close()


@case
def admin_deletes_records():
    admin = KafkaAdminClient(bootstrap_servers=KAFKA)
    if not hasattr(admin, "delete_records"):
        raise Skip("this version of the client cannot delete records")
    topic = make_topic(1)
    stored = http_produce(topic, doors.samples("admin", 9))
    partition = TopicPartition(topic, 0)
    deleted = admin.delete_records({partition: 4})
    equal(deleted[partition]["low_watermark"], 4, "low watermark")
    equal(sorted(record.offset for record in read(topic, 5)), [4, 5, 6, 7, 8], "offsets that are left")
    equal(call("GET", f"/topics/{topic}/partitions/0/offsets")["beginning_offset"], 4, "start over HTTP")
    deleted = admin.delete_records({partition: -1})
    equal(deleted[partition]["low_watermark"], len(stored), "low watermark when all is deleted")
    admin.close()


@case
def offsets_by_time():
    topic = make_topic()
    http_produce(topic, [(None, b"x", (), doors.BASE_MS + n * 1000) for n in range(10)])
    asker, partition = consumer(), TopicPartition(topic, 0)

    def ask(timestamp):
        return asker.offsets_for_times({partition: timestamp})[partition]

    equal(ask(doors.BASE_MS)[:2], (0, doors.BASE_MS), "at the first record")
    equal(ask(doors.BASE_MS + 3001)[:2], (4, doors.BASE_MS + 4000), "between two records")
    equal(ask(doors.BASE_MS + 10**9), None, "after the end")
    equal(asker.beginning_offsets([partition]), {partition: 0}, "first offset")
    equal(asker.end_offsets([partition]), {partition: 10}, "end offset")
    asker.close()


print(f"kafka-python {kafka.__version__}")
run_cases()
