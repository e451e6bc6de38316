package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// kafkaGo is segmentio's kafka-go. Without: `idempotence`, `static`, `cooperative`, `reset` (a reader beyond the end waits) and
// `timestamp-type` (there are none); `log-append-time` (its reader shows the producer's time), `null-vs-empty` and
// `null-headers` (its reader shows null for empty; its writer is right); `delete-records`, `describe-producers`, `describe-log-dirs` (no such calls); of `create-errors`
// validate only. Topic ids are not shown. Its Writer asks for no acknowledgements and spreads keys over partitions by
// default: the scenarios set RequireAll and the Hash balancer, and `defaults` runs once more with acks=0.
type kafkaGo struct{}

func (kafkaGo) Traits() Traits {
	return Traits{[]string{"none", "gzip", "snappy", "lz4", "zstd"}, "none", words{"static": true, "cooperative": true,
		"reset": true, "timestamp-type": true, "null-vs-empty": true, "null-headers": true, "log-append-time": true, "acks by default": true}}
}

func kafkaGoRefused(err error) error {
	var several kafka.WriteErrors
	if errors.As(err, &several) {
		for _, one := range several {
			if one != nil {
				return kafkaGoRefused(one)
			}
		}
	}
	var code kafka.Error
	if errors.As(err, &code) {
		return &Refused{int(code), err.Error()}
	}
	var large kafka.MessageTooLargeError
	if errors.As(err, &large) {
		return errors.New("refused by the library itself")
	}
	return err
}

func (kafkaGo) Producer(bootstrap string, o ProducerOptions) (Producer, error) {
	p := &kafkaGoProducer{}
	p.inner = &kafka.Writer{Addr: kafka.TCP(bootstrap), AllowAutoTopicCreation: true, RequiredAcks: kafka.RequireAll,
		Balancer: &kafka.Hash{}, Completion: p.completed}
	if o.NoAcks {
		p.inner.RequiredAcks = kafka.RequireNone
	}
	if o.Manual {
		p.inner.Balancer = kafka.BalancerFunc(func(m kafka.Message, _ ...int) int { return int(m.WriterData.(place).partition) })
	}
	if o.MaxBytes > 0 {
		p.inner.BatchBytes = int64(o.MaxBytes)
	}
	if o.Patient {
		// Every record is awaited: without this each waits a second for others.
		p.inner.BatchTimeout = 10 * time.Millisecond
		p.inner.MaxAttempts = 200
	}
	if o.Codec != "" {
		p.inner.Compression = map[string]kafka.Compression{"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4,
			"zstd": kafka.Zstd}[o.Codec]
	}
	return p, nil
}

// place tells which record of SendAll a message is.
type place struct {
	index     int
	partition int32
}

type kafkaGoProducer struct {
	inner *kafka.Writer
	lock  sync.Mutex
	acks  []Ack
}

func (p *kafkaGoProducer) completed(messages []kafka.Message, err error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, m := range messages {
		p.acks[m.WriterData.(place).index] = Ack{int32(m.Partition), m.Offset}
	}
}

func (p *kafkaGoProducer) SendAll(topic string, records []Record) ([]Ack, error) {
	p.lock.Lock()
	p.acks = make([]Ack, len(records))
	p.lock.Unlock()
	var out []kafka.Message
	for i, r := range records {
		m := kafka.Message{Topic: topic, Key: r.Key, Value: r.Value, WriterData: place{i, max(r.Partition, 0)}}
		if r.Timestamp != noTime {
			m.Time = time.UnixMilli(r.Timestamp)
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, kafka.Header{Key: h.Name, Value: h.Value})
		}
		out = append(out, m)
	}
	err := p.inner.WriteMessages(context.Background(), out...)
	// The library leaves it to its user to try again while a topic is being created by the first write.
	for end := time.Now().Add(10 * time.Second); errors.Is(err, kafka.UnknownTopicOrPartition) && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		err = p.inner.WriteMessages(context.Background(), out...)
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	return p.acks, kafkaGoRefused(err)
}

func (p *kafkaGoProducer) Close() { _ = p.inner.Close() }

func (kafkaGo) Reader(bootstrap, reset string) (Reader, error) {
	ctx, cancel := context.WithCancel(context.Background())
	return &kafkaGoReader{bootstrap: bootstrap, strict: reset == "none", ctx: ctx, cancel: cancel, messages: make(chan kafkaGoRead)}, nil
}

type kafkaGoRead struct {
	message kafka.Message
	err     error
}

// kafkaGoReader is one Reader for each partition. With a single partition it reads without a goroutine, so that Seek is SetOffset.
type kafkaGoReader struct {
	bootstrap string
	strict    bool
	ctx       context.Context
	cancel    context.CancelFunc
	open      []*kafka.Reader
	messages  chan kafkaGoRead
}

func (r *kafkaGoReader) Assign(topic string, starts map[int32]int64) error {
	for p, start := range starts {
		opened := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{r.bootstrap}, Topic: topic, Partition: int(p),
			OffsetOutOfRangeError: r.strict})
		if err := opened.SetOffset(start); err != nil {
			return err
		}
		r.open = append(r.open, opened)
	}
	if len(r.open) > 1 {
		for _, opened := range r.open {
			go forward(r.ctx, opened, r.messages)
		}
	}
	return nil
}

// forward reads until the context ends.
func forward(ctx context.Context, from *kafka.Reader, to chan<- kafkaGoRead) {
	for {
		message, err := from.ReadMessage(ctx)
		select {
		case to <- kafkaGoRead{message, err}:
		case <-ctx.Done():
			return
		}
	}
}

func (r *kafkaGoReader) Seek(_ string, _ int32, offset int64) error {
	return r.open[0].SetOffset(offset)
}

func kafkaGoRecord(in kafka.Message) Record {
	out := Record{Key: in.Key, Value: in.Value, Timestamp: in.Time.UnixMilli(), Partition: int32(in.Partition), Offset: in.Offset}
	for _, h := range in.Headers {
		out.Headers = append(out.Headers, Header{h.Key, h.Value})
	}
	return out
}

func (r *kafkaGoReader) Poll(wait time.Duration) ([]Record, error) {
	if len(r.open) > 1 {
		return drain(r.messages, wait)
	}
	return pollReader(r.open[0], wait)
}

// pollReader reads what comes at once, waiting for the first.
func pollReader(from *kafka.Reader, wait time.Duration) (got []Record, err error) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		message, err := from.ReadMessage(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return got, nil
		}
		if err != nil {
			return got, kafkaGoRefused(err)
		}
		got = append(got, kafkaGoRecord(message))
		wait = 20 * time.Millisecond
	}
}

func drain(messages <-chan kafkaGoRead, wait time.Duration) (got []Record, err error) {
	timeout := time.After(wait)
	for {
		select {
		case in := <-messages:
			if in.err != nil {
				return got, kafkaGoRefused(in.err)
			}
			got = append(got, kafkaGoRecord(in.message))
			timeout = time.After(time.Millisecond)
		case <-timeout:
			return got, nil
		}
	}
}

func (r *kafkaGoReader) offsets(topic string, wanted kafka.OffsetRequest) (kafka.PartitionOffsets, error) {
	client := &kafka.Client{Addr: kafka.TCP(r.bootstrap)}
	got, err := client.ListOffsets(context.Background(), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {wanted}}})
	if err != nil {
		return kafka.PartitionOffsets{}, kafkaGoRefused(err)
	}
	return got.Topics[topic][0], kafkaGoRefused(got.Topics[topic][0].Error)
}

func (r *kafkaGoReader) Bounds(topic string, partition int32) (int64, int64, error) {
	first, err := r.offsets(topic, kafka.FirstOffsetOf(int(partition)))
	if err != nil {
		return 0, 0, err
	}
	end, err := r.offsets(topic, kafka.LastOffsetOf(int(partition)))
	return first.FirstOffset, end.LastOffset, err
}

func (r *kafkaGoReader) OffsetForTime(topic string, partition int32, millis int64) (int64, error) {
	got, err := r.offsets(topic, kafka.TimeOffsetOf(int(partition), time.UnixMilli(millis)))
	for offset := range got.Offsets {
		return offset, err
	}
	return -1, err
}

func (r *kafkaGoReader) Close() {
	r.cancel()
	for _, opened := range r.open {
		go opened.Close() // returns only when its last fetch does, up to ten seconds later
	}
}

func (kafkaGo) Member(bootstrap, topic, group string, o MemberOptions, told func(string, []int32)) (Consumer, error) {
	if o.AutoCommit {
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{bootstrap}, Topic: topic, GroupID: group, StartOffset: kafka.FirstOffset})
		// ReadMessage commits, and loses the message when its context ends meanwhile: so not through pollReader.
		ctx, cancel := context.WithCancel(context.Background())
		subscriber := kafkaGoSubscriber{reader, cancel, make(chan kafkaGoRead)}
		go forward(ctx, reader, subscriber.messages)
		return subscriber, nil
	}
	inner, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: group, Brokers: []string{bootstrap}, Topics: []string{topic},
		StartOffset: kafka.FirstOffset})
	if err != nil {
		return nil, err
	}
	m := &kafkaGoMember{bootstrap: bootstrap, topic: topic, inner: inner, told: told, messages: make(chan kafkaGoRead),
		next: map[int]int64{}}
	go m.generations()
	return m, nil
}

// kafkaGoSubscriber is the usual Reader with a group, which does not show its assignment.
type kafkaGoSubscriber struct {
	inner    *kafka.Reader
	cancel   context.CancelFunc
	messages chan kafkaGoRead
}

func (s kafkaGoSubscriber) Poll(wait time.Duration) ([]Record, error) { return drain(s.messages, wait) }
func (s kafkaGoSubscriber) Assignment() []int32                       { return nil }
func (s kafkaGoSubscriber) Commit() error                             { return nil }
func (s kafkaGoSubscriber) CommitAt(string, map[int32]int64) error    { return nil }
func (s kafkaGoSubscriber) Close()                                    { s.cancel(); go s.inner.Close() }

// kafkaGoMember is the lower ConsumerGroup, which does.
type kafkaGoMember struct {
	bootstrap, topic string
	inner            *kafka.ConsumerGroup
	told             func(string, []int32)
	messages         chan kafkaGoRead
	next             map[int]int64 // what Commit commits

	lock       sync.Mutex
	generation *kafka.Generation
	owned      []int32
	failure    error
}

func (m *kafkaGoMember) set(generation *kafka.Generation, owned []int32, failure error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.generation, m.owned, m.failure = generation, owned, failure
}

func (m *kafkaGoMember) generations() {
	for {
		generation, err := m.inner.Next(context.Background())
		if errors.Is(err, kafka.ErrGroupClosed) {
			return
		}
		if err != nil {
			m.set(nil, []int32{}, kafkaGoRefused(err))
			continue
		}
		owned := []int32{}
		for _, assigned := range generation.Assignments[m.topic] {
			owned = append(owned, int32(assigned.ID))
			generation.Start(func(ctx context.Context) {
				reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{m.bootstrap}, Topic: m.topic, Partition: assigned.ID})
				_ = reader.SetOffset(assigned.Offset)
				forward(ctx, reader, m.messages)
				go reader.Close() // returns only when its last fetch does, and the rebalance would wait for that
			})
		}
		m.set(generation, owned, nil)
		m.told("assigned", owned)
		generation.Start(func(ctx context.Context) {
			<-ctx.Done()
			m.set(nil, []int32{}, nil)
			m.told("revoked", owned)
		})
	}
}

func (m *kafkaGoMember) Poll(wait time.Duration) ([]Record, error) {
	got, err := drain(m.messages, wait)
	for _, r := range got {
		m.next[int(r.Partition)] = r.Offset + 1
	}
	if err == nil {
		m.lock.Lock()
		defer m.lock.Unlock()
		err = m.failure
	}
	return got, err
}

func (m *kafkaGoMember) Assignment() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.owned == nil {
		return []int32{}
	}
	return m.owned
}

func (m *kafkaGoMember) commitOffsets(offsets map[int]int64) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.generation == nil {
		return errors.New("no generation to commit in")
	}
	return kafkaGoRefused(m.generation.CommitOffsets(map[string]map[int]int64{m.topic: offsets}))
}

func (m *kafkaGoMember) Commit() error { return m.commitOffsets(m.next) }

func (m *kafkaGoMember) CommitAt(_ string, offsets map[int32]int64) error {
	wanted := map[int]int64{}
	for p, offset := range offsets {
		wanted[int(p)] = offset
	}
	return m.commitOffsets(wanted)
}

func (m *kafkaGoMember) Close() { _ = m.inner.Close() }

func (kafkaGo) Admin(bootstrap string) (Admin, error) {
	return kafkaGoAdmin{inner: &kafka.Client{Addr: kafka.TCP(bootstrap)}, ctx: context.Background()}, nil
}

type kafkaGoAdmin struct {
	fewerCalls
	inner *kafka.Client
	ctx   context.Context
}

func ids(brokers []kafka.Broker) (out []int32) {
	for _, b := range brokers {
		out = append(out, int32(b.ID))
	}
	return out
}

func (a kafkaGoAdmin) Cluster() (string, []int32, int32, error) {
	got, err := a.inner.Metadata(a.ctx, &kafka.MetadataRequest{})
	if err != nil {
		return "", nil, 0, err
	}
	return got.ClusterID, ids(got.Brokers), int32(got.Controller.ID), nil
}

func (a kafkaGoAdmin) Create(topic string, partitions int32, replication int16, configs map[string]string, validateOnly bool) error {
	wanted := kafka.TopicConfig{Topic: topic, NumPartitions: int(partitions), ReplicationFactor: int(replication)}
	for name, value := range configs {
		wanted.ConfigEntries = append(wanted.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	if validateOnly {
		// After the answer the library waits until the topic is listed, which never happens.
		return &Without{"create-errors"}
	}
	got, err := a.inner.CreateTopics(a.ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
	if err == nil {
		err = got.Errors[topic]
	}
	return kafkaGoRefused(err)
}

func (a kafkaGoAdmin) List() (map[string]bool, error) {
	got, err := a.inner.Metadata(a.ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, t := range got.Topics {
		out[t.Name] = true
	}
	return out, nil
}

func (a kafkaGoAdmin) Describe(topic string) (parts []Partition, id string, err error) {
	got, err := a.inner.Metadata(a.ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, "", err
	}
	if got.Topics[0].Error != nil {
		return nil, "", kafkaGoRefused(got.Topics[0].Error)
	}
	for _, p := range got.Topics[0].Partitions {
		parts = append(parts, Partition{int32(p.ID), int32(p.Leader.ID), ids(p.Replicas), ids(p.Isr)})
	}
	return parts, "", nil
}

func (a kafkaGoAdmin) Configs(topic string) (map[string]Config, error) {
	got, err := a.inner.DescribeConfigs(a.ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}}})
	if err == nil {
		err = got.Resources[0].Error
	}
	if err != nil {
		return nil, kafkaGoRefused(err)
	}
	out := map[string]Config{}
	for _, c := range got.Resources[0].ConfigEntries {
		out[c.ConfigName] = Config{c.ConfigValue, c.ConfigSource == 5, c.IsSensitive, c.ReadOnly}
	}
	return out, nil
}

func (a kafkaGoAdmin) Alter(topic string, set map[string]string, remove []string) error {
	resource := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}
	for name, value := range set {
		resource.Configs = append(resource.Configs, kafka.IncrementalAlterConfigsRequestConfig{Name: name, Value: value})
	}
	for _, name := range remove {
		resource.Configs = append(resource.Configs,
			kafka.IncrementalAlterConfigsRequestConfig{Name: name, ConfigOperation: kafka.ConfigOperationDelete})
	}
	got, err := a.inner.IncrementalAlterConfigs(a.ctx,
		&kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{resource}})
	if err == nil {
		err = got.Resources[0].Error
	}
	return kafkaGoRefused(err)
}

func (a kafkaGoAdmin) Grow(topic string, partitions int) error {
	got, err := a.inner.CreatePartitions(a.ctx,
		&kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: int32(partitions)}}})
	if err == nil {
		err = got.Errors[topic]
	}
	return kafkaGoRefused(err)
}

func (a kafkaGoAdmin) DeleteRecords(string, int32, int64) (int64, error) {
	return 0, &Without{"delete-records"}
}

func (a kafkaGoAdmin) Group(group string) (Group, error) {
	got, err := a.inner.DescribeGroups(a.ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err == nil {
		err = got.Groups[0].Error
	}
	if err != nil {
		return Group{}, kafkaGoRefused(err)
	}
	out := Group{State: got.Groups[0].GroupState}
	for _, m := range got.Groups[0].Members {
		var share []int32
		for _, t := range m.MemberAssignments.Topics {
			for _, p := range t.Partitions {
				share = append(share, int32(p))
			}
		}
		slices.Sort(share)
		out.Assignments = append(out.Assignments, share)
	}
	listed, err := a.inner.ListGroups(a.ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return out, err
	}
	for _, g := range listed.Groups {
		if g.GroupID == group {
			out.ProtocolType = g.ProtocolType
		}
	}
	return out, nil
}

func (a kafkaGoAdmin) Groups() (map[string]bool, error) {
	got, err := a.inner.ListGroups(a.ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, g := range got.Groups {
		out[g.GroupID] = true
	}
	return out, got.Error
}

func (a kafkaGoAdmin) Committed(group, topic string) (map[int32]int64, error) {
	parts, _, err := a.Describe(topic)
	if err != nil {
		return nil, err
	}
	wanted := map[string][]int{}
	for _, p := range parts {
		wanted[topic] = append(wanted[topic], int(p.ID))
	}
	got, err := a.inner.OffsetFetch(a.ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: wanted})
	if err != nil {
		return nil, err
	}
	out := map[int32]int64{}
	for _, p := range got.Topics[topic] {
		if p.CommittedOffset >= 0 {
			out[int32(p.Partition)] = p.CommittedOffset
		}
	}
	return out, kafkaGoRefused(got.Error)
}

func (a kafkaGoAdmin) AlterOffsets(group, topic string, offsets map[int32]int64) error {
	var wanted []kafka.OffsetCommit
	for p, offset := range offsets {
		wanted = append(wanted, kafka.OffsetCommit{Partition: int(p), Offset: offset})
	}
	got, err := a.inner.OffsetCommit(a.ctx, &kafka.OffsetCommitRequest{GroupID: group, GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{topic: wanted}})
	if err == nil {
		err = got.Topics[topic][0].Error
	}
	return kafkaGoRefused(err)
}

func (a kafkaGoAdmin) DeleteOffsets(group, topic string, partition int32) error {
	got, err := a.inner.OffsetDelete(a.ctx, &kafka.OffsetDeleteRequest{GroupID: group, Topics: map[string][]int{topic: {int(partition)}}})
	if err == nil {
		err = errors.Join(got.Error, got.Topics[topic][0].Error)
	}
	return kafkaGoRefused(err)
}

func (a kafkaGoAdmin) DeleteGroup(group string) error {
	got, err := a.inner.DeleteGroups(a.ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
	if err == nil {
		err = got.Errors[group]
	}
	return kafkaGoRefused(err)
}

func (a kafkaGoAdmin) Delete(topic string) error {
	got, err := a.inner.DeleteTopics(a.ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err == nil {
		err = got.Errors[topic]
	}
	return kafkaGoRefused(err)
}

func (a kafkaGoAdmin) Close() {}
