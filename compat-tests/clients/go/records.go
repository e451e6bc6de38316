package main

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

const (
	offsetOutOfRange   = 1
	unknownTopic       = 3
	messageTooLarge    = 10
	invalidTopic       = 17
	topicAlreadyExists = 36
	invalidPartitions  = 37
	invalidConfig      = 40
	nonEmptyGroup      = 68
	groupIDNotFound    = 69
	fencedInstanceID   = 82

	hourMillis = 3_600_000
	noPart     = int32(-1) // the library chooses the partition
	noTime     = int64(-1) // the library chooses the timestamp
)

// Differs is what a scenario panics with when something is not as expected; the runner reports it.
type Differs struct{ text string }

// Refused is a Kafka error code from the broker.
type Refused struct {
	Code int
	Text string
}

func (r *Refused) Error() string { return fmt.Sprintf("error code %d %s", r.Code, r.Text) }

// Without says that the library itself cannot do something.
type Without struct{ Word string }

func (w *Without) Error() string { return "the library has no " + w.Word }

// Header is a record header; a nil value is null.
type Header struct {
	Name  string
	Value []byte
}

// Record is a record as sent or as read. A nil key or value is null, an empty one is not.
type Record struct {
	Key, Value []byte
	Headers    []Header
	Timestamp  int64 // milliseconds
	Partition  int32
	Offset     int64
	LogAppend  bool
}

// Ack is where an acknowledged record was stored.
type Ack struct {
	Partition int32
	Offset    int64
}

// generate is bytes(seed, n) of SCENARIOS.md: xorshift32.
func generate(seed, n int) []byte {
	x := uint32(seed) ^ 0x9E3779B9
	if x == 0 {
		x = 1
	}
	out := make([]byte, n)
	for i := range out {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		out[i] = byte(x)
	}
	return out
}

// text is text(i) of SCENARIOS.md.
func text(i int) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("value-%d-", i), i%50+1))
}

func nowMillis() int64 { return time.Now().UnixMilli() }

func fail(format string, args ...any) { panic(Differs{fmt.Sprintf(format, args...)}) }

// must ends the scenario when the library fails unexpectedly.
func must(what string, err error) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

// must1 is must for calls with a result.
func must1[T any](got T, err error) T {
	must("call", err)
	return got
}

func brief(value any) string {
	shown := fmt.Sprintf("%v", value)
	if b, ok := value.([]byte); ok {
		shown = fmt.Sprintf("%q", b)
		if b == nil {
			shown = "null"
		}
	}
	if len(shown) > 400 {
		shown = fmt.Sprintf("%s... (%d characters)", shown[:300], len(shown))
	}
	return shown
}

func expect(what string, wanted, got any) {
	if !reflect.DeepEqual(wanted, got) {
		fail("%s: expected %s, came %s", what, brief(wanted), brief(got))
	}
}

func expectThat(what string, holds bool, got any) {
	if !holds {
		fail("%s: %s", what, brief(got))
	}
}

func expectRefused(what string, code int, err error) {
	var refused *Refused
	if !errors.As(err, &refused) {
		fail("%s: expected error code %d, came %v", what, code, err)
	}
	expect(what+": error code", code, refused.Code)
}

func waitUntil(what string, limit time.Duration, holds func() bool, show func() string) {
	for end := time.Now().Add(limit); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			fail("waited %s for %s: %s", limit, what, brief(show()))
		}
	}
}

type words map[string]bool

func (w words) has(word string) bool { return w[word] }

// compare checks key, value, headers and, where it was given, the timestamp; without loosens as SCENARIOS.md says.
func compare(what string, sent, got Record, without words) {
	compareBytes(what+" key", sent.Key, got.Key, without.has("null-vs-empty"))
	compareBytes(what+" value", sent.Value, got.Value, without.has("null-vs-empty"))
	if without.has("header-order") || without.has("repeated-headers") {
		expect(what+" header names", headerNames(sent.Headers), headerNames(got.Headers))
	} else {
		expect(what+" number of headers", len(sent.Headers), len(got.Headers))
		for n, header := range sent.Headers {
			expect(what+" header name", header.Name, got.Headers[n].Name)
			compareBytes(what+" header "+header.Name, header.Value, got.Headers[n].Value, without.has("null-headers"))
		}
	}
	if sent.Timestamp != noTime && !without.has("timestamps") {
		expect(what+" timestamp", sent.Timestamp, got.Timestamp)
	}
}

func compareBytes(what string, sent, got []byte, loose bool) {
	if !bytes.Equal(sent, got) || (!loose && (sent == nil) != (got == nil)) {
		fail("%s: expected %s, came %s", what, brief(sent), brief(got))
	}
}

func headerNames(headers []Header) map[string]bool {
	names := map[string]bool{}
	for _, header := range headers {
		names[header.Name] = true
	}
	return names
}

func record(key, value []byte) Record {
	return Record{Key: key, Value: value, Partition: noPart, Timestamp: noTime}
}

// shaped are the records of scenario shapes.
func shaped(base int64) []Record {
	b := func(s string) []byte { return []byte(s) }
	rows := []Record{
		{Key: b("k0"), Value: b("v0")},
		{Value: b("no key")},
		{Key: b("k2")},
		{Key: b(""), Value: b("empty key")},
		{Key: b("k4"), Value: b("")},
		{},
		{Key: b("k6"), Value: b("v6"), Headers: []Header{{"a", b("1")}}},
		{Key: b("k7"), Value: b("v7"), Headers: []Header{{"a", b("1")}, {"b", b("2")}, {"a", b("3")}, {"a", b("1")}}},
		{Key: b("k8"), Value: b("v8"), Headers: []Header{{"empty", b("")}, {"null", nil}, {"", b("x")}}},
		{Key: b("k9"), Headers: []Header{{"why", b("deleted")}}},
		{Key: generate(10, 32), Value: generate(11, 512), Headers: []Header{{"bin", generate(12, 64)}, {"ключ", b("значение")}}},
	}
	for n := range rows {
		rows[n].Timestamp = base + int64(n)*1000
	}
	return rows
}

// interop is record i of the interop scenarios.
func interop(i int, base int64, profile string) Record {
	key := fmt.Appendf(nil, "key-%d", i)
	if profile == "plain" {
		return Record{Key: key, Value: text(i), Timestamp: noTime}
	}
	r := Record{Key: key, Value: text(i), Timestamp: base + int64(i)*1000}
	switch i % 10 {
	case 3:
		r.Key = nil
	case 7:
		r.Key = []byte{}
	case 5:
		r.Value = nil
	case 9:
		r.Value = []byte{}
	case 0:
		r.Value = generate(i, 1000)
	case 4:
		r.Timestamp -= 5000
	}
	switch i % 4 {
	case 1:
		r.Headers = []Header{{"h", fmt.Appendf(nil, "v-%d", i)}}
	case 2:
		r.Headers = []Header{{"h", []byte("a")}, {"h", []byte("b")}, {"other", []byte{}}}
	case 3:
		r.Headers = []Header{{"null", nil}, {"bin", generate(i, 16)}}
	}
	return r
}

// numbered are the records <p>:<s> for s = first.., interleaved over the partitions.
func numbered(partitions, first, count int) []Record {
	var out []Record
	for s := first; s < first+count; s++ {
		for p := range partitions {
			out = append(out, Record{Value: fmt.Appendf(nil, "%d:%d", p, s), Partition: int32(p), Timestamp: noTime})
		}
	}
	return out
}
