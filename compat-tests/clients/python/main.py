"""main.py <library> <scenario> <bootstrap> [key=value ...]: see SCENARIOS.md, one folder up."""

import faulthandler
import importlib
import logging
import os
import re
import secrets
import sys
import threading
import traceback

LIBRARIES = {"confluent": "lib_confluent", "kafka-python": "lib_kafka_python", "aiokafka": "lib_aiokafka"}
ALL = ["defaults", "codecs", "shapes", "sizes", "partitions", "manual", "group", "admin"]
KEYS = {
    "interop-write": {"topic", "count", "codec", "profile"},
    "interop-read": {"topic", "count", "codec", "profile", "without"},
    "restart": {"topic", "count", "pace"},
}


class Run:
    """One scenario being run: its names and what the library could not do."""

    def __init__(self, library_name, library, scenario, bootstrap, run_id, settle=False):
        self.library, self.bootstrap, self.settle = library, bootstrap, settle
        self.prefix, self.without = f"{scenario}-{library_name}-{run_id}", set()

    def topic(self, part):
        return f"{self.prefix}-{part}" if part else self.prefix

    def create(self, part, partitions, configs=None):
        """Creates the topic; with settle=yes waits until ListOffsets of all its partitions succeeds."""
        from records import Refused, wait_until

        topic = self.topic(part)
        with self.library.admin(self) as admin:
            admin.create(topic, partitions, 1, configs or {})
        if not self.settle:
            return topic

        def answers(reader, partition):
            try:
                return reader.bounds(topic, partition) is not None
            except Refused:
                return False

        with self.library.reader(self) as reader:
            for partition in range(partitions):
                wait_until(f"{topic} {partition}", 60, lambda: answers(reader, partition))
        return topic


def usage(message):
    print(f"{message}\nusage: <library> <scenario> <bootstrap> [key=value ...]", file=sys.stderr)
    sys.exit(2)


def parse(argv):
    if len(argv) < 3:
        usage("three arguments are needed")
    library, scenario, bootstrap, *pairs = argv
    if library not in LIBRARIES:
        usage(f"unknown library {library}; there are {', '.join(LIBRARIES)}")
    if scenario not in ALL and scenario not in KEYS and scenario != "all":
        usage(f"unknown scenario {scenario}")
    known, keys = {"run", "deadline", "settle"} | KEYS.get(scenario, set()), {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key not in known:
            usage(f"unknown key {pair}")
        keys[key] = value
    if "topic" in known and "topic" not in keys:
        usage("topic=<name> is missing")
    if not re.fullmatch(r"[a-z0-9-]{1,32}", keys.setdefault("run", secrets.token_hex(4))):
        usage("run must match [a-z0-9-]{1,32}")
    return library, scenario, bootstrap, keys


def end_at(seconds, pending):
    def expire():
        print(f"deadline of {seconds} s reached in {', '.join(sorted(pending))}", file=sys.stderr)
        faulthandler.dump_traceback(sys.stderr)
        sys.stderr.flush()
        os._exit(1)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()


def main():
    name, scenario, bootstrap, keys = parse(sys.argv[1:])
    logging.basicConfig(level=logging.CRITICAL)
    pending, failed, lock = set(ALL if scenario == "all" else [scenario]), [], threading.Lock()
    end_at(float(keys.pop("deadline", "90")), pending)
    run_id, settle = keys.pop("run"), keys.pop("settle", "no") == "yes"

    import admin
    import groups
    import records
    import scenarios

    library = importlib.import_module(LIBRARIES[name]).Library()
    table = {s: getattr(scenarios, s.replace("-", "_")) for s in (*ALL[:6], *KEYS)}
    table |= {"group": groups.group, "admin": admin.admin}
    missing = set()

    def one(which):
        run = Run(name, library, which, bootstrap, run_id, settle)
        try:
            try:
                details = table[which](run, **keys)
            except records.Without as without:
                run.without.add(without.word)
                details = "steps=0"
        except Exception as failure:
            with lock:
                failed.append(which)
                print(f"{which}: {failure}", file=sys.stderr)
                if not isinstance(failure, records.Differs):
                    traceback.print_exception(failure)
        else:
            with lock:
                missing.update(run.without)
                words = f" without={','.join(sorted(run.without))}" if run.without else ""
                print(f"ok {which} {details}{words}", flush=True)
        pending.discard(which)

    threads = [threading.Thread(target=one, args=(which,), daemon=True) for which in sorted(pending)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    elif scenario == "all":
        words = f" without={','.join(sorted(missing))}" if missing else ""
        print(f"ok all scenarios={len(threads)}{words}", flush=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main()
