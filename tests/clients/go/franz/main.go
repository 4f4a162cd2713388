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
	uncommitted := false
	for told.Err() == nil {
		uncommitted = turn(told, client, o.Topic, uncommitted)
	}
	// Without the permission of the poll that the end interrupted, closing waits for ever.
	client.CloseAllowingRebalance()
}

// What a commit that fails leaves, because the group rebalances or the broker is away, is committed later where it is still
// owned; the rest comes again.
func turn(told context.Context, client *kgo.Client, topic string, uncommitted bool) bool {
	defer client.AllowRebalance()
	waiting, cancel := context.WithTimeout(told, 100*time.Millisecond)
	defer cancel()
	records := client.PollRecords(waiting, 20).Records()
	for _, record := range records {
		member.Got(record.Partition, record.Offset, record.Value)
	}
	if len(records) == 0 && !uncommitted {
		return false
	}
	committing, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := client.CommitUncommittedOffsets(committing); err != nil {
		return true
	}
	for partition, committed := range client.CommittedOffsets()[topic] {
		member.Committed(partition, committed.Offset)
	}
	return false
}
