#!/usr/bin/env python3
"""Reads a topic as a member of a consumer group, with nothing but the standard library.

    examples/consume.py [TOPIC [GROUP]]

Commits after what it has printed. Start it twice to see the partitions shared; stop it with Ctrl-C.
"""

import json
import os
import sys
import urllib.request

TOPIC = sys.argv[1] if len(sys.argv) > 1 else "orders"
GROUP = sys.argv[2] if len(sys.argv) > 2 else "examples"
HYDRANT = os.environ.get("HYDRANT_URL", "http://localhost:8082")


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as answer:
        text = answer.read()
        return json.loads(text) if text else None


settings = {"format": "json", "auto.offset.reset": "earliest", "auto.commit.enable": "false"}
instance = call("POST", f"{HYDRANT}/consumers/{GROUP}", settings)["base_uri"]
try:
    call("POST", f"{instance}/subscription", {"topics": [TOPIC]})
    while True:
        records = call("GET", f"{instance}/records?timeout=10000")
        for record in records:
            print(record["partition"], record["offset"], record["key"], record["value"], flush=True)
        if records:
            call("POST", f"{instance}/offsets")
except KeyboardInterrupt:
    pass
finally:
    call("DELETE", instance)
