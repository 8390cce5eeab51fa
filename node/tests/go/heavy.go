package main

import (
	"bytes"
	"context"
	"io"
	"math/rand"
	"sync"
	"time"

	"github.com/singchia/geminio"
)

// large is bodies near the limit, and one that would end the connection of its receiver.
func large(nodes []node) {
	svc := mustService(nodes[0].services, "large", "large")
	go answer(svc, nil)
	register(svc, "large", func(_ context.Context, req geminio.Request, rsp geminio.Response) { rsp.SetData(req.Data()) })
	edge := mustEdge(nodes[len(nodes)-1].edges, "")
	ctx, cancel := within(2 * time.Minute)
	defer cancel()
	data := make([]byte, 7_800_000)
	back, err := call(edge, ctx, "large", data, nil)
	check(err == nil && len(back) == len(data), "a large call: %d, %v", len(back), err)
	says(publish(edge, ctx, "large", make([]byte, 7_864_215)), "packet payload too large", "a message that grows beyond the limit")
	must(publish(edge, ctx, "large", []byte("small")), "both ends have survived")
	stream, err := openTo(edge, "large", "")
	must(err, "a stream for large packets")
	far, err := svc.AcceptStream()
	must(err, "accept it")
	whole := make([]byte, 10<<20-8)
	rand.Read(whole)
	go stream.Write(whole)
	got := make([]byte, len(whole))
	_, err = io.ReadFull(far, got)
	check(err == nil && bytes.Equal(got, whole), "a packet of 10 MiB: %v", err)
	stream.Close()
	must(edge.Close(), "the edge closes")
	must(svc.Close(), "the service closes")
}

// bulk is more than the gateway buffers for a stream, from a service to an edge that reads as fast as it can: the
// edge may be slower than the service.
func bulk(nodes []node) {
	svc := mustService(nodes[len(nodes)-1].services, "bulk")
	edge, err := newEdge(nodes[0].edges, "bulk")
	must(err, "an edge that reads a long stream connects")
	near, err := openTo(edge, "bulk", "")
	must(err, "edge opens a long stream")
	far, err := svc.AcceptStream()
	must(err, "service accepts a long stream")
	const pieces, size = 48, 1 << 20
	go func() {
		for range pieces {
			far.Write(make([]byte, size))
		}
		far.Close()
	}()
	near.SetReadDeadline(time.Now().Add(2 * patience))
	got, err := io.Copy(io.Discard, near)
	check(got == pieces*size, "a reader got %d of %d bytes, then %v", got, pieces*size, err)
	must(edge.Close(), "the edge with a long stream closes")
	must(svc.Close(), "the service with a long stream closes")
}

// push is a service that has more than 16 MiB in flight: none of its calls is refused. Each edge answers when all
// calls have arrived.
func push(nodes []node) {
	const count = 20
	svc := mustService(nodes[0].services, "pusher")
	var arrived sync.WaitGroup
	arrived.Add(count)
	var edges []geminio.End
	for range count {
		edge, err := newEdge(nodes[len(nodes)-1].edges, "pushed")
		must(err, "an edge that receives much connects")
		register(edge, "put", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
			arrived.Done()
			arrived.Wait()
			rsp.SetData([]byte{byte(len(req.Data()) >> 20)})
		})
		edges = append(edges, edge)
	}
	ctx, cancel := within(patience)
	defer cancel()
	answers := make(chan error, count)
	for _, edge := range edges {
		go func() {
			data, err := svc.call(ctx, edge.ClientID(), "put", make([]byte, 1<<20), nil)
			check(err != nil || len(data) == 1 && data[0] == 1, "an edge got %v MiB", data)
			answers <- err
		}()
	}
	for range count {
		must(<-answers, "a MiB for an edge")
	}
	for _, edge := range edges {
		must(edge.Close(), "an edge that received much closes")
	}
	must(svc.Close(), "the pusher closes")
}
