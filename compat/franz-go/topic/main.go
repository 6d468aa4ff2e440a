// Makes a topic with four partitions; one that exists is as good.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	broker := flag.String("broker", "127.0.0.1:9092", "HOST:PORT of the broker")
	topic := flag.String("topic", "single", "topic to make")
	flag.Parse()
	client, err := kgo.NewClient(kgo.SeedBrokers(*broker))
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, err = kadm.NewClient(client).CreateTopic(ctx, 4, 1, nil, *topic)
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
