"""A native consumer and an HTTP instance in one group.

A native client is given as a class `Native(group, topic)` with
  poll() -> [Record]                     short, also serves rebalances
  assignment() -> {(topic, partition)}
  commit()                               what was polled, synchronously
  committed(topic, partitions) -> {partition: offset}
  close()                                leaves the group
"""

import threading

from checks import equal, wait_until
from doors import BASE_MS
from hydrant import Instance, fresh, http_produce, in_order, make_topic

PARTITIONS = 6


class HttpMember(Instance):
    """An instance polled by a thread of its own, since a native client may block in a rebalance."""

    def __init__(self, group, topic):
        super().__init__(group)
        self.records, self.error = [], None
        self.leaving = threading.Event()
        self.subscribe(topic)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.leaving.is_set():
                self.records += self.poll(50)
        except Exception as error:
            self.error = error

    def close(self):
        self.leaving.set()
        self.thread.join(30)
        super().close()


class Pair:
    """Both members of one group, polled as two programs would."""

    def __init__(self, native, native_first=True):
        self.topic = make_topic(PARTITIONS, "shared")
        self.group = fresh("group")
        self.all = {(self.topic, partition) for partition in range(PARTITIONS)}
        self.make_native = native
        self.native = self.http = None
        self.by_native, self.by_http = [], []
        try:
            self._join(native_first)
        except BaseException:
            self.close()
            raise

    def _join(self, native_first):
        if native_first:
            self.join_native()
            self.until("native member has all partitions", lambda: self.native.assignment() == self.all)
            self.join_http()
        else:
            self.join_http()
            self.until("HTTP member has all partitions", lambda: self.http.assignment() == self.all)
            self.join_native()
        self.settle()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for member in (self.native, self.http):
            if member:
                member.close()

    def join_native(self):
        self.native = self.make_native(self.group, self.topic)

    def join_http(self):
        self.http = HttpMember(self.group, self.topic)

    def leave_native(self):
        self.native, leaving = None, self.native
        leaving.close()

    def leave_http(self):
        self.http, leaving = None, self.http
        leaving.close()

    def step(self):
        if self.native:
            self.by_native += self.native.poll()
        if self.http:
            if self.http.error:
                raise self.http.error
            taken = len(self.http.records)
            self.by_http += self.http.records[:taken]
            del self.http.records[:taken]

    def until(self, what, probe, seconds=40):
        def ask():
            self.step()
            return probe()

        wait_until(lambda: f"{what}; {self.state()}", ask, seconds)

    def state(self):
        native = sorted(self.native.assignment()) if self.native else None
        http = sorted(self.http.assignment()) if self.http else None
        return f"native has {native}, HTTP has {http}, {len(self.by_native)} + {len(self.by_http)} records"

    def settle(self):
        """Waits until both have partitions, none twice, none left over."""

        def is_split():
            native, http = self.native.assignment(), self.http.assignment()
            return native and http and not native & http and native | http == self.all

        self.until("partitions are shared out", is_split)

    def produce(self, tag, count=120):
        """Produces records that lie on every partition; returns them as stored."""
        records = [(None, f"{tag} {n}".encode(), (("tag", tag.encode()),), BASE_MS + n, n % PARTITIONS)
                   for n in range(count)]
        return http_produce(self.topic, records)

    def expect(self, stored):
        """Waits for exactly these records, each once, at whichever member; forgets them then."""
        self.until(f"{len(stored)} records", lambda: len(self.by_native) + len(self.by_http) >= len(stored))
        equal(in_order(self.by_native + self.by_http), in_order(stored), "records of both members")
        shares = self.by_native, self.by_http
        self.by_native, self.by_http = [], []
        return shares

    def commit(self):
        for member in (self.native, self.http):
            if member:
                member.commit()

    def expect_committed(self, stored):
        """Both doors must tell the same commits: the offset after the last record of each partition."""
        ends = {record.partition: record.offset + 1 for record in in_order(stored)}
        if self.http:
            equal(self.http.committed(self.topic, range(PARTITIONS)), ends, "commits read over HTTP")
        if self.native:
            equal(self.native.committed(self.topic, range(PARTITIONS)), ends, "commits read by the native client")


def check_sharing(native):
    """Disjoint ranges, every record once between both, commits visible through both doors."""
    for native_first in (True, False):
        with Pair(native, native_first) as pair:
            stored = pair.produce("first")
            by_native, by_http = pair.expect(stored)
            if not by_native or not by_http:
                raise AssertionError(f"one member got nothing: {len(by_native)} and {len(by_http)}")
            pair.commit()
            pair.expect_committed(stored)


def check_commits_cross(native):
    """Each door alone commits, the other one reads it."""
    with Pair(native) as pair:
        stored = pair.produce("commits")
        by_native, by_http = pair.expect(stored)
        pair.native.commit()
        mine = {record.partition: record.offset + 1 for record in in_order(by_native)}
        equal(pair.http.committed(pair.topic, mine), mine, "native commits read over HTTP")
        last = in_order(by_http)[-1]
        pair.http.commit_processed(pair.topic, last.partition, last.offset)
        found = pair.native.committed(pair.topic, [last.partition])
        equal(found, {last.partition: last.offset + 1}, "HTTP commit read by the native client")


def check_native_leaves(native):
    """The instance takes over what a leaving native member had, from its commits on."""
    with Pair(native) as pair:
        pair.expect(pair.produce("together"))
        pair.commit()
        pair.leave_native()
        pair.until("HTTP member has all partitions", lambda: pair.http.assignment() == pair.all)
        stored = pair.produce("alone")
        pair.expect(stored)
        pair.commit()
        pair.expect_committed(stored)


def check_http_leaves(native):
    """The native member takes over what a deleted instance had, from its commits on."""
    with Pair(native, native_first=False) as pair:
        pair.expect(pair.produce("together"))
        pair.commit()
        pair.leave_http()
        pair.until("native member has all partitions", lambda: pair.native.assignment() == pair.all)
        stored = pair.produce("alone")
        pair.expect(stored)
        pair.commit()
        pair.expect_committed(stored)


def check_resumes(native):
    """A new member of either kind begins where the group's commits end."""
    with Pair(native) as pair:
        pair.expect(pair.produce("before"))
        pair.commit()
        pair.leave_native()
        pair.leave_http()
        stored = pair.produce("between")
        pair.join_native()
        pair.expect(stored)
        pair.commit()
        pair.leave_native()
        stored = pair.produce("after")
        pair.join_http()
        pair.expect(stored)


def check_idle_instance(native):
    """An instance that nobody polls does not hold up a native member that joins."""
    topic, group = make_topic(PARTITIONS, "idle"), fresh("idle")
    with Instance(group) as instance:
        instance.subscribe(topic)
        wait_until("HTTP member has all partitions", lambda: len(instance.assignment()) == PARTITIONS)
        member = native(group, topic)
        try:
            wait_until("native member has its share",
                       lambda: member.poll() or len(member.assignment()) == PARTITIONS // 2, 15)
        finally:
            member.close()
