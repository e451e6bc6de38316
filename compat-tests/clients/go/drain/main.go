// Consumers that each read a whole topic from its beginning, all at once, each a client of its own with franz-go's defaults.
//
// usage: drain <bootstrap> <topic> <consumers> <records>
// Each ends when it has that many records. Prints one line of JSON: how fast, how even, and the wait for the first record.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// How long a consumer waits for its next records before it gives up.
const quietMax = 60 * time.Second

type result struct {
	Records          int     `json:"records"`
	Seconds          float64 `json:"seconds"`
	MibPerSecond     float64 `json:"mib_per_second"`
	FirstMs          float64 `json:"first_ms"`
	FastestBySlowest float64 `json:"fastest_by_slowest"`
}

type read struct {
	bytes        int
	first, whole time.Duration
}

// One consumer: what it read, and when it had its first and its last record.
func drain(bootstrap, topic string, records int) (read, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return read{}, err
	}
	defer client.Close()
	began, found, seen := time.Now(), read{}, 0
	for seen < records {
		ctx, cancel := context.WithTimeout(context.Background(), quietMax)
		fetches := client.PollFetches(ctx)
		cancel()
		if failed := fetches.Errors(); len(failed) > 0 {
			return found, fmt.Errorf("after %d of %d records: %w", seen, records, failed[0].Err)
		}
		if seen == 0 && fetches.NumRecords() > 0 {
			found.first = time.Since(began)
		}
		fetches.EachRecord(func(record *kgo.Record) { found.bytes += len(record.Value) })
		seen += fetches.NumRecords()
	}
	found.whole = time.Since(began)
	return found, nil
}

func run(bootstrap, topic string, consumers, records int) (result, error) {
	found, failures := make([]read, consumers), make([]error, consumers)
	var group sync.WaitGroup
	for i := range consumers {
		group.Add(1)
		go func() {
			defer group.Done()
			found[i], failures[i] = drain(bootstrap, topic, records)
		}()
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		return result{}, err
	}
	bytes := 0
	firsts, wholes := []time.Duration{}, []time.Duration{}
	for _, one := range found {
		bytes += one.bytes
		firsts, wholes = append(firsts, one.first), append(wholes, one.whole)
	}
	slices.Sort(firsts)
	slowest := slices.Max(wholes).Seconds()
	return result{
		Records:          records * consumers,
		Seconds:          slowest,
		MibPerSecond:     float64(bytes) / (1 << 20) / slowest,
		FirstMs:          float64(firsts[len(firsts)/2].Microseconds()) / 1000,
		FastestBySlowest: slices.Min(wholes).Seconds() / slowest,
	}, nil
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: drain <bootstrap> <topic> <consumers> <records>")
		os.Exit(2)
	}
	consumers, err := strconv.Atoi(os.Args[3])
	records, other := strconv.Atoi(os.Args[4])
	if err = errors.Join(err, other); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	found, err := run(os.Args[1], os.Args[2], consumers, records)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(found)
}
