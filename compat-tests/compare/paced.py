"""A paced load through librdkafka: records at a fixed rate, each with its time of sending in it, so that waiting counts.

Usage: paced.py BOOTSTRAP TOPIC RATE SECONDS BYTES PRODUCERS [name=value ...]
The topic must be empty. Prints one line of JSON: percentiles of the time from sending to ack and from sending to being consumed, in ms.
"""

import json
import struct
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def percentiles(seconds):
    ordered = sorted(seconds)
    return {name: round(ordered[min(len(ordered) - 1, int(p * len(ordered)))] * 1000, 2) for name, p in PERCENTILES.items()}


def consume(consumer, stop, seen):
    while not stop.is_set():
        for message in consumer.consume(500, 0.05):
            if message.error():
                raise SystemExit(message.error())
            now, (sent,) = time.monotonic(), struct.unpack(">d", message.value()[:8])
            seen.append(now - sent)


def produce(settings, topic, rate, seconds, size, acks, errors):
    producer = Producer(settings)
    filler = bytes(max(0, size - 8))

    def on_ack(sent):
        def done(error, _):
            (errors if error else acks).append(str(error) if error else time.monotonic() - sent)

        return done

    began = time.monotonic()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        while (left := due - time.monotonic()) > 0:
            producer.poll(left)
        # The time it was due, not the time it got its turn: a producer held up is a wait too.
        producer.produce(topic, struct.pack(">d", due) + filler, on_delivery=on_ack(due))
        producer.poll(0)
    producer.flush(60)


def main():
    bootstrap, topic, rate, seconds, size, producers, *more = sys.argv[1:]
    rate, seconds, size, producers = float(rate), float(seconds), int(size), int(producers)
    settings = {"bootstrap.servers": bootstrap, **dict(pair.split("=", 1) for pair in more)}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "paced", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    stop, seen, acks, errors = threading.Event(), [], [], []
    reader = threading.Thread(target=consume, args=(consumer, stop, seen))
    reader.start()
    time.sleep(1)
    work = (settings, topic, rate / producers, seconds, size, acks, errors)
    threads = [threading.Thread(target=produce, args=work) for _ in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 10
    while len(seen) < len(acks) and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    reader.join()
    consumer.close()
    lost = len(acks) - len(seen)
    result = {"acked": len(acks), "errors": len(errors), "not_consumed": lost}
    print(json.dumps({**result, "ack": percentiles(acks), "end_to_end": percentiles(seen)}))


if __name__ == "__main__":
    main()
