"""librdkafka as fast as it can: a producer, then a consumer of the same records.

Usage: bulk.py BOOTSTRAP TOPIC RECORDS BYTES [name=value ...]
The topic must be empty. Prints one line of JSON.
"""

import json
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

AT_ONCE = 10_000
QUIET_SECONDS_MAX = 30


def produce(settings, topic, records, size):
    producer, value, failed = Producer(settings), bytes(size), []

    def on_delivery(error, _):
        if error:
            failed.append(str(error))

    began = time.monotonic()
    for _ in range(records):
        while True:
            try:
                producer.produce(topic, value, on_delivery=on_delivery)
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    if producer.flush(60) or failed:
        raise SystemExit(f"not acked: {len(failed)}, the first: {failed[:1]}")
    return time.monotonic() - began


def consume(bootstrap, topic, records):
    # Without the last setting librdkafka asks for nothing during a second whenever it holds 100,000 messages: the faster the
    # server, the slower the run.
    settings = {"group.id": "bulk", "enable.auto.commit": False, "fetch.queue.backoff.ms": 10}
    consumer = Consumer({"bootstrap.servers": bootstrap, **settings})
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    began, seen = time.monotonic(), 0
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    while seen < records:
        # It waits until there are as many as asked for, so no more are asked for than there are.
        messages = consumer.consume(min(AT_ONCE, records - seen), QUIET_SECONDS_MAX)
        if not messages:
            raise SystemExit(f"{seen} of {records} records came back")
        for message in messages:
            if message.error():
                raise SystemExit(str(message.error()))
        seen += len(messages)
    took = time.monotonic() - began
    consumer.close()
    return took


def main():
    bootstrap, topic, records, size, *more = sys.argv[1:]
    records, size = int(records), int(size)
    settings = {"bootstrap.servers": bootstrap, **dict(pair.split("=", 1) for pair in more)}
    seconds_in = produce(settings, topic, records, size)
    seconds_out = consume(bootstrap, topic, records)
    mib = records * size / 2**20
    rates = {"in": records / seconds_in, "out": records / seconds_out}
    print(json.dumps({"rate": rates, "mib": {"in": mib / seconds_in, "out": mib / seconds_out}}))


if __name__ == "__main__":
    main()
