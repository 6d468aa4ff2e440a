"""A program against the package that openapi-python-client made of the document."""

import os

from hydrant_sdk.api.admin import create_topic, get_group
from hydrant_sdk.api.consumers import (
    commit_offsets,
    create_consumer,
    delete_consumer,
    read_records,
    subscribe,
)
from hydrant_sdk.api.records import produce, read_topic
from hydrant_sdk.client import Client
from hydrant_sdk.models import (
    ErrorBody,
    NewConsumer,
    NewTopic,
    Offsets,
    PartitionOffset,
    ProduceBody,
    ProduceRecord,
    Subscription,
)

TOPIC = GROUP = "sdk-python"
client = Client(base_url=f"http://{os.environ['HYDRANT_HTTP']}")


def done(answer):
    """The body of an answer that must be a success."""
    assert answer.status_code < 300, (answer.status_code, answer.content)
    return answer.parsed


done(create_topic.sync_detailed(client=client, body=NewTopic(topic_name=TOPIC, partitions_count=1)))
# Of several content types the generated code sends the last: the values are text.
records = [ProduceRecord(key="a", value="one"), ProduceRecord(key="b", value="two")]
produced = done(produce.sync_detailed(TOPIC, client=client, body=ProduceBody(records=records)))
assert [one.offset for one in produced.offsets] == [0, 1], produced

wanted = NewConsumer(name="one", format_="text", auto_offset_reset="earliest")
created = done(create_consumer.sync_detailed(GROUP, client=client, body=wanted))
instance = created.instance_id
done(subscribe.sync_detailed(GROUP, instance, client=client, body=Subscription(topics=[TOPIC])))
values = []
for _ in range(30):
    polled = done(read_records.sync_detailed(GROUP, instance, client=client, timeout=1000))
    values += [(record.key, record.value) for record in polled]
    if len(values) >= 2:
        break
assert values == [("a", "one"), ("b", "two")], values
offsets = Offsets(offsets=[PartitionOffset(topic=TOPIC, partition=0, offset=1)])
done(commit_offsets.sync_detailed(GROUP, instance, client=client, body=offsets))
about = done(get_group.sync_detailed(GROUP, client=client))
assert [one.committed_offset for one in about.offsets] == [2], about
done(delete_consumer.sync_detailed(GROUP, instance, client=client))

missing = read_topic.sync_detailed("none-such", client=client)
assert missing.status_code == 404, missing
assert isinstance(missing.parsed, ErrorBody) and missing.parsed.error_code == 40401, missing
