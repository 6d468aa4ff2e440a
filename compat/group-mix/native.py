"""A librdkafka consumer as a process of its own, so that it can be killed: prints what it read."""

import sys

from confluent_kafka import Consumer

brokers, group, topic = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "session.timeout.ms": 6000,
                     "heartbeat.interval.ms": 500, "partition.assignment.strategy": "range"})
consumer.subscribe([topic])
while True:
    messages = [m for m in consumer.consume(200, 0.2) if not m.error()]
    for message in messages:
        print(message.partition(), message.offset(), message.value().decode())
    sys.stdout.flush()
    if messages:
        try:
            consumer.commit(asynchronous=False)
        except Exception:  # a rebalance: whoever has the partitions now reads again
            pass
