// One record a request: every connection has one record in flight and waits for its answer.
// Prints records/s and latencies, for any Kafka broker.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	broker := flag.String("broker", "127.0.0.1:9092", "HOST:PORT of the broker")
	topic := flag.String("topic", "single", "topic, which must exist")
	connections := flag.Int("connections", 16, "producers, each with a connection of its own")
	bytes := flag.Int("bytes", 100, "bytes of a record's value")
	seconds := flag.Int("seconds", 10, "how long to measure, after two seconds of warming")
	flag.Parse()

	value := make([]byte, *bytes)
	var lock sync.Mutex
	var latencies []time.Duration
	start := time.Now().Add(2 * time.Second)
	end := start.Add(time.Duration(*seconds) * time.Second)
	var done sync.WaitGroup
	for range *connections {
		client, err := kgo.NewClient(
			kgo.SeedBrokers(*broker),
			kgo.DefaultProduceTopic(*topic),
			kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.ProducerLinger(0),
			kgo.ProducerBatchCompression(kgo.NoCompression()),
		)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		defer client.Close()
		done.Go(func() {
			var own []time.Duration
			for {
				before := time.Now()
				if before.After(end) {
					break
				}
				result := client.ProduceSync(context.Background(), &kgo.Record{Value: value})
				if err := result.FirstErr(); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				if before.After(start) {
					own = append(own, time.Since(before))
				}
			}
			lock.Lock()
			latencies = append(latencies, own...)
			lock.Unlock()
		})
	}
	done.Wait()
	slices.Sort(latencies)
	at := func(share float64) float64 {
		return float64(latencies[int(share*float64(len(latencies)-1))].Microseconds()) / 1000
	}
	fmt.Printf("%d connections: %d records/s, p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms\n",
		*connections, len(latencies) / *seconds, at(0.5), at(0.99), at(0.999))
}
