package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// saramaLibrary is sarama. Without: `timestamp-type` (not shown to the consumer), `reset` and `cooperative` (there are none),
// `describe-cluster` in part (no cluster id), `describe-producers` (no such call). Its admin client does not tell low watermarks.
type saramaLibrary struct{}

func (saramaLibrary) Traits() Traits {
	return Traits{[]string{"none", "gzip", "snappy", "lz4", "zstd"}, "off by default",
		words{"timestamp-type": true, "reset": true, "cooperative": true, "cluster-id": true}}
}

func saramaRefused(err error) error {
	var code sarama.KError
	if errors.As(err, &code) && code != sarama.ErrNoError {
		return &Refused{int(code), err.Error()}
	}
	var topic *sarama.TopicError
	if errors.As(err, &topic) {
		return &Refused{int(topic.Err), err.Error()}
	}
	return err
}

func (saramaLibrary) Producer(bootstrap string, o ProducerOptions) (Producer, error) {
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	if o.Manual {
		config.Producer.Partitioner = sarama.NewManualPartitioner
	}
	if o.MaxBytes > 0 {
		config.Producer.MaxMessageBytes = o.MaxBytes
	}
	if o.Idempotent {
		config.Producer.Idempotent = true
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Net.MaxOpenRequests = 1
	}
	if o.Patient {
		config.Producer.Retry.Max = 600
		config.Metadata.Retry.Max = 300
	}
	if o.Codec != "" {
		config.Producer.Compression = map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
			"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}[o.Codec]
	}
	producer, err := sarama.NewAsyncProducer([]string{bootstrap}, config)
	return saramaProducer{producer}, err
}

type saramaProducer struct{ inner sarama.AsyncProducer }

func saramaEncoder(value []byte) sarama.Encoder {
	if value == nil {
		return nil
	}
	return sarama.ByteEncoder(value)
}

func (p saramaProducer) SendAll(topic string, records []Record) ([]Ack, error) {
	go func() {
		for i, r := range records {
			out := &sarama.ProducerMessage{Topic: topic, Key: saramaEncoder(r.Key), Value: saramaEncoder(r.Value),
				Partition: max(r.Partition, 0), Metadata: i}
			if r.Timestamp != noTime {
				out.Timestamp = time.UnixMilli(r.Timestamp)
			}
			for _, h := range r.Headers {
				out.Headers = append(out.Headers, sarama.RecordHeader{Key: []byte(h.Name), Value: h.Value})
			}
			p.inner.Input() <- out
		}
	}()
	acks, failure := make([]Ack, len(records)), error(nil)
	for range records {
		select {
		case done := <-p.inner.Successes():
			acks[done.Metadata.(int)] = Ack{done.Partition, done.Offset}
		case failed := <-p.inner.Errors():
			failure = saramaRefused(failed.Err)
		}
	}
	return acks, failure
}

func (p saramaProducer) Close() { _ = p.inner.Close() }

func (saramaLibrary) Reader(bootstrap, _ string) (Reader, error) {
	client, err := sarama.NewClient([]string{bootstrap}, sarama.NewConfig())
	if err != nil {
		return nil, err
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	return &saramaReader{client: client, inner: consumer, open: map[int32]sarama.PartitionConsumer{}}, err
}

type saramaReader struct {
	client sarama.Client
	inner  sarama.Consumer
	open   map[int32]sarama.PartitionConsumer
}

func (r *saramaReader) Assign(topic string, starts map[int32]int64) error {
	for p, start := range starts {
		if err := r.Seek(topic, p, start); err != nil {
			return err
		}
	}
	return nil
}

// Seek opens the partition anew, which is how sarama seeks.
func (r *saramaReader) Seek(topic string, partition int32, offset int64) error {
	if before := r.open[partition]; before != nil {
		if err := before.Close(); err != nil {
			return err
		}
	}
	opened, err := r.inner.ConsumePartition(topic, partition, offset)
	if err == nil {
		r.open[partition] = opened
	}
	return saramaRefused(err)
}

func saramaRecord(in *sarama.ConsumerMessage) Record {
	out := Record{Key: in.Key, Value: in.Value, Timestamp: in.Timestamp.UnixMilli(), Partition: in.Partition, Offset: in.Offset}
	for _, h := range in.Headers {
		out.Headers = append(out.Headers, Header{string(h.Key), h.Value})
	}
	return out
}

func (r *saramaReader) Poll(wait time.Duration) (got []Record, failure error) {
	for end := time.Now().Add(wait); len(got) == 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, opened := range r.open {
			for more := true; more; {
				select {
				case in := <-opened.Messages():
					got = append(got, saramaRecord(in))
				default:
					more = false
				}
			}
		}
	}
	return got, nil
}

func (r *saramaReader) Bounds(topic string, partition int32) (int64, int64, error) {
	first, err := r.client.GetOffset(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return 0, 0, saramaRefused(err)
	}
	end, err := r.client.GetOffset(topic, partition, sarama.OffsetNewest)
	return first, end, saramaRefused(err)
}

func (r *saramaReader) OffsetForTime(topic string, partition int32, millis int64) (int64, error) {
	return r.client.GetOffset(topic, partition, millis)
}

func (r *saramaReader) Close() {
	var closing sync.WaitGroup
	for _, opened := range r.open {
		closing.Go(func() { _ = opened.Close() }) // each waits for its fetch
	}
	closing.Wait()
	_ = r.inner.Close()
	_ = r.client.Close()
}

func (saramaLibrary) Member(bootstrap, topic, group string, o MemberOptions, told func(string, []int32)) (Consumer, error) {
	config := sarama.NewConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = o.AutoCommit
	config.Consumer.Group.InstanceId = o.Instance
	inner, err := sarama.NewConsumerGroup([]string{bootstrap}, group, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &saramaMember{inner: inner, topic: topic, told: told, cancel: cancel, auto: o.AutoCommit,
		messages: make(chan *sarama.ConsumerMessage), next: map[int32]int64{}}
	go m.consume(ctx)
	return m, nil
}

// saramaMember turns sarama's callbacks into polling. It is the handler of its own group.
type saramaMember struct {
	inner    sarama.ConsumerGroup
	topic    string
	told     func(string, []int32)
	cancel   context.CancelFunc
	auto     bool
	messages chan *sarama.ConsumerMessage
	next     map[int32]int64 // what Commit commits

	lock    sync.Mutex
	session sarama.ConsumerGroupSession
	failure error
}

func (m *saramaMember) consume(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.inner.Consume(ctx, []string{m.topic}, m); err != nil {
			m.lock.Lock()
			m.failure = saramaRefused(err)
			m.lock.Unlock()
			if errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
		}
	}
}

func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session = session
	m.told("assigned", session.Claims()[m.topic])
	return nil
}

func (m *saramaMember) Cleanup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session = nil
	m.told("revoked", session.Claims()[m.topic])
	return nil
}

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for in := range claim.Messages() {
		select {
		case m.messages <- in:
			if m.auto {
				session.MarkMessage(in, "")
			}
		case <-session.Context().Done():
			return nil
		}
	}
	return nil
}

func (m *saramaMember) Poll(wait time.Duration) (got []Record, failure error) {
	timeout := time.After(wait)
	for len(got) < 500 {
		select {
		case in := <-m.messages:
			got = append(got, saramaRecord(in))
			m.next[in.Partition] = in.Offset + 1
			timeout = time.After(time.Millisecond)
		case <-timeout:
			m.lock.Lock()
			defer m.lock.Unlock()
			return got, m.failure
		}
	}
	return got, nil
}

func (m *saramaMember) Assignment() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.session == nil {
		return []int32{}
	}
	return m.session.Claims()[m.topic]
}

func (m *saramaMember) Commit() error { return m.CommitAt(m.topic, m.next) }

func (m *saramaMember) CommitAt(topic string, offsets map[int32]int64) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.session == nil {
		return errors.New("no session to commit in")
	}
	for p, offset := range offsets {
		m.session.MarkOffset(topic, p, offset, "")
	}
	m.session.Commit()
	return nil
}

func (m *saramaMember) Close() {
	m.cancel()
	_ = m.inner.Close()
}

func (saramaLibrary) Admin(bootstrap string) (Admin, error) {
	inner, err := sarama.NewClusterAdmin([]string{bootstrap}, sarama.NewConfig())
	return saramaAdmin{inner: inner}, err
}

type saramaAdmin struct {
	fewerCalls
	inner sarama.ClusterAdmin
}

func (a saramaAdmin) Cluster() (string, []int32, int32, error) {
	brokers, controller, err := a.inner.DescribeCluster()
	var nodes []int32
	for _, b := range brokers {
		nodes = append(nodes, b.ID())
	}
	return "", nodes, controller, err
}

func (a saramaAdmin) Create(topic string, partitions int32, replication int16, configs map[string]string, validateOnly bool) error {
	entries := map[string]*string{}
	for name, value := range configs {
		entries[name] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: replication, ConfigEntries: entries}
	return saramaRefused(a.inner.CreateTopic(topic, detail, validateOnly))
}

func (a saramaAdmin) List() (map[string]bool, error) {
	got, err := a.inner.ListTopics()
	out := map[string]bool{}
	for name := range got {
		out[name] = true
	}
	return out, err
}

func (a saramaAdmin) Describe(topic string) (parts []Partition, id string, err error) {
	got, err := a.inner.DescribeTopics([]string{topic})
	if err != nil {
		return nil, "", saramaRefused(err)
	}
	if got[0].Err != sarama.ErrNoError {
		return nil, "", saramaRefused(got[0].Err)
	}
	for _, p := range got[0].Partitions {
		parts = append(parts, Partition{p.ID, p.Leader, p.Replicas, p.Isr})
	}
	return parts, got[0].Uuid.String(), nil
}

func (a saramaAdmin) Configs(topic string) (map[string]Config, error) {
	got, err := a.inner.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	out := map[string]Config{}
	for _, c := range got {
		out[c.Name] = Config{c.Value, c.Source == sarama.SourceDefault, c.Sensitive, c.ReadOnly}
	}
	return out, saramaRefused(err)
}

func (a saramaAdmin) Alter(topic string, set map[string]string, remove []string) error {
	changes := map[string]sarama.IncrementalAlterConfigsEntry{}
	for name, value := range set {
		changes[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	}
	for _, name := range remove {
		changes[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationDelete}
	}
	return saramaRefused(a.inner.IncrementalAlterConfig(sarama.TopicResource, topic, changes, false))
}

func (a saramaAdmin) Grow(topic string, partitions int) error {
	return saramaRefused(a.inner.CreatePartitions(topic, int32(partitions), nil, false))
}

func (a saramaAdmin) DeleteRecords(topic string, partition int32, before int64) (int64, error) {
	return -1, saramaRefused(a.inner.DeleteRecords(topic, map[int32]int64{partition: before}))
}

func (a saramaAdmin) LogDirs(topic string) (map[int32]bool, error) {
	brokers, _, err := a.inner.DescribeCluster()
	if err != nil {
		return nil, err
	}
	var nodes []int32
	for _, b := range brokers {
		nodes = append(nodes, b.ID())
	}
	got, err := a.inner.DescribeLogDirs(nodes)
	out := map[int32]bool{}
	for _, places := range got {
		for _, place := range places {
			if place.ErrorCode != sarama.ErrNoError {
				return nil, saramaRefused(place.ErrorCode)
			}
			for _, t := range place.Topics {
				for _, p := range t.Partitions {
					out[p.PartitionID] = out[p.PartitionID] || t.Topic == topic
				}
			}
		}
	}
	maps.DeleteFunc(out, func(_ int32, mine bool) bool { return !mine })
	return out, saramaRefused(err)
}

func (a saramaAdmin) Group(group string) (Group, error) {
	got, err := a.inner.DescribeConsumerGroups([]string{group})
	if err != nil {
		return Group{}, saramaRefused(err)
	}
	out := Group{State: got[0].State, ProtocolType: got[0].ProtocolType}
	for _, m := range got[0].Members {
		assigned, err := m.GetMemberAssignment()
		if err != nil {
			return out, err
		}
		var share []int32
		for _, partitions := range assigned.Topics {
			share = append(share, partitions...)
		}
		slices.Sort(share)
		out.Assignments = append(out.Assignments, share)
	}
	return out, nil
}

func (a saramaAdmin) Groups() (map[string]bool, error) {
	got, err := a.inner.ListConsumerGroups()
	out := map[string]bool{}
	for group := range got {
		out[group] = true
	}
	return out, err
}

func (a saramaAdmin) Committed(group, topic string) (map[int32]int64, error) {
	got, err := a.inner.ListConsumerGroupOffsets(group, nil)
	if err != nil {
		return nil, saramaRefused(err)
	}
	out := map[int32]int64{}
	for p, block := range got.Blocks[topic] {
		if block.Offset >= 0 {
			out[p] = block.Offset
		}
	}
	return out, nil
}

func (a saramaAdmin) AlterOffsets(group, topic string, offsets map[int32]int64) error {
	wanted := map[int32]sarama.OffsetAndMetadata{}
	for p, offset := range offsets {
		wanted[p] = sarama.OffsetAndMetadata{Offset: offset, LeaderEpoch: -1}
	}
	_, err := a.inner.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{topic: wanted}, nil)
	return saramaRefused(err)
}

func (a saramaAdmin) DeleteOffsets(group, topic string, partition int32) error {
	return saramaRefused(a.inner.DeleteConsumerGroupOffset(group, topic, partition))
}

func (a saramaAdmin) DeleteGroup(group string) error {
	return saramaRefused(a.inner.DeleteConsumerGroup(group))
}

func (a saramaAdmin) Delete(topic string) error { return saramaRefused(a.inner.DeleteTopic(topic)) }

func (a saramaAdmin) Close() { _ = a.inner.Close() }
