package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// event is a rebalance: "assigned" or "revoked".
type event struct {
	what       string
	partitions []int32
}

// member is a group member polled by a goroutine of its own.
type member struct {
	consumer Consumer
	calls    chan func()
	done     chan struct{}
	closing  sync.Once

	lock    sync.Mutex
	records []Record
	events  []event
	owned   []int32 // sorted
	lost    map[int32]bool
	strays  []Record // read from a partition it did not own
	failure error
}

// join makes a member and starts polling.
func join(run *Run, topic, group string, options MemberOptions) *member {
	m := &member{calls: make(chan func()), done: make(chan struct{}), lost: map[int32]bool{}}
	consumer, err := run.library.Member(run.bootstrap, topic, group, options, m.told)
	must("join", err)
	m.consumer = consumer
	go m.pump()
	return m
}

func (m *member) told(what string, partitions []int32) {
	m.lock.Lock()
	defer m.lock.Unlock()
	partitions = slices.Sorted(slices.Values(partitions))
	m.events = append(m.events, event{what, partitions})
}

func (m *member) pump() {
	for {
		select {
		case <-m.done:
			return
		case call := <-m.calls:
			call()
			continue
		default:
		}
		got, err := m.consumer.Poll(100 * time.Millisecond)
		owned := slices.Sorted(slices.Values(m.consumer.Assignment()))
		m.lock.Lock()
		for _, p := range m.owned {
			if !slices.Contains(owned, p) {
				m.lost[p] = true
			}
		}
		m.owned = owned
		for _, r := range got {
			// A library without a view of its assignment has nil here.
			if owned != nil && !slices.Contains(owned, r.Partition) {
				m.strays = append(m.strays, r)
			}
		}
		m.records = append(m.records, got...)
		if err != nil {
			m.failure = err
		}
		m.lock.Unlock()
	}
}

// call runs on the polling goroutine.
func (m *member) call(what func(Consumer) error) error {
	answer := make(chan error, 1)
	select {
	case m.calls <- func() { answer <- what(m.consumer) }:
		return <-answer
	case <-time.After(patience):
		return errors.New("the member does not come back from its poll")
	}
}

func (m *member) commit() { must("commit", m.call(Consumer.Commit)) }

func (m *member) close() {
	m.closing.Do(func() {
		_ = m.call(func(c Consumer) error { c.Close(); close(m.done); return nil })
	})
}

func (m *member) count() int { m.lock.Lock(); defer m.lock.Unlock(); return len(m.records) }

func (m *member) taken(from int) []Record {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Clone(m.records[from:])
}

func (m *member) owns() []int32 { m.lock.Lock(); defer m.lock.Unlock(); return m.owned }

func (m *member) failed() error { m.lock.Lock(); defer m.lock.Unlock(); return m.failure }

func (m *member) seen() []event { m.lock.Lock(); defer m.lock.Unlock(); return slices.Clone(m.events) }

func (m *member) state() string {
	m.lock.Lock()
	defer m.lock.Unlock()
	return fmt.Sprintf("%d records, owns %v, failure %v", len(m.records), m.owned, m.failure)
}

func states(members []*member) string {
	out := ""
	for _, m := range members {
		out += m.state() + "; "
	}
	return out
}

// waitShared waits until the members own all partitions between them, evenly.
func waitShared(partitions int, members ...*member) {
	waitUntil("equal shares", patience, func() bool {
		all := map[int32]bool{}
		for _, m := range members {
			if len(m.owns()) != partitions/len(members) {
				return false
			}
			for _, p := range m.owns() {
				all[p] = true
			}
		}
		return len(all) == partitions
	}, func() string { return states(members) })
}

// expectRead wants exactly these values since the counts in before, each read where it was owned.
func expectRead(members []*member, before []int, wanted []string) {
	fresh := func() (values []string) {
		for n, m := range members {
			for _, r := range m.taken(before[n]) {
				values = append(values, string(r.Value))
			}
		}
		return values
	}
	waitUntil(fmt.Sprint(len(wanted), " records"), patience, func() bool { return len(fresh()) >= len(wanted) },
		func() string { return states(members) })
	time.Sleep(500 * time.Millisecond)
	got := fresh()
	slices.Sort(got)
	slices.Sort(wanted)
	expect("records read by the group", wanted, got)
	for _, m := range members {
		expect("records outside the assignment", 0, len(m.strays))
	}
}

func group(run *Run) string {
	parts := "basic"
	basic(run, run.create("basic", 4, nil))
	if !run.lack("static") {
		static(run, run.create("static", 4, nil))
		parts += ",static"
	}
	if !run.lack("cooperative") {
		cooperative(run, run.create("cooperative", 4, nil))
		parts += ",cooperative"
	}
	return "parts=" + parts
}

// produce sends count records to each of four partitions and gives their values.
func produce(run *Run, topic string, first, count int) (values []string) {
	sent := numbered(4, first, count)
	run.sendAll(topic, ProducerOptions{Manual: true}, sent)
	for _, r := range sent {
		values = append(values, string(r.Value))
	}
	return values
}

func basic(run *Run, topic string) {
	groupID := topic + "-group"
	a, b := join(run, topic, groupID, MemberOptions{}), join(run, topic, groupID, MemberOptions{})
	defer a.close()
	defer b.close()
	waitShared(4, a, b)
	expectRead([]*member{a, b}, []int{0, 0}, produce(run, topic, 0, 100))
	a.commit()
	b.commit()
	b.close()
	waitUntil("A to own all", 40*time.Second, func() bool { return len(a.owns()) == 4 }, a.state)
	seen := a.count()
	expectRead([]*member{a}, []int{seen}, produce(run, topic, 100, 10))
	a.commit()
	a.close()
	expectOffsets(run, topic, groupID, 110, 0)
	wanted := produce(run, topic, 110, 10)
	expectOffsets(run, topic, groupID, 110, 10)
	c := join(run, topic, groupID, MemberOptions{})
	defer c.close()
	expectRead([]*member{c}, []int{0}, wanted)
	c.commit()
	c.close()
	expectOffsets(run, topic, groupID, 120, 0)
}

func expectOffsets(run *Run, topic, groupID string, committed, lag int64) {
	var got map[int32]int64
	run.admin(func(a Admin) { got = must1(a.Committed(groupID, topic)) })
	expect("partitions with a committed offset", 4, len(got))
	run.reader("earliest", func(reader Reader) {
		for p, offset := range got {
			_, end, err := reader.Bounds(topic, p)
			must("bounds", err)
			expect(fmt.Sprint("committed of ", p), committed, offset)
			expect(fmt.Sprint("lag of ", p), lag, end-offset)
		}
	})
}

func static(run *Run, topic string) {
	groupID := topic + "-group"
	one := join(run, topic, groupID, MemberOptions{Instance: "one"})
	defer one.close()
	two := join(run, topic, groupID, MemberOptions{Instance: "two"})
	defer two.close()
	waitShared(4, one, two)
	held, events := two.owns(), len(one.seen())
	two.close()
	again := join(run, topic, groupID, MemberOptions{Instance: "two"})
	defer again.close()
	waitUntil("the same partitions", 40*time.Second, func() bool { return slices.Equal(again.owns(), held) }, again.state)
	time.Sleep(5 * time.Second)
	expect("rebalances seen by one", 0, len(one.seen()[events:]))
	expect("partitions of two", held, again.owns())
	if run.lack("fencing") {
		run.without["static"] = true
		return
	}
	usurper := join(run, topic, groupID, MemberOptions{Instance: "two"})
	defer usurper.close()
	waitUntil("the older one to be fenced", 60*time.Second, func() bool { return again.failed() != nil }, again.state)
	expectRefused("the older one", fencedInstanceID, again.failed())
}

func cooperative(run *Run, topic string) {
	groupID := topic + "-group"
	a := join(run, topic, groupID, MemberOptions{Cooperative: true})
	defer a.close()
	waitUntil("A to own all", 40*time.Second, func() bool { return len(a.owns()) == 4 }, a.state)
	events := len(a.seen())
	b := join(run, topic, groupID, MemberOptions{Cooperative: true})
	defer b.close()
	waitShared(4, a, b)
	moved := b.owns()
	var revoked []int32
	for _, e := range a.seen()[events:] {
		if e.what == "revoked" {
			revoked = append(revoked, e.partitions...)
		}
	}
	slices.Sort(revoked)
	expect("what A gave up", moved, revoked)
	a.lock.Lock()
	expect("number of partitions A lost for a while", len(moved), len(a.lost))
	a.lock.Unlock()
	expectRead([]*member{a, b}, []int{a.count(), 0}, produce(run, topic, 0, 25))
}
