package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// franz is franz-go. Its default assignor is cooperative-sticky; its consumers never fail on an offset out of range but
// with NoResetOffset. It creates topics only when told to (AllowAutoTopicCreation).
type franz struct{}

func franzRefused(err error) error {
	var code *kerr.Error
	if errors.As(err, &code) {
		return &Refused{int(code.Code), err.Error()}
	}
	return err
}

func (franz) Traits() Traits {
	return Traits{[]string{"none", "gzip", "snappy", "lz4", "zstd"}, "on by default", nil}
}

func (franz) Producer(bootstrap string, o ProducerOptions) (Producer, error) {
	options := []kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.AllowAutoTopicCreation()}
	if o.Manual {
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if o.MaxBytes > 0 {
		options = append(options, kgo.ProducerBatchMaxBytes(int32(o.MaxBytes)))
	}
	if o.Codec != "" {
		codec := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
			"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}[o.Codec]
		options = append(options, kgo.ProducerBatchCompression(codec))
	}
	client, err := kgo.NewClient(options...)
	return franzProducer{client}, err
}

type franzProducer struct{ client *kgo.Client }

func (p franzProducer) SendAll(topic string, records []Record) ([]Ack, error) {
	acks, failures := make([]Ack, len(records)), make([]error, len(records))
	var left sync.WaitGroup
	for i, r := range records {
		out := &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Partition: max(r.Partition, 0)}
		for _, h := range r.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		if r.Timestamp != noTime {
			out.Timestamp = time.UnixMilli(r.Timestamp)
		}
		left.Add(1)
		p.client.Produce(context.Background(), out, func(done *kgo.Record, err error) {
			acks[i], failures[i] = Ack{done.Partition, done.Offset}, err
			left.Done()
		})
	}
	left.Wait()
	return acks, franzRefused(errors.Join(failures...))
}

func (p franzProducer) Close() { p.client.Close() }

func (franz) Reader(bootstrap, reset string) (Reader, error) {
	policy := map[string]kgo.Offset{"earliest": kgo.NewOffset().AtStart(), "latest": kgo.NewOffset().AtEnd(), "none": kgo.NoResetOffset()}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeResetOffset(policy[reset]))
	return &franzReader{client: client}, err
}

// franzReader reads by hand or as a group member.
type franzReader struct {
	client *kgo.Client
	lock   sync.Mutex
	owned  map[int32]bool
}

func (r *franzReader) Assign(topic string, starts map[int32]int64) error {
	offsets := map[int32]kgo.Offset{}
	for p, start := range starts {
		offsets[p] = kgo.NewOffset().At(start)
	}
	r.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets})
	return nil
}

func (r *franzReader) Seek(topic string, partition int32, offset int64) error {
	r.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {partition: {Epoch: -1, Offset: offset}}})
	return nil
}

func (r *franzReader) Poll(wait time.Duration) (got []Record, failure error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	fetches := r.client.PollFetches(ctx)
	fetches.EachError(func(_ string, _ int32, err error) {
		if !errors.Is(err, context.DeadlineExceeded) {
			failure = franzRefused(err)
		}
	})
	fetches.EachRecord(func(in *kgo.Record) {
		out := Record{Key: in.Key, Value: in.Value, Timestamp: in.Timestamp.UnixMilli(), Partition: in.Partition, Offset: in.Offset,
			LogAppend: in.Attrs.TimestampType() == 1}
		for _, h := range in.Headers {
			out.Headers = append(out.Headers, Header{h.Key, h.Value})
		}
		got = append(got, out)
	})
	return got, failure
}

func (r *franzReader) Bounds(topic string, partition int32) (int64, int64, error) {
	admin, ctx := kadm.NewClient(r.client), context.Background()
	first, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	end, err := admin.ListEndOffsets(ctx, topic)
	at, _ := first.Lookup(topic, partition)
	last, _ := end.Lookup(topic, partition)
	return at.Offset, last.Offset, errors.Join(err, at.Err, last.Err)
}

func (r *franzReader) OffsetForTime(topic string, partition int32, millis int64) (int64, error) {
	// kadm answers the end offset where nothing is found, with timestamp -1.
	found, err := kadm.NewClient(r.client).ListOffsetsAfterMilli(context.Background(), millis, topic)
	at, _ := found.Lookup(topic, partition)
	if at.Timestamp == -1 {
		return -1, err
	}
	return at.Offset, errors.Join(err, at.Err)
}

func (r *franzReader) Close() { r.client.Close() }

func (franz) Member(bootstrap, topic, group string, o MemberOptions, told func(string, []int32)) (Consumer, error) {
	r := &franzReader{owned: map[int32]bool{}}
	changed := func(what string, owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			if len(parts[topic]) == 0 {
				return
			}
			told(what, parts[topic])
			r.lock.Lock()
			defer r.lock.Unlock()
			for _, p := range parts[topic] {
				r.owned[p] = owned
			}
		}
	}
	options := []kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(changed("assigned", true)), kgo.OnPartitionsRevoked(changed("revoked", false)),
		kgo.OnPartitionsLost(changed("revoked", false))}
	if !o.AutoCommit {
		options = append(options, kgo.DisableAutoCommit())
	}
	if o.Instance != "" {
		options = append(options, kgo.InstanceID(o.Instance))
	}
	if o.Cooperative {
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	}
	client, err := kgo.NewClient(options...)
	r.client = client
	return r, err
}

func (r *franzReader) Assignment() []int32 {
	r.lock.Lock()
	defer r.lock.Unlock()
	owned := []int32{}
	for p, mine := range r.owned {
		if mine {
			owned = append(owned, p)
		}
	}
	return owned
}

func (r *franzReader) Commit() error { return r.client.CommitUncommittedOffsets(context.Background()) }

func (r *franzReader) CommitAt(topic string, offsets map[int32]int64) (failure error) {
	at := map[int32]kgo.EpochOffset{}
	for p, offset := range offsets {
		at[p] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	r.client.CommitOffsetsSync(context.Background(), map[string]map[int32]kgo.EpochOffset{topic: at},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
			failure = err
		})
	return failure
}

func (franz) Admin(bootstrap string) (Admin, error) {
	client, err := kadm.NewOptClient(kgo.SeedBrokers(bootstrap))
	return franzAdmin{client, context.Background()}, err
}

type franzAdmin struct {
	inner *kadm.Client
	ctx   context.Context
}

func (a franzAdmin) Cluster() (string, []int32, int32, error) {
	got, err := a.inner.BrokerMetadata(a.ctx)
	return got.Cluster, got.Brokers.NodeIDs(), got.Controller, err
}

func (a franzAdmin) Create(topic string, partitions int32, replication int16, configs map[string]string, validateOnly bool) error {
	values := map[string]*string{}
	for name, value := range configs {
		values[name] = &value
	}
	create := a.inner.CreateTopics
	if validateOnly {
		create = a.inner.ValidateCreateTopics
	}
	got, err := create(a.ctx, partitions, replication, values, topic)
	if err != nil {
		return franzRefused(err)
	}
	_, err = got.On(topic, nil)
	return franzRefused(errors.Join(err, got[topic].Err))
}

func (a franzAdmin) List() (map[string]bool, error) {
	got, err := a.inner.ListTopics(a.ctx)
	out := map[string]bool{}
	for _, name := range got.Names() {
		out[name] = true
	}
	return out, err
}

func (a franzAdmin) Describe(topic string) (parts []Partition, id string, err error) {
	got, err := a.inner.ListTopics(a.ctx, topic)
	if err != nil || got[topic].Err != nil {
		return nil, "", franzRefused(errors.Join(err, got[topic].Err))
	}
	for _, p := range got[topic].Partitions {
		parts = append(parts, Partition{p.Partition, p.Leader, p.Replicas, p.ISR})
	}
	return parts, got[topic].ID.String(), nil
}

func (a franzAdmin) Configs(topic string) (map[string]Config, error) {
	got, err := a.inner.DescribeTopicConfigs(a.ctx, topic)
	if err != nil {
		return nil, err
	}
	resource, err := got.On(topic, nil)
	if err = errors.Join(err, resource.Err); err != nil {
		return nil, franzRefused(err)
	}
	out := map[string]Config{}
	for _, c := range resource.Configs {
		// kadm does not show read-only.
		out[c.Key] = Config{c.MaybeValue(), c.Source == kmsg.ConfigSourceDefaultConfig, c.Sensitive, false}
	}
	return out, nil
}

func (a franzAdmin) Alter(topic string, set map[string]string, remove []string) error {
	var changes []kadm.AlterConfig
	for name, value := range set {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	for _, name := range remove {
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
	}
	got, err := a.inner.AlterTopicConfigs(a.ctx, changes, topic)
	if err == nil {
		_, err = got.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	return franzRefused(err)
}

func (a franzAdmin) Grow(topic string, partitions int) error {
	got, err := a.inner.UpdatePartitions(a.ctx, partitions, topic)
	if err == nil {
		_, err = got.On(topic, func(r *kadm.CreatePartitionsResponse) error { return r.Err })
	}
	return franzRefused(err)
}

func (a franzAdmin) DeleteRecords(topic string, partition int32, before int64) (int64, error) {
	var wanted kadm.Offsets
	wanted.AddOffset(topic, partition, before, -1)
	got, err := a.inner.DeleteRecords(a.ctx, wanted)
	at, _ := got.Lookup(topic, partition)
	return at.LowWatermark, franzRefused(errors.Join(err, at.Err))
}

func (a franzAdmin) MaxTimestamp(topic string, partition int32) (int64, error) {
	got, err := a.inner.ListMaxTimestampOffsets(a.ctx, topic)
	at, _ := got.Lookup(topic, partition)
	return at.Offset, errors.Join(err, at.Err)
}

func (a franzAdmin) Producers(topic string, partition int32) (sequences []int32, err error) {
	var wanted kadm.TopicsSet
	wanted.Add(topic, partition)
	got, err := a.inner.DescribeProducers(a.ctx, wanted)
	described := got[topic].Partitions[partition]
	for _, producer := range described.ActiveProducers {
		sequences = append(sequences, producer.LastSequence)
	}
	return sequences, franzRefused(errors.Join(err, described.Err))
}

func (a franzAdmin) LogDirs(topic string) (map[int32]bool, error) {
	got, err := a.inner.DescribeAllLogDirs(a.ctx, nil)
	out := map[int32]bool{}
	for _, places := range got {
		err = errors.Join(err, places.Error())
		for _, place := range places {
			for p := range place.Topics[topic] {
				out[p] = true
			}
		}
	}
	return out, franzRefused(err)
}

func (a franzAdmin) Group(group string) (Group, error) {
	got, err := a.inner.DescribeGroups(a.ctx, group)
	described := got[group]
	out := Group{State: described.State, ProtocolType: described.ProtocolType}
	for _, m := range described.Members {
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			var share []int32
			for _, t := range assigned.Topics {
				share = append(share, t.Partitions...)
			}
			slices.Sort(share)
			out.Assignments = append(out.Assignments, share)
		}
	}
	return out, franzRefused(errors.Join(err, described.Err))
}

func (a franzAdmin) Groups() (map[string]bool, error) {
	got, err := a.inner.ListGroups(a.ctx)
	out := map[string]bool{}
	for _, group := range got.Groups() {
		out[group] = true
	}
	return out, err
}

func (a franzAdmin) Committed(group, topic string) (map[int32]int64, error) {
	got, err := a.inner.FetchOffsets(a.ctx, group)
	out := map[int32]int64{}
	for p, offset := range got[topic] {
		if offset.At >= 0 {
			out[p] = offset.At
		}
	}
	return out, franzRefused(err)
}

func (a franzAdmin) AlterOffsets(group, topic string, offsets map[int32]int64) error {
	var wanted kadm.Offsets
	for p, offset := range offsets {
		wanted.AddOffset(topic, p, offset, -1)
	}
	return franzRefused(a.inner.CommitAllOffsets(a.ctx, group, wanted))
}

func (a franzAdmin) DeleteOffsets(group, topic string, partition int32) error {
	var wanted kadm.TopicsSet
	wanted.Add(topic, partition)
	got, err := a.inner.DeleteOffsets(a.ctx, group, wanted)
	return franzRefused(errors.Join(err, got.Error()))
}

func (a franzAdmin) DeleteGroup(group string) error {
	got, err := a.inner.DeleteGroup(a.ctx, group)
	return franzRefused(errors.Join(err, got.Err))
}

func (a franzAdmin) Delete(topic string) error {
	got, err := a.inner.DeleteTopic(a.ctx, topic)
	return franzRefused(errors.Join(err, got.Err))
}

func (a franzAdmin) Close() { a.inner.Close() }
