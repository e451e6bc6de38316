package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// steps is scenario admin under way.
type steps struct {
	run                                 *Run
	admin                               Admin
	member                              *member
	topic, other, dry, missing, groupID string
}

func admin(run *Run) string {
	s := &steps{run: run, topic: run.topic(""), other: run.topic("default"), dry: run.topic("dry"),
		missing: run.topic("missing"), groupID: run.topic("") + "-group"}
	s.admin = must1(run.library.Admin(run.bootstrap))
	defer s.admin.Close()
	defer func() {
		if s.member != nil {
			s.member.close()
		}
	}()
	done := 0
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"describe-cluster", s.describeCluster},
		{"create", s.create},
		{"create-errors", s.createErrors},
		{"list", s.list},
		{"describe", s.describe},
		{"describe-configs", s.describeConfigs},
		{"alter-configs", s.alterConfigs},
		{"create-partitions", s.createPartitions},
		{"delete-records", s.deleteRecords},
		{"describe-producers", s.describeProducers},
		{"describe-log-dirs", s.describeLogDirs},
		{"describe-group", s.describeGroup},
		{"delete-nonempty-group", s.deleteNonemptyGroup},
		{"list-offsets", s.listOffsets},
		{"alter-offsets", s.alterOffsets},
		{"delete-offsets", s.deleteOffsets},
		{"delete-group", s.deleteGroup},
		{"delete-topic", s.deleteTopic},
	} {
		err := named(step.name, step.run)
		var without *Without
		if errors.As(err, &without) {
			run.without[step.name] = true
			continue
		}
		must("step "+step.name, err)
		done++
	}
	return fmt.Sprintf("steps=%d", done)
}

// named puts the step's name in front of what it panics with.
func named(name string, step func() error) error {
	defer func() {
		if problem := recover(); problem != nil {
			if differs, ok := problem.(Differs); ok {
				problem = Differs{"step " + name + ": " + differs.text}
			}
			panic(problem)
		}
	}()
	return step()
}

func (s *steps) describeCluster() error {
	id, nodes, controller, err := s.admin.Cluster()
	if err != nil {
		return err
	}
	expectThat("controller among the nodes", slices.Contains(nodes, controller), nodes)
	if id == "" && s.run.traits.Cannot.has("cluster-id") {
		return &Without{"cluster-id"}
	}
	expectThat("cluster id", id != "", id)
	return nil
}

func (s *steps) create() error {
	must("create", s.admin.Create(s.topic, 3, 1, map[string]string{"retention.ms": "3600000", "cleanup.policy": "delete"}, false))
	must("create", s.admin.Create(s.other, -1, -1, nil, false))
	waitUntil("both topics", 15*time.Second, func() bool {
		listed := must1(s.admin.List())
		return listed[s.topic] && listed[s.other]
	}, func() string { return "" })
	return nil
}

func (s *steps) createErrors() error {
	expectRefused("existing", topicAlreadyExists, s.admin.Create(s.topic, 3, 1, nil, false))
	expectRefused("bad name", invalidTopic, s.admin.Create("bad name!", 1, 1, nil, false))
	expectRefused("bad config value", invalidConfig, s.admin.Create(s.dry, 1, 1, map[string]string{"retention.ms": "abc"}, false))
	expectRefused("unknown config", invalidConfig, s.admin.Create(s.dry, 1, 1, map[string]string{"no.such.config": "1"}, false))
	expectRefused("0 partitions", invalidPartitions, s.admin.Create(s.dry, 0, 1, nil, false))
	err := s.admin.Create(s.dry, 1, 1, nil, true)
	var without *Without
	if !errors.As(err, &without) {
		must("validate only", err)
	}
	return err
}

func (s *steps) list() error {
	listed := must1(s.admin.List())
	expectThat("both listed", listed[s.topic] && listed[s.other], "")
	expectThat("validated only, not listed", !listed[s.dry], "")
	return nil
}

func (s *steps) partitionIDs() (ids []int32) {
	parts, _, err := s.admin.Describe(s.topic)
	must("describe", err)
	for _, p := range parts {
		ids = append(ids, p.ID)
	}
	slices.Sort(ids)
	return ids
}

func (s *steps) describe() error {
	parts, id, err := s.admin.Describe(s.topic)
	must("describe", err)
	_, nodes, _, err := s.admin.Cluster()
	must("cluster", err)
	expect("partitions", []int32{0, 1, 2}, s.partitionIDs())
	for _, p := range parts {
		expectThat("leader", slices.Contains(nodes, p.Leader), p.Leader)
		expectThat("replicas", len(p.Replicas) > 0 && len(p.InSync) > 0, p)
	}
	expectThat("topic id", id == "" || strings.Trim(id, "A=-0") != "", id)
	_, _, err = s.admin.Describe(s.missing)
	expectRefused("unknown topic", unknownTopic, err)
	return nil
}

func (s *steps) describeConfigs() error {
	configs := must1(s.admin.Configs(s.topic))
	expect("retention.ms", Config{"3600000", false, false, false}, configs["retention.ms"])
	expect("max.message.bytes", Config{"1048588", true, false, false}, configs["max.message.bytes"])
	_, err := s.admin.Configs(s.missing)
	expectRefused("unknown topic", unknownTopic, err)
	return nil
}

func (s *steps) alterConfigs() error {
	must("alter", s.admin.Alter(s.topic, map[string]string{"max.message.bytes": "2000000"}, []string{"retention.ms"}))
	shown := func() string {
		configs := must1(s.admin.Configs(s.topic))
		return fmt.Sprint(configs["max.message.bytes"], configs["retention.ms"])
	}
	wanted := fmt.Sprint(Config{"2000000", false, false, false}, Config{"604800000", true, false, false})
	waitUntil("the altered configs", 10*time.Second, func() bool { return shown() == wanted }, shown)
	expectRefused("bad value", invalidConfig, s.admin.Alter(s.topic, map[string]string{"retention.ms": "abc"}, nil))
	expect("configs after a refusal", wanted, shown())
	return nil
}

func (s *steps) createPartitions() error {
	must("grow", s.admin.Grow(s.topic, 5))
	waitUntil("5 partitions", 10*time.Second, func() bool { return len(s.partitionIDs()) == 5 }, func() string { return "" })
	expect("partitions", []int32{0, 1, 2, 3, 4}, s.partitionIDs())
	expectRefused("to 5 again", invalidPartitions, s.admin.Grow(s.topic, 5))
	expectRefused("to 4", invalidPartitions, s.admin.Grow(s.topic, 4))
	expectRefused("unknown topic", unknownTopic, s.admin.Grow(s.missing, 5))
	return nil
}

func (s *steps) deleteRecords() error {
	var sent []Record
	for i := range 20 {
		sent = append(sent, Record{Value: fmt.Append(nil, i), Timestamp: noTime})
	}
	s.run.sendAll(s.topic, ProducerOptions{Manual: true}, sent)
	low, err := s.admin.DeleteRecords(s.topic, 0, 12)
	if err != nil {
		return err
	}
	expectThat("low watermark", low == 12 || low == -1, low)
	s.run.reader("earliest", func(reader Reader) {
		must("assign", reader.Assign(s.topic, map[int32]int64{0: 12}))
		first, end, err := reader.Bounds(s.topic, 0)
		must("bounds", err)
		expect("beginning and end", []int64{12, 20}, []int64{first, end})
		for n, r := range read(reader, 8, patience) {
			expect("what is left", int64(12+n), r.Offset)
		}
	})
	_, err = s.admin.DeleteRecords(s.topic, 0, 1000)
	expectRefused("before 1000", offsetOutOfRange, err)
	return nil
}

func (s *steps) describeProducers() error {
	sequences, err := s.admin.Producers(s.topic, 0)
	if err == nil {
		expect("last sequences", []int32{19}, sequences)
	}
	return err
}

func (s *steps) describeLogDirs() error {
	found, err := s.admin.LogDirs(s.topic)
	if err == nil {
		expect("partitions in the log dirs", map[int32]bool{0: true, 1: true, 2: true, 3: true, 4: true}, found)
	}
	return err
}

func (s *steps) describeGroup() error {
	s.member = join(s.run, s.topic, s.groupID, MemberOptions{})
	wanted := s.partitionIDs()
	waitUntil("the assignment", patience, func() bool { return len(s.member.owns()) == len(wanted) }, s.member.state)
	shown := func() string { return fmt.Sprint(must1(s.admin.Group(s.groupID))) }
	stable := fmt.Sprint(Group{"Stable", "consumer", [][]int32{wanted}})
	waitUntil("the group", 10*time.Second, func() bool { return shown() == stable }, shown)
	expectThat("group listed", must1(s.admin.Groups())[s.groupID], s.groupID)
	return nil
}

func (s *steps) deleteNonemptyGroup() error {
	expectRefused("delete", nonEmptyGroup, s.admin.DeleteGroup(s.groupID))
	return nil
}

func (s *steps) listOffsets() error {
	must("commit", s.member.call(func(c Consumer) error { return c.CommitAt(s.topic, map[int32]int64{0: 15}) }))
	s.member.close()
	state := func() string { return must1(s.admin.Group(s.groupID)).State }
	waitUntil("Empty", 10*time.Second, func() bool { return state() == "Empty" }, state)
	expect("committed", map[int32]int64{0: 15}, must1(s.admin.Committed(s.groupID, s.topic)))
	return nil
}

func (s *steps) alterOffsets() error {
	if err := s.admin.AlterOffsets(s.groupID, s.topic, map[int32]int64{0: 13}); err != nil {
		return err
	}
	expect("altered", map[int32]int64{0: 13}, must1(s.admin.Committed(s.groupID, s.topic)))
	return nil
}

func (s *steps) deleteOffsets() error {
	if err := s.admin.DeleteOffsets(s.groupID, s.topic, 0); err != nil {
		return err
	}
	expect("deleted", 0, len(must1(s.admin.Committed(s.groupID, s.topic))))
	return nil
}

func (s *steps) deleteGroup() error {
	must("delete", s.admin.DeleteGroup(s.groupID))
	expectThat("group gone", !must1(s.admin.Groups())[s.groupID], s.groupID)
	expectRefused("unknown group", groupIDNotFound, s.admin.DeleteGroup(s.groupID))
	return nil
}

func (s *steps) deleteTopic() error {
	// A broker may still answer what a closed member sent last, behind its waiting fetch: a metadata request that would
	// create the topic again.
	time.Sleep(time.Second)
	must("delete", s.admin.Delete(s.topic))
	must("delete", s.admin.Delete(s.other))
	waitUntil("both gone", 15*time.Second, func() bool {
		listed := must1(s.admin.List())
		return !listed[s.topic] && !listed[s.other]
	}, func() string { return "" })
	expectRefused("again", unknownTopic, s.admin.Delete(s.topic))
	return nil
}
