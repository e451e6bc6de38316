"""Group members and scenario 7."""

import queue
import threading
import time

from records import *


class Member:
    """A group member polled by a thread of its own, because most libraries heartbeat and rebalance inside poll.

    `records` is everything read, `events` the rebalances as ("assigned" | "revoked", set of partitions), `owned` the
    present assignment, `failure` what ended it.
    """

    def __init__(self, run, topics, group, **options):
        self.records, self.events, self.owned, self.failure = [], [], set(), None
        self.strays, self.lost, self.library = [], set(), run.library
        self._calls, self._done = queue.Queue(maxsize=16), threading.Event()
        self._consumer = run.library.consumer(run, group, self._rebalanced, **options)
        self._consumer.subscribe(topics)
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def _rebalanced(self, what, partitions):
        self.events.append((what, set(partitions)))

    def _pump(self):
        while not self._done.is_set():
            try:
                while True:
                    self._calls.get_nowait()()
            except queue.Empty:
                pass
            if self._done.is_set():
                return
            try:
                got = self._consumer.poll(0.1)
            except Exception as failure:  # kept for the scenario, which decides whether it was expected
                self.failure = failure
                time.sleep(0.05)
                continue
            owned = set(self._consumer.assignment())
            self.lost |= self.owned - owned
            self.owned = owned
            self.strays += [r for r in got if r.partition not in owned]
            self.records += got

    def state(self):
        return f"{len(self.records)} records, owns {self.owned}, failure {self.failure!r}"

    def call(self, what):
        """Runs `what(consumer)` on the polling thread."""
        answer = queue.Queue(maxsize=1)

        def run():
            try:
                answer.put((what(self._consumer), None))
            except Exception as failure:  # handed to the caller below
                answer.put((None, failure))

        self._calls.put(run)
        result, failure = answer.get(timeout=90)
        if failure is not None:
            raise failure
        return result

    def commit(self):
        self.call(lambda consumer: consumer.commit())

    def close(self):
        """Ends the member the way the library ends it: a dynamic member leaves, a static one does not."""
        if self._done.is_set():
            return

        def stop(consumer):
            self._done.set()
            consumer.close()

        self.call(stop)
        self._thread.join(90)


def wait_shared(members, partitions):
    """Until the members own all partitions between them, evenly."""
    each = partitions // len(members)

    def settled():
        sets = [m.owned for m in members]
        return all(len(s) == each for s in sets) and len(set().union(*sets)) == partitions

    wait_until(f"{each} partitions each", 90, settled, lambda: [m.state() for m in members])


def expect_read(members, before, wanted):
    """Together the members read exactly `wanted` since the lengths `before`, each record where it was owned."""

    def fresh():
        return [r.value for m, n in zip(members, before) for r in m.records[n:]]

    wait_until(f"{len(wanted)} records", 90, lambda: len(fresh()) >= len(wanted), lambda: [m.state() for m in members])
    time.sleep(0.5)
    expect("records read by the group", sorted(wanted), sorted(fresh()))
    for member in members:
        expect("records outside the assignment", [], member.strays)


def group(run):
    words = []
    for part, scenario in (("basic", basic), ("static", static), ("cooperative", cooperative)):
        if part in run.library.cannot:
            run.without.add(part)
        else:
            scenario(run, run.create(part, 4))
            words.append(part)
    return "parts=" + ",".join(words)


def produce(run, topic, first, count):
    """`count` records to each of the four partitions; returns their values."""
    sent = numbered(4, first, count)
    with run.library.producer(run) as producer:
        producer.send_all(topic, sent)
    return [r.value for r in sent]


def basic(run, topic):
    group_id = f"{topic}-group"
    a, b = Member(run, [topic], group_id), Member(run, [topic], group_id)
    try:
        wait_shared([a, b], 4)
        expect_read([a, b], [0, 0], produce(run, topic, 0, 100))
        a.commit()
        b.commit()
        b.close()
        wait_until("A to own all", 40, lambda: len(a.owned) == 4, a.state)
        seen = len(a.records)
        expect_read([a], [seen], produce(run, topic, 100, 10))
        a.commit()
    finally:
        a.close()
        b.close()
    expect_offsets(run, topic, group_id, 110, 0)
    wanted = produce(run, topic, 110, 10)
    expect_offsets(run, topic, group_id, 110, 10)
    c = Member(run, [topic], group_id)
    try:
        expect_read([c], [0], wanted)
        c.commit()
    finally:
        c.close()
    expect_offsets(run, topic, group_id, 120, 0)


def expect_offsets(run, topic, group_id, committed, lag):
    with run.library.admin(run) as admin:
        got = admin.committed(group_id, topic)
    expect("committed", {p: committed for p in range(4)}, got)
    with run.library.reader(run) as reader:
        ends = {p: reader.bounds(topic, p)[1] for p in range(4)}
    expect("lag", {p: lag for p in range(4)}, {p: ends[p] - got[p] for p in range(4)})


def static(run, topic):
    group_id = f"{topic}-group"
    members = [Member(run, [topic], group_id, instance=name) for name in ("one", "two")]
    one, two = members
    try:
        wait_shared([one, two], 4)
        held, events = set(two.owned), len(one.events)
        two.close()
        again = Member(run, [topic], group_id, instance="two")
        members.append(again)
        wait_until("the same partitions", 40, lambda: again.owned == held, again.state)
        time.sleep(5)
        expect("rebalances seen by one", [], one.events[events:])
        expect("partitions of two", held, again.owned)
        if "fencing" in run.library.cannot:
            run.without.add("static")
            return
        members.append(Member(run, [topic], group_id, instance="two"))
        wait_until("the older one to be fenced", 60, lambda: fenced(again, topic), again.state)
    finally:
        for member in members:
            member.close()


def fenced(member, topic):
    """Whether the member has ended with FENCED_INSTANCE_ID; anything else it ends with is a failure."""
    failure = member.failure
    if failure is None and member.library.fenced_at == "commit":
        try:
            member.call(lambda consumer: consumer.commit_at(topic, {min(member.owned): 0}))
        except Refused as refused:
            failure = refused
    if failure is not None:
        expect("failure of the older one", FENCED_INSTANCE_ID, getattr(failure, "code", failure))
    return failure is not None


def cooperative(run, topic):
    group_id = f"{topic}-group"
    a = Member(run, [topic], group_id, cooperative=True)
    members = [a]
    try:
        wait_until("A to own all", 40, lambda: len(a.owned) == 4, a.state)
        events = len(a.events)
        b = Member(run, [topic], group_id, cooperative=True)
        members.append(b)
        wait_shared([a, b], 4)
        revoked = [parts for what, parts in a.events[events:] if what == "revoked" and parts]
        expect("what A gave up", set(b.owned), set().union(*revoked))
        expect("what A lost for a while", set(b.owned), a.lost)
        expect_read([a, b], [len(a.records), 0], produce(run, topic, 0, 25))
    finally:
        for member in members:
            member.close()
