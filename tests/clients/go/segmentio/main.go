// segmentio/kafka-go as a member of a group. It does not say which partitions it was assigned.
package main

import (
	"context"
	"time"

	"ottla.test/clients/member"

	"github.com/segmentio/kafka-go"
)

func main() {
	o := member.Read()
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers:           []string{o.Bootstrap},
		GroupID:           o.Group,
		Topic:             o.Topic,
		StartOffset:       kafka.FirstOffset,
		MaxWait:           100 * time.Millisecond,
		HeartbeatInterval: 300 * time.Millisecond,
		SessionTimeout:    o.SessionTimeout(),
		JoinGroupBackoff:  100 * time.Millisecond,
		ReadBackoffMin:    20 * time.Millisecond,
		ReadBackoffMax:    200 * time.Millisecond,
		MaxAttempts:       100,
	})
	told, tell := context.WithCancel(context.Background())
	member.WhenTold(tell)
	for told.Err() == nil {
		message, err := reader.FetchMessage(told)
		if err != nil {
			continue
		}
		member.Got(int32(message.Partition), message.Offset, message.Value)
		committing, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		// Where it fails the group rebalances, or the broker is away: the records come again.
		if err := reader.CommitMessages(committing, message); err == nil {
			member.Committed(int32(message.Partition), message.Offset+1)
		}
		cancel()
	}
	if err := reader.Close(); err != nil {
		member.Fail(err)
	}
}
