"""A command-line consumer as a group member: its lines are read by threads as they come."""

import subprocess
import threading

from checks import wait_until
from hydrant import Instance


class LineConsumer:
    """Runs a command that prints a line by record and tells its assignment on standard error.

    A subclass gives `parse_record(line) -> Record` and `parse_assignment(line)`, which returns a
    set of (topic, partition), or None for a line about something else. The command commits by
    itself, shortly after what it printed.
    """

    def __init__(self, group, topic, command):
        self.group, self.topic = group, topic
        self.records, self.ends, self.assigned = [], {}, set()
        self.said = []
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.threads = [threading.Thread(target=self._read, args=args, daemon=True)
                        for args in ((self.process.stdout, self._take_record),
                                     (self.process.stderr, self._take_notice))]
        for thread in self.threads:
            thread.start()

    def _read(self, stream, take):
        for line in stream:
            take(line.rstrip("\n"))

    def _take_record(self, line):
        self.records.append(self.parse_record(line))

    def _take_notice(self, line):
        self.said.append(line)
        assigned = self.parse_assignment(line)
        if assigned is not None:
            self.assigned = assigned

    def poll(self):
        if self.process.poll() is not None:
            raise AssertionError(f"consumer ended with {self.process.returncode}: {self.said[-5:]}")
        taken = len(self.records)
        records, self.records[:taken] = self.records[:taken], []
        for record in records:
            self.ends[record.partition] = record.offset + 1
        return records

    def assignment(self):
        return self.assigned

    def commit(self):
        """Waits until the group has what the command committed by itself."""
        def is_committed():
            return self.committed(self.topic, self.ends) == self.ends
        wait_until(lambda: f"commits {self.ends}, found {self.committed(self.topic, self.ends)}", is_committed, 15)

    def committed(self, topic, partitions):
        with Instance(self.group) as viewer:  # not subscribed, so no member
            return viewer.committed(topic, partitions)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        for thread in self.threads:
            thread.join(5)
