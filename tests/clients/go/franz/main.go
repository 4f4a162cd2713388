// franz-go as a member of a group.
package main

import (
	"context"
	"time"

	"ottla.test/clients/member"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	o := member.Read()
	options := []kgo.Opt{
		kgo.SeedBrokers(o.Bootstrap),
		kgo.ConsumeTopics(o.Topic),
		kgo.ConsumerGroup(o.Group),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(o.SessionTimeout()),
		kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, them map[string][]int32) {
			member.Assigned(them[o.Topic])
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, them map[string][]int32) {
			member.Revoked(them[o.Topic])
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, them map[string][]int32) {
			member.Revoked(them[o.Topic])
		}),
	}
	if o.Instance != nil {
		options = append(options, kgo.InstanceID(*o.Instance))
	}
	if o.Cooperative {
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	} else {
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		member.Fail(err)
	}
	told, tell := context.WithCancel(context.Background())
	member.WhenTold(tell)
	for told.Err() == nil {
		turn(told, client, o.Topic)
	}
	// Without the permission of the poll that the end interrupted, closing waits for ever.
	client.CloseAllowingRebalance()
}

func turn(told context.Context, client *kgo.Client, topic string) {
	defer client.AllowRebalance()
	waiting, cancel := context.WithTimeout(told, 100*time.Millisecond)
	defer cancel()
	records := client.PollRecords(waiting, 20).Records()
	next := map[int32]int64{}
	for _, record := range records {
		member.Got(record.Partition, record.Offset, record.Value)
		next[record.Partition] = record.Offset + 1
	}
	if len(records) == 0 {
		return
	}
	committing, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	// Where it fails the group rebalances, or the broker is away: the records come again.
	if err := client.CommitRecords(committing, records...); err == nil {
		for partition, offset := range next {
			member.Committed(partition, offset)
		}
	}
}
