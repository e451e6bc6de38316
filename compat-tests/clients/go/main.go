// The scenarios of SCENARIOS.md with Go libraries: <program> <library> <scenario> <bootstrap> [key=value ...]
package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

var libraries = map[string]func() Library{
	"franz-go": func() Library { return franz{} },
	"franz":    func() Library { return franz{} },
	"sarama":   func() Library { return saramaLibrary{} },
	"kafka-go": func() Library { return kafkaGo{} },
}

type scenario struct {
	run  func(*Run) string
	keys []string // beyond run and deadline
	all  bool     // part of `all`
}

var scenarios = map[string]scenario{
	"defaults":      {defaults, nil, true},
	"codecs":        {codecs, nil, true},
	"shapes":        {shapes, nil, true},
	"sizes":         {sizes, nil, true},
	"partitions":    {partitions, nil, true},
	"manual":        {manual, nil, true},
	"group":         {group, nil, true},
	"admin":         {admin, nil, true},
	"interop-write": {interopWrite, []string{"topic", "count", "codec", "profile"}, false},
	"interop-read":  {interopRead, []string{"topic", "count", "codec", "profile", "without"}, false},
	"restart":       {restart, []string{"topic", "count", "pace"}, false},
}

// Run is one scenario being run.
type Run struct {
	library           Library
	traits            Traits
	bootstrap, prefix string
	keys              map[string]string
	without           words
}

func (r *Run) topic(part string) string {
	if part == "" {
		return r.prefix
	}
	return r.prefix + "-" + part
}

func (r *Run) key(name, otherwise string) string {
	if value, ok := r.keys[name]; ok {
		return value
	}
	return otherwise
}

func (r *Run) number(name string, otherwise int) int {
	value, err := strconv.Atoi(r.key(name, strconv.Itoa(otherwise)))
	must(name, err)
	return value
}

// lack notes the word when the library lacks it.
func (r *Run) lack(word string) bool {
	if r.traits.Cannot.has(word) {
		r.without[word] = true
	}
	return r.traits.Cannot.has(word)
}

// create creates the topic; with settle=yes it waits until ListOffsets of all its partitions succeeds.
func (r *Run) create(part string, partitions int, configs map[string]string) string {
	topic := r.topic(part)
	r.admin(func(a Admin) { must("create "+topic, a.Create(topic, int32(partitions), 1, configs, false)) })
	if r.key("settle", "no") != "yes" {
		return topic
	}
	r.reader("earliest", func(reader Reader) {
		for p := range partitions {
			waitUntil(topic, 60*time.Second, func() bool {
				_, _, err := reader.Bounds(topic, int32(p))
				return err == nil
			}, func() string { return fmt.Sprint("partition ", p) })
		}
	})
	return topic
}

func usage(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\nusage: <library> <scenario> <bootstrap> [key=value ...]\n", args...)
	os.Exit(2)
}

func parse(args []string) (library, which, bootstrap string, keys map[string]string) {
	if len(args) < 3 {
		usage("three arguments are needed")
	}
	library, which, bootstrap = args[0], args[1], args[2]
	if libraries[library] == nil {
		usage("unknown library %s; there are %v", library, slices.Sorted(maps.Keys(libraries)))
	}
	wanted, known := scenarios[which]
	if !known && which != "all" {
		usage("unknown scenario %s", which)
	}
	keys = map[string]string{}
	for _, pair := range args[3:] {
		key, value, found := strings.Cut(pair, "=")
		if !found || !slices.Contains(append([]string{"run", "deadline", "settle"}, wanted.keys...), key) {
			usage("unknown key %s", pair)
		}
		keys[key] = value
	}
	if slices.Contains(wanted.keys, "topic") && keys["topic"] == "" {
		usage("topic=<name> is missing")
	}
	if keys["run"] == "" {
		random := make([]byte, 4)
		_, _ = rand.Read(random)
		keys["run"] = hex.EncodeToString(random)
	}
	if !regexp.MustCompile(`^[a-z0-9-]{1,32}$`).MatchString(keys["run"]) {
		usage("run must match [a-z0-9-]{1,32}")
	}
	if keys["deadline"] == "" {
		keys["deadline"] = "90"
	}
	return library, which, bootstrap, keys
}

// result of one scenario; failure is empty when it went well.
type result struct {
	name, details, failure string
	without                words
}

func runOne(name, libraryName, which, bootstrap string, keys map[string]string) (out result) {
	library := libraries[libraryName]()
	run := &Run{library, library.Traits(), bootstrap, which + "-" + libraryName + "-" + keys["run"], keys, words{}}
	out = result{name: name, without: run.without}
	defer func() {
		switch problem := recover().(type) {
		case nil:
		case Differs:
			out.failure = problem.text
		case *Without:
			run.without[problem.Word] = true
			out.details = "steps=0"
		default:
			out.failure = fmt.Sprintf("%v\n%s", problem, debug.Stack())
		}
	}()
	out.details = scenarios[which].run(run)
	return out
}

func ok(name, details string, without words) {
	if len(without) > 0 {
		details += " without=" + strings.Join(slices.Sorted(maps.Keys(without)), ",")
	}
	fmt.Println("ok", name, details)
}

func main() {
	library, which, bootstrap, keys := parse(os.Args[1:])
	chosen := []string{which}
	if which == "all" {
		chosen = nil
		for name, s := range scenarios {
			if s.all {
				chosen = append(chosen, name)
			}
		}
	}
	seconds, err := strconv.ParseFloat(keys["deadline"], 64)
	if err != nil {
		usage("deadline must be seconds")
	}
	results := make(chan result, len(chosen))
	var group sync.WaitGroup
	for _, name := range chosen {
		group.Go(func() { results <- runOne(name, library, name, bootstrap, keys) })
	}
	deadline := time.After(time.Duration(seconds * float64(time.Second)))
	failed, missing, pending := 0, words{}, slices.Clone(chosen)
	for range chosen {
		select {
		case <-deadline:
			fmt.Fprintf(os.Stderr, "deadline of %s s reached in %v\n", keys["deadline"], pending)
			os.Exit(1)
		case r := <-results:
			pending = slices.DeleteFunc(pending, func(name string) bool { return name == r.name })
			if r.failure != "" {
				failed++
				fmt.Fprintf(os.Stderr, "%s: %s\n", r.name, r.failure)
				continue
			}
			maps.Copy(missing, r.without)
			ok(r.name, r.details, r.without)
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
	if which == "all" {
		ok("all", fmt.Sprintf("scenarios=%d", len(chosen)), missing)
	}
}
