// Many producers at once, each a client of its own with franz-go's defaults, each sending its next record when the last is acked.
//
// usage: many <bootstrap> <topic> <producers> <seconds> <bytes>
// Prints one line of JSON: what was acked, errors, how fair it was, and the wait for an ack.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type result struct {
	Acked           int     `json:"acked"`
	Errors          int     `json:"errors"`
	FirstError      string  `json:"first_error,omitempty"`
	PerSecond       float64 `json:"per_second"`
	SlowestByMedian float64 `json:"slowest_by_median"`
	// The wait for an ack in ms, by percentile.
	Waits map[string]float64 `json:"waits"`
}

// One producer: how long each of its records waited for its ack.
func produce(client *kgo.Client, topic string, size int, until time.Time) (waits []time.Duration, err error) {
	for value := make([]byte, size); time.Now().Before(until); {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		err = client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: value}).FirstErr()
		cancel()
		if err != nil {
			return waits, err
		}
		waits = append(waits, time.Since(began))
	}
	return waits, nil
}

func run(bootstrap, topic string, producers, seconds, size int) (result, error) {
	clients := make([]*kgo.Client, producers)
	for i := range clients {
		client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ClientID(fmt.Sprintf("many-%d", i)))
		if err != nil {
			return result{}, err
		}
		defer client.Close()
		clients[i] = client
	}
	var lock sync.Mutex
	var group sync.WaitGroup
	var all []time.Duration
	var counts []int
	var found result
	// Connecting and asking for an id is not what is measured: every producer sends one record first, not all at the same moment.
	for i, client := range clients {
		group.Add(1)
		go func() {
			defer group.Done()
			time.Sleep(time.Duration(i) * 3 * time.Second / time.Duration(producers))
			_, err := produce(client, topic, size, time.Now().Add(time.Nanosecond))
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				found.Errors++
				found.FirstError = err.Error()
			}
		}()
	}
	group.Wait()
	until := time.Now().Add(time.Duration(seconds) * time.Second)
	for _, client := range clients {
		group.Add(1)
		go func() {
			defer group.Done()
			waits, err := produce(client, topic, size, until)
			lock.Lock()
			defer lock.Unlock()
			all, counts = append(all, waits...), append(counts, len(waits))
			if err != nil {
				found.Errors++
				found.FirstError = err.Error()
			}
		}()
	}
	group.Wait()
	slices.Sort(all)
	slices.Sort(counts)
	if len(all) == 0 {
		return found, fmt.Errorf("nothing was acked: %s", found.FirstError)
	}
	ms := func(wait time.Duration) float64 { return float64(wait.Microseconds()) / 1000 }
	found.Acked, found.PerSecond = len(all), float64(len(all))/float64(seconds)
	found.SlowestByMedian = float64(counts[0]) / float64(max(counts[len(counts)/2], 1))
	at := func(share float64) float64 { return ms(all[min(len(all)-1, int(share*float64(len(all))))]) }
	found.Waits = map[string]float64{"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": at(1)}
	return found, nil
}

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: many <bootstrap> <topic> <producers> <seconds> <bytes>")
		os.Exit(2)
	}
	var numbers [3]int
	for i := range numbers {
		number, err := strconv.Atoi(os.Args[3+i])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		numbers[i] = number
	}
	found, err := run(os.Args[1], os.Args[2], numbers[0], numbers[1], numbers[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(found)
}
