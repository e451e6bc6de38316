"""A paced load through librdkafka: records at a fixed rate, each with the time it was due in it, so that waiting counts.

Usage: paced.py BOOTSTRAP TOPICS RATE SECONDS BYTES PRODUCERS CONSUMERS [name=value ...]
TOPICS is a name, or NAME*N for NAME-0 to NAME-(N-1), sent to in turn. Every consumer reads everything from where the logs end now.
Prints one line of JSON: percentiles of the time from due to ack and from due to being consumed, in ms.
"""

import json
import struct
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
CATCH_UP_SECONDS_MAX = 15
METADATA_SECONDS_MAX = 30
ASKED_MAX = 100


def percentiles(seconds):
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {name: round(ordered[min(len(ordered) - 1, int(p * len(ordered)))] * 1000, 2) for name, p in PERCENTILES.items()}


def ends(consumer, topics):
    """Every partition at the end of its log."""
    deadline = time.monotonic() + METADATA_SECONDS_MAX
    while True:
        # A topic that was just made may take a moment to be known and to have a leader.
        try:
            known = consumer.list_topics(timeout=METADATA_SECONDS_MAX).topics
            places = [TopicPartition(topic, partition) for topic in topics for partition in known[topic].partitions]
            if len(places) >= len(topics):
                return [TopicPartition(place.topic, place.partition, end(consumer, place, len(places))) for place in places]
        except (KafkaException, KeyError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def end(consumer, place, places):
    # Many logs are of topics made for this load: nothing is in them, and a thousand questions would be a load of their own.
    return 0 if places > ASKED_MAX else consumer.get_watermark_offsets(place, timeout=METADATA_SECONDS_MAX)[1]


def consume(consumer, stop, seen, failed):
    while not stop.is_set():
        # One by one: asked for several, the library waits until it has as many.
        message = consumer.poll(0.05)
        if message is None:
            continue
        if message.error():
            failed.append(str(message.error()))
            continue
        now, (due,) = time.monotonic(), struct.unpack(">d", message.value()[:8])
        seen.append(now - due)


def produce(settings, topics, rate, seconds, size, acks, failed):
    producer = Producer(settings)
    filler = bytes(max(0, size - 8))

    def on_ack(due):
        def done(error, _):
            if error:
                failed.append(str(error))
            else:
                acks.append(time.monotonic() - due)

        return done

    began = time.monotonic()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        while (left := due - time.monotonic()) > 0:
            producer.poll(left)
        # The time it was due, not the time it got its turn: a producer held up is a wait too.
        while True:
            try:
                producer.produce(topics[number % len(topics)], struct.pack(">d", due) + filler, on_delivery=on_ack(due))
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    if left := producer.flush(60):
        failed.append(f"{left} records were not acked")


def main():
    bootstrap, topics, rate, seconds, size, producers, consumers, *more = sys.argv[1:]
    rate, seconds, size = float(rate), float(seconds), int(size)
    producers, consumers = int(producers), int(consumers)
    name, _, count = topics.partition("*")
    topics = [f"{name}-{i}" for i in range(int(count))] if count else [name]
    settings = {"bootstrap.servers": bootstrap, **dict(pair.split("=", 1) for pair in more)}
    stop, acks, failed = threading.Event(), [], []
    reading, readers = [], []
    for number in range(consumers):
        own = {"bootstrap.servers": bootstrap, "group.id": f"paced-{number}", "enable.auto.commit": False}
        consumer, seen = Consumer(own), []
        consumer.assign(ends(consumer, topics))
        readers.append((consumer, seen))
        reading.append(threading.Thread(target=consume, args=(consumer, stop, seen, failed)))
    for thread in reading:
        thread.start()
    time.sleep(2)
    work = (settings, topics, rate / producers, seconds, size, acks, failed)
    threads = [threading.Thread(target=produce, args=work) for _ in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
    while min(map(len, (seen for _, seen in readers))) < len(acks) and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    for thread in reading:
        thread.join()
    for consumer, _ in readers:
        consumer.close()
    behind = sum(max(0, len(acks) - len(seen)) for _, seen in readers)
    result = {"acked": len(acks), "errors": len(failed), "first_error": failed[:1], "not_consumed": behind}
    waits = {"ack": percentiles(acks), "end_to_end": percentiles([wait for _, seen in readers for wait in seen])}
    print(json.dumps({**result, **waits}))


if __name__ == "__main__":
    main()
