package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const patience = 90 * time.Second // for anything that should come at once: the machine may be slow, with other programs on it
const resets = 9                  // records written until a reader that was reset to the end sees one

func (r *Run) producer(options ProducerOptions, use func(Producer)) {
	producer := must1(r.library.Producer(r.bootstrap, options))
	defer producer.Close()
	use(producer)
}

func (r *Run) reader(reset string, use func(Reader)) {
	reader := must1(r.library.Reader(r.bootstrap, reset))
	defer reader.Close()
	use(reader)
}

func (r *Run) admin(use func(Admin)) {
	admin := must1(r.library.Admin(r.bootstrap))
	defer admin.Close()
	use(admin)
}

// sendAll sends with a producer of its own.
func (r *Run) sendAll(topic string, options ProducerOptions, records []Record) (acks []Ack) {
	r.producer(options, func(p Producer) { acks = must1(p.SendAll(topic, records)) })
	return acks
}

// read gives count records, or more when more come with the last of them.
func read(reader Reader, count int, limit time.Duration) []Record {
	var got []Record
	for end := time.Now().Add(limit); len(got) < count; {
		expectThat(fmt.Sprintf("%d records within %s", count, limit), time.Now().Before(end), len(got))
		got = append(got, must1(reader.Poll(200*time.Millisecond))...)
	}
	return got
}

// readFrom reads the whole topic from offset 0: count records and no more.
func (r *Run) readFrom(topic string, count, partitions int) (got []Record) {
	r.reader("earliest", func(reader Reader) {
		starts := map[int32]int64{}
		for p := range partitions {
			starts[int32(p)] = 0
		}
		must("assign", reader.Assign(topic, starts))
		got = read(reader, count, patience)
	})
	expect("records in "+topic, count, len(got))
	return got
}

// expectDense wants the offsets 0, 1, 2, ... in the order they came, and as acknowledged where acks are known.
func expectDense(got []Record, acks []Ack) {
	for n, r := range got {
		expect("offset", int64(n), r.Offset)
		if acks != nil {
			expect("acknowledged", acks[n], Ack{r.Partition, r.Offset})
		}
	}
}

func defaults(run *Run) string {
	variants := map[string]ProducerOptions{"": {}}
	if run.traits.Idempotence == "off by default" {
		variants["idempotent"] = ProducerOptions{Idempotent: true}
	}
	if run.traits.Cannot.has("acks by default") {
		variants["acks-0"] = ProducerOptions{NoAcks: true}
	}
	for part, options := range variants {
		if options.NoAcks {
			// Nothing tells whether a record came to a topic that is still being created.
			run.create(part, 1, nil)
		}
		defaultsWith(run, run.topic(part), options)
	}
	return fmt.Sprintf("records=1000 producers=%d", len(variants))
}

func defaultsWith(run *Run, topic string, options ProducerOptions) {
	var sent []Record
	for i := range 1000 {
		sent = append(sent, record(fmt.Appendf(nil, "key-%d", i%50), generate(i, 100)))
	}
	acks := run.sendAll(topic, options, sent)
	member := join(run, topic, topic+"-group", MemberOptions{AutoCommit: true})
	defer member.close()
	waitUntil("1000 records", patience, func() bool { return member.count() >= 1000 }, member.state)
	time.Sleep(time.Second)
	got := member.taken(0)
	expect("number of records", 1000, len(got))
	at, next := map[Ack]Record{}, map[int32]int64{}
	for _, r := range got {
		expect(fmt.Sprintf("offset in partition %d", r.Partition), next[r.Partition], r.Offset)
		next[r.Partition]++
		at[Ack{r.Partition, r.Offset}] = r
	}
	if options.NoAcks {
		// Without acknowledgements the order within the only partition must do.
		acks = nil
		for i := range sent {
			acks = append(acks, Ack{0, int64(i)})
		}
	}
	partitionOf, last := map[string]int32{}, map[string]int64{}
	for i, r := range sent {
		back, found := at[acks[i]]
		expectThat(fmt.Sprintf("record %d as acknowledged", i), found, acks[i])
		compare(fmt.Sprintf("record %d", i), r, back, nil)
		key := string(r.Key)
		if before, seen := partitionOf[key]; seen {
			expect("partition of "+key, before, back.Partition)
			expectThat("order of "+key, last[key] < back.Offset, acks[i])
		}
		partitionOf[key], last[key] = back.Partition, back.Offset
	}
}

func codecs(run *Run) string {
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		if !slices.Contains(run.traits.Codecs, codec) {
			run.without["codec-"+codec] = true
			continue
		}
		topic := run.create(codec, 1, nil)
		var sent []Record
		for i := range 200 {
			value := text(i)
			if i%2 == 1 {
				value = generate(i, 300)
			}
			sent = append(sent, record(nil, value))
		}
		acks := run.sendAll(topic, ProducerOptions{Codec: codec}, sent)
		got := run.readFrom(topic, 200, 1)
		expectDense(got, acks)
		for i := range sent {
			compare(fmt.Sprintf("%s record %d", codec, i), sent[i], got[i], nil)
		}
	}
	return "codecs=" + strings.Join(run.traits.Codecs, ",")
}

func shapes(run *Run) string {
	topic, base := run.create("create", 1, nil), nowMillis()-hourMillis
	sent := shaped(base)
	acks := run.sendAll(topic, ProducerOptions{Manual: true}, sent)
	got := run.readFrom(topic, len(sent), 1)
	expectDense(got, acks)
	run.lack("null-headers")
	run.lack("null-vs-empty")
	noTypes := run.lack("timestamp-type")
	for n := range sent {
		compare(fmt.Sprintf("record %d", n), sent[n], got[n], run.without)
		if !noTypes {
			expect("LogAppendTime", false, got[n].LogAppend)
		}
	}

	topic = run.create("append", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	sent = nil
	for n := range 10 {
		sent = append(sent, Record{Value: fmt.Append(nil, n), Timestamp: base + int64(n)*1000})
	}
	begin := nowMillis()
	run.sendAll(topic, ProducerOptions{Manual: true}, sent)
	end, before := nowMillis(), int64(0)
	for n, r := range run.readFrom(topic, 10, 1) {
		expect("order", string(sent[n].Value), string(r.Value))
		if run.lack("log-append-time") {
			continue
		}
		expectThat("timestamps within 60 s", begin-60_000 <= r.Timestamp && r.Timestamp <= end+60_000, r.Timestamp)
		expectThat("timestamps ascend", before <= r.Timestamp, r.Timestamp)
		before = r.Timestamp
		if !noTypes {
			expect("LogAppendTime", true, r.LogAppend)
		}
	}
	return "records=11"
}

func sizes(run *Run) string {
	topic := run.create("", 1, nil)
	var values [][]byte
	run.producer(ProducerOptions{MaxBytes: 4 << 20, Manual: true}, func(p Producer) {
		send := func(value []byte) ([]Ack, error) {
			return p.SendAll(topic, []Record{{Value: value, Timestamp: noTime}})
		}
		store := func(seed, n int) {
			acks := must1(send(generate(seed, n)))
			expect("ack", []Ack{{0, int64(len(values))}}, acks)
			values = append(values, generate(seed, n))
		}
		for _, n := range []int{1, 1024, 102_400, 1_000_000} {
			store(n, n)
		}
		_, err := send(generate(9, 1_100_000))
		expectRefused("1,100,000 bytes", messageTooLarge, err)
		store(5, 5)
	})
	got := run.readFrom(topic, 5, 1)
	expectDense(got, nil)
	for n := range got {
		compareBytes("value", values[n], got[n].Value, false)
	}
	return "largest=1000000"
}

func partitions(run *Run) string {
	for _, count := range []int{1, 10, 100} {
		topic := run.create(fmt.Sprint(count), count, nil)
		run.admin(func(a Admin) {
			described, _, err := a.Describe(topic)
			must("describe", err)
			slices.SortFunc(described, func(a, b Partition) int { return int(a.ID - b.ID) })
			for p := range count {
				expect("partition", int32(p), described[p].ID)
			}
		})
		sent := numbered(count, 0, 20)
		for i := range sent {
			sent[i].Key = fmt.Append(nil, sent[i].Partition)
		}
		for i, ack := range run.sendAll(topic, ProducerOptions{Manual: true}, sent) {
			expect("acknowledged", Ack{sent[i].Partition, int64(i / count)}, ack)
		}
		next := map[int32]int64{}
		for _, r := range run.readFrom(topic, 20*count, count) {
			s := next[r.Partition]
			expect("offset", s, r.Offset)
			expect("value", fmt.Sprintf("%d:%d", r.Partition, s), string(r.Value))
			expect("key", fmt.Sprint(r.Partition), string(r.Key))
			next[r.Partition]++
		}
	}
	return "partitions=1,10,100"
}

func manual(run *Run) string {
	topic, base := run.create("", 1, nil), nowMillis()-hourMillis
	var sent []Record
	for i := range 100 {
		sent = append(sent, Record{Value: fmt.Appendf(nil, "manual-%d", i), Timestamp: base + int64(i)*1000})
	}
	run.sendAll(topic, ProducerOptions{Manual: true}, sent)
	run.reader("earliest", func(reader Reader) {
		must("assign", reader.Assign(topic, map[int32]int64{0: 0}))
		first, end, err := reader.Bounds(topic, 0)
		must("bounds", err)
		expect("beginning and end", []int64{0, 100}, []int64{first, end})
		for _, start := range []int64{0, 57, 99} {
			must("seek", reader.Seek(topic, 0, start))
			for n, r := range read(reader, 100-int(start), patience) {
				expect("offset", start+int64(n), r.Offset)
				expect("value", fmt.Sprintf("manual-%d", r.Offset), string(r.Value))
			}
		}
		for _, wanted := range [][2]int64{{base, 0}, {base + 40_000, 40}, {base + 40_001, 41}, {0, 0}, {base + 1_000_000, -1}} {
			got := must1(reader.OffsetForTime(topic, 0, wanted[0]))
			expect(fmt.Sprintf("offset for base + %d", wanted[0]-base), wanted[1], got)
		}
		run.admin(func(a Admin) {
			var without *Without
			if offset, err := a.MaxTimestamp(topic, 0); !errors.As(err, &without) {
				must("max timestamp", err)
				expect("offset of the greatest timestamp", int64(99), offset)
			}
		})
		must("seek", reader.Seek(topic, 0, 41))
		expect("at 41", "manual-41", string(read(reader, 1, patience)[0].Value))
	})
	outOfRange(run, topic)
	return "records=101"
}

// outOfRange seeks beyond the end with every reset policy the library has.
func outOfRange(run *Run, topic string) {
	away := map[int32]int64{0: 1000}
	if !run.lack("reset") {
		run.reader("earliest", func(reader Reader) {
			must("assign", reader.Assign(topic, away))
			expect("reset to earliest", int64(0), read(reader, 1, patience)[0].Offset)
		})
		run.reader("latest", func(reader Reader) {
			must("assign", reader.Assign(topic, away))
			for end := time.Now().Add(time.Second); time.Now().Before(end); {
				expect("records after a reset to latest", 0, len(must1(reader.Poll(100*time.Millisecond))))
			}
			// On a busy machine the end may be found only after a record was written: then the next one is read.
			var got []Record
			last := int64(99)
			for len(got) == 0 && last < 99+resets {
				last++
				sent := []Record{{Value: fmt.Appendf(nil, "manual-%d", last), Timestamp: noTime}}
				expect("ack", []Ack{{0, last}}, run.sendAll(topic, ProducerOptions{Manual: true}, sent))
				for end := time.Now().Add(10 * time.Second); len(got) == 0 && time.Now().Before(end); {
					got = must1(reader.Poll(100 * time.Millisecond))
				}
			}
			expect("records after a reset to latest", 1, len(got))
			expect("reset to latest", fmt.Sprintf("%d manual-%d", last, last), fmt.Sprintf("%d %s", got[0].Offset, got[0].Value))
		})
	}
	if !run.lack("reset-none") {
		run.reader("none", func(reader Reader) {
			err := reader.Assign(topic, away)
			for end := time.Now().Add(60 * time.Second); err == nil && time.Now().Before(end); {
				_, err = reader.Poll(200 * time.Millisecond)
			}
			expectRefused("reset none", offsetOutOfRange, err)
		})
	}
}

func interopWrite(run *Run) string {
	topic, count := run.key("topic", ""), run.number("count", 300)
	codec, profile := run.key("codec", "none"), run.key("profile", "full")
	if !slices.Contains(run.traits.Codecs, codec) {
		panic(&Without{"codec-" + codec})
	}
	base := nowMillis() - hourMillis
	var sent []Record
	for i := range count {
		sent = append(sent, interop(i, base, profile))
	}
	for i, ack := range run.sendAll(topic, ProducerOptions{Codec: codec, Manual: true}, sent) {
		expect("acknowledged", Ack{0, int64(i)}, ack)
	}
	return fmt.Sprintf("topic=%s count=%d codec=%s profile=%s", topic, count, codec, profile)
}

func interopRead(run *Run) string {
	topic, count := run.key("topic", ""), run.number("count", 300)
	codec, profile := run.key("codec", "none"), run.key("profile", "full")
	loose := words{"timestamps": profile == "plain"}
	for word := range strings.SplitSeq(run.key("without", ""), ",") {
		loose[word] = true
	}
	for _, word := range []string{"null-headers", "null-vs-empty"} {
		if run.lack(word) {
			loose[word] = true
		}
	}
	got := run.readFrom(topic, count, 1)
	expectDense(got, nil)
	run.reader("earliest", func(reader Reader) {
		must("assign", reader.Assign(topic, map[int32]int64{0: 0}))
		_, end, err := reader.Bounds(topic, 0)
		must("bounds", err)
		expect("end offset", int64(count), end)
	})
	for i, back := range got {
		compare(fmt.Sprintf("record %d", i), interop(i, got[0].Timestamp, profile), back, loose)
		age := nowMillis() - back.Timestamp
		expectThat("timestamp within 24 hours", -24*hourMillis < age && age < 24*hourMillis, back.Timestamp)
	}
	return fmt.Sprintf("topic=%s count=%d codec=%s profile=%s", topic, count, codec, profile)
}

func restart(run *Run) string {
	topic, count := run.key("topic", ""), run.number("count", 500)
	pace := time.Duration(run.number("pace", 20)) * time.Millisecond
	idempotent := run.traits.Idempotence != "none"
	var sent []Record
	var acks []Ack
	run.producer(ProducerOptions{Idempotent: idempotent, Patient: true, Manual: true}, func(p Producer) {
		for i := range count {
			r := Record{Key: fmt.Appendf(nil, "key-%d", i), Value: text(i), Timestamp: noTime}
			ack := must1(p.SendAll(topic, []Record{r}))
			sent, acks = append(sent, r), append(acks, ack...)
			if i == 0 {
				fmt.Println("started")
			}
			time.Sleep(pace)
		}
	})
	duplicates := 0
	if idempotent {
		got := run.readFrom(topic, count, 1)
		expectDense(got, acks)
		for i := range sent {
			compare(fmt.Sprintf("record %d", i), sent[i], got[i], nil)
		}
	} else {
		run.without["idempotence"] = true
		duplicates = readWithDuplicates(run, topic, sent, acks)
	}
	return fmt.Sprintf("topic=%s count=%d duplicates=%d", topic, count, duplicates)
}

// readWithDuplicates reads a topic in which a record may stand twice in a row; returns how many do.
func readWithDuplicates(run *Run, topic string, sent []Record, acks []Ack) int {
	end := 0
	run.reader("earliest", func(reader Reader) {
		must("assign", reader.Assign(topic, map[int32]int64{0: 0}))
		_, last, err := reader.Bounds(topic, 0)
		must("bounds", err)
		end = int(last)
	})
	got := run.readFrom(topic, end, 1)
	expectDense(got, nil)
	i := -1
	for _, r := range got {
		if i < 0 || string(r.Key) != string(sent[i].Key) {
			i++
		}
		expectThat("a record that was not sent", i < len(sent), r.Offset)
		compare(fmt.Sprintf("record %d", i), sent[i], r, nil)
	}
	expect("distinct records", len(sent)-1, i)
	for i, ack := range acks {
		expect("key at the acknowledged offset", string(sent[i].Key), string(got[ack.Offset].Key))
	}
	return end - len(sent)
}
