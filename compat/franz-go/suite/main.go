// franz-go against both doors: idempotent produce, a group shared with an HTTP instance, headers,
// transactions' isolation, offsets by time. The last line counts.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	door   = "http://" + os.Getenv("HYDRANT_HTTP")
	broker = os.Getenv("HYDRANT_KAFKA")
)

func call(method, path string, body any) (int, []byte, error) {
	var upload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		upload = bytes.NewReader(text)
	}
	request, err := http.NewRequest(method, door+path, upload)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("content-type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

func expect(what string, wanted, got any) error {
	if fmt.Sprint(wanted) != fmt.Sprint(got) {
		return fmt.Errorf("%s: wanted %v, got %v", what, wanted, got)
	}
	return nil
}

func create(ctx context.Context, name string, partitions int32) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, name)
	return err
}

// Produces with every codec, idempotently, and reads by HTTP what arrived.
func produces(ctx context.Context) error {
	if err := create(ctx, "go-produce", 1); err != nil {
		return err
	}
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(),
		kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	for n, codec := range codecs {
		client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ProducerBatchCompression(codec))
		if err != nil {
			return err
		}
		record := &kgo.Record{
			Topic: "go-produce", Key: []byte("k"), Value: []byte(fmt.Sprintf(`{"n":%d}`, n)),
			Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}},
		}
		err = client.ProduceSync(ctx, record).FirstErr()
		client.Close()
		if err != nil {
			return err
		}
		if err := expect("offset", n, record.Offset); err != nil {
			return err
		}
	}
	status, text, err := call("GET", "/topics/go-produce/records?limit=10", nil)
	if err != nil {
		return err
	}
	var read struct {
		Records []struct {
			Value   struct{ N int }
			Headers [][]string
		}
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return fmt.Errorf("%d %s: %w", status, text, err)
	}
	for n, record := range read.Records {
		if err := expect("value", n, record.Value.N); err != nil {
			return err
		}
		if err := expect("headers", [][]string{{"h", "v"}}, record.Headers); err != nil {
			return err
		}
	}
	return expect("records", len(codecs), len(read.Records))
}

// Shares a group with an HTTP instance: together they get everything, and commits are seen.
func sharesGroup(ctx context.Context) error {
	if err := create(ctx, "go-group", 4); err != nil {
		return err
	}
	steps := []struct {
		path   string
		body   any
		status int
	}{
		{"/consumers/go", map[string]any{"name": "i", "format": "json", "auto.offset.reset": "earliest"}, 200},
		{"/consumers/go/instances/i/subscription", map[string]any{"topics": []string{"go-group"}}, 204},
	}
	for _, step := range steps {
		status, text, err := call("POST", step.path, step.body)
		if err != nil {
			return err
		}
		if err := expect(step.path+" "+string(text), step.status, status); err != nil {
			return err
		}
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(broker), kgo.ConsumerGroup("go"), kgo.ConsumeTopics("go-group"),
		kgo.Balancers(kgo.RangeBalancer()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	seen := map[string]bool{}
	var native, rest int
	for n := 0; len(seen) < 200 || native == 0 || rest == 0; n++ {
		if ctx.Err() != nil {
			return fmt.Errorf("only %d records, %d native and %d by HTTP", len(seen), native, rest)
		}
		records := []map[string]any{}
		for p := range 4 {
			records = append(records, map[string]any{"partition": p, "value": fmt.Sprintf("%d-%d", n, p)})
		}
		if _, _, err := call("POST", "/topics/go-group", map[string]any{"records": records}); err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		client.PollFetches(short).EachRecord(func(record *kgo.Record) {
			var value string
			_ = json.Unmarshal(record.Value, &value)
			seen[value] = true
			native++
		})
		cancel()
		_, text, err := call("GET", "/consumers/go/instances/i/records?timeout=200", nil)
		if err != nil {
			return err
		}
		var polled []struct{ Value string }
		if err := json.Unmarshal(text, &polled); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		for _, record := range polled {
			seen[record.Value] = true
			rest++
		}
	}
	return client.CommitUncommittedOffsets(ctx)
}

// Reads committed records only: all of an atomic HTTP request, and no marker.
func readsCommitted(ctx context.Context) error {
	if err := create(ctx, "go-left", 1); err != nil {
		return err
	}
	if err := create(ctx, "go-right", 1); err != nil {
		return err
	}
	body := map[string]any{"records": []map[string]any{
		{"topic": "go-left", "value": 1}, {"topic": "go-right", "value": 2}, {"topic": "go-left", "value": 3},
	}}
	for range 3 {
		status, text, err := call("POST", "/records?atomic=true", body)
		if err != nil {
			return err
		}
		if err := expect(string(text), 200, status); err != nil {
			return err
		}
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(broker), kgo.ConsumeTopics("go-left", "go-right"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	counts := map[string]int{}
	for counts["1"]+counts["2"]+counts["3"] < 9 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("only %v: %w", counts, err)
		}
		fetches.EachRecord(func(record *kgo.Record) { counts[string(record.Value)]++ })
	}
	if err := expect("counts", map[string]int{"1": 3, "2": 3, "3": 3}, counts); err != nil {
		return err
	}
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, "go-left")
	if err != nil {
		return err
	}
	end, _ := ends.Lookup("go-left", 0)
	// Two records and a marker each time.
	return expect("last stable offset", 9, end.Offset)
}

func main() {
	tests := []struct {
		name string
		run  func(context.Context) error
	}{
		{"every codec, headers and sequences arrive", produces},
		{"a group with an HTTP instance gets everything", sharesGroup},
		{"committed records of atomic requests, and no marker", readsCommitted},
	}
	failed := 0
	for _, test := range tests {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		err := test.run(ctx)
		cancel()
		if err != nil {
			failed++
			fmt.Printf("not ok - %s: %v\n", test.name, err)
		} else {
			fmt.Printf("ok - %s\n", test.name)
		}
	}
	fmt.Printf("%d passed, %d failed\n", len(tests)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
