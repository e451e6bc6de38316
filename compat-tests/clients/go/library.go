package main

import "time"

// Traits says what a library can do; Cannot holds words of the README.
type Traits struct {
	Codecs      []string
	Idempotence string // "on by default", "off by default" or "none"
	Cannot      words
}

// ProducerOptions are the settings that scenarios change; the zero value is the library's defaults.
type ProducerOptions struct {
	Codec      string
	MaxBytes   int
	Idempotent bool
	Patient    bool // keeps trying for a minute or more
	Manual     bool // records name their partition
	NoAcks     bool // acks=0
}

// MemberOptions are the settings of a group member.
type MemberOptions struct {
	Instance    string
	Cooperative bool
	AutoCommit  bool
}

// Library is one Kafka client library.
type Library interface {
	Traits() Traits
	Producer(bootstrap string, options ProducerOptions) (Producer, error)
	// Reader reads partitions assigned by hand; reset is earliest, latest or none.
	Reader(bootstrap, reset string) (Reader, error)
	// Member joins the group; told hears of every rebalance.
	Member(bootstrap, topic, group string, options MemberOptions, told func(what string, partitions []int32)) (Consumer, error)
	Admin(bootstrap string) (Admin, error)
}

// Producer sends records; SendAll sends them all without waiting for each other and returns the acknowledgements in order.
type Producer interface {
	SendAll(topic string, records []Record) ([]Ack, error)
	Close()
}

// Reader reads without a group.
type Reader interface {
	Assign(topic string, starts map[int32]int64) error
	Seek(topic string, partition int32, offset int64) error
	Poll(wait time.Duration) ([]Record, error)
	Bounds(topic string, partition int32) (first, end int64, err error)
	// OffsetForTime is -1 when there is none.
	OffsetForTime(topic string, partition int32, millis int64) (int64, error)
	Close()
}

// Consumer is a group member. Poll and the others are called by one goroutine.
type Consumer interface {
	Poll(wait time.Duration) ([]Record, error)
	Assignment() []int32
	Commit() error
	CommitAt(topic string, offsets map[int32]int64) error
	// Close ends it the way the library ends a member: a dynamic one leaves, a static one does not.
	Close()
}

// Partition is a partition as described.
type Partition struct {
	ID, Leader       int32
	Replicas, InSync []int32
}

// Config is a topic config as described.
type Config struct {
	Value                        string
	Default, Sensitive, ReadOnly bool
}

// Group is a group as described.
type Group struct {
	State, ProtocolType string
	Assignments         [][]int32 // one for each member, sorted
}

// fewerCalls stands in for the calls that few libraries have.
type fewerCalls struct{}

func (fewerCalls) MaxTimestamp(string, int32) (int64, error) { return 0, &Without{"max-timestamp"} }
func (fewerCalls) Producers(string, int32) ([]int32, error) {
	return nil, &Without{"describe-producers"}
}
func (fewerCalls) LogDirs(string) (map[int32]bool, error) { return nil, &Without{"describe-log-dirs"} }

// Admin is the library's admin client. Errors are *Refused, *Without or anything else that ends the scenario.
type Admin interface {
	Cluster() (id string, nodes []int32, controller int32, err error)
	Create(topic string, partitions int32, replication int16, configs map[string]string, validateOnly bool) error
	List() (map[string]bool, error)
	// Describe also gives the topic id in some text form, empty where the library has none.
	Describe(topic string) (partitions []Partition, id string, err error)
	Configs(topic string) (map[string]Config, error)
	Alter(topic string, set map[string]string, remove []string) error
	Grow(topic string, partitions int) error
	// DeleteRecords gives the low watermark, -1 where the library does not tell.
	DeleteRecords(topic string, partition int32, before int64) (int64, error)
	// MaxTimestamp is the offset of the greatest timestamp.
	MaxTimestamp(topic string, partition int32) (int64, error)
	// Producers are the last sequences of the active producers.
	Producers(topic string, partition int32) ([]int32, error)
	// LogDirs are the partitions that the log dirs of all nodes name.
	LogDirs(topic string) (map[int32]bool, error)
	Group(group string) (Group, error)
	Groups() (map[string]bool, error)
	Committed(group, topic string) (map[int32]int64, error)
	AlterOffsets(group, topic string, offsets map[int32]int64) error
	DeleteOffsets(group, topic string, partition int32) error
	DeleteGroup(group string) error
	Delete(topic string) error
	Close()
}
