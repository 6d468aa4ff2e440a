"""A client of server-sent events that connects again, by the rules of EventSource or beyond."""

import json
import threading
import time

import httpx
import httpx_sse

RETRY_S = 0.2  # shorter than a browser's, for the sake of the suite


class Follower:
    """Reads in a thread; `records` has (partition, offset, value, moment of arrival).

    An EventSource stops for ever at any status but 200; with `patient` 5xx are asked again.
    """

    def __init__(self, url, patient=False):
        self.url, self.patient = url, patient
        self.records, self.statuses, self.cursor = [], [], ""
        self.broken = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping.is_set():
            headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
            try:
                with httpx.Client(timeout=30) as client, httpx_sse.connect_sse(
                        client, "GET", self.url, headers=headers) as source:
                    status = source.response.status_code
                    self.statuses.append(status)
                    if status != 200 and not (self.patient and status >= 500):
                        return
                    if status == 200:
                        self._read(source)
            except httpx.TransportError:
                self.statuses.append("broken")
            self.stopping.wait(RETRY_S)

    def _read(self, source):
        for event in source.iter_sse():
            if event.event == "message" and event.data:  # httpx-sse also tells a `retry` alone
                record = json.loads(event.data)
                self.records.append((record["partition"], record["offset"], record["value"], time.monotonic()))
            self.cursor = event.id or self.cursor
            if self.stopping.is_set():
                return

    def values(self):
        return [value for _, _, value, _ in self.records]

    def is_alive(self):
        return self.thread.is_alive()

    def stop(self):
        """Ends it with the next event."""
        self.stopping.set()
