// sarama as a member of a group. It commits on demand and does not say what was confirmed.
package main

import (
	"context"
	"time"

	"ottla.test/clients/member"

	"github.com/IBM/sarama"
)

type handler struct{ topic string }

func (it handler) Setup(session sarama.ConsumerGroupSession) error {
	member.Assigned(session.Claims()[it.topic])
	return nil
}

func (it handler) Cleanup(session sarama.ConsumerGroupSession) error {
	member.Revoked(session.Claims()[it.topic])
	return nil
}

func (handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			member.Got(message.Partition, message.Offset, message.Value)
			session.MarkMessage(message, "")
			if message.Offset+1 == claim.HighWaterMarkOffset() {
				session.Commit()
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func main() {
	o := member.Read()
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.ClientID = "interop"
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Interval = 100 * time.Millisecond
	config.Consumer.Group.Session.Timeout = o.SessionTimeout()
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	config.Consumer.Retry.Backoff = 50 * time.Millisecond
	config.Metadata.Retry.Backoff = 50 * time.Millisecond
	if o.Instance != nil {
		config.Consumer.Group.InstanceId = *o.Instance
	}
	told, tell := context.WithCancel(context.Background())
	member.WhenTold(tell)
	group, err := sarama.NewConsumerGroup([]string{o.Bootstrap}, o.Group, config)
	if err != nil {
		member.Fail(err)
	}
	for told.Err() == nil {
		// It ends with every rebalance, and while the broker is away.
		if err := group.Consume(told, []string{o.Topic}, handler{o.Topic}); err != nil {
			time.Sleep(50 * time.Millisecond)
		}
	}
	if err := group.Close(); err != nil {
		member.Fail(err)
	}
}
