package main

import (
	"context"
	"time"

	"github.com/singchia/geminio"
)

// slowly is a reader that is behind for longer than three seconds when its stream is closed: no byte is lost.
func slowly(nodes []node) {
	svc := mustService(nodes[0].services, "slowly")
	edge, err := newEdge(nodes[len(nodes)-1].edges, "slowly")
	must(err, "an edge that reads slowly connects")
	near, err := openTo(edge, "slowly", "")
	must(err, "edge opens a stream that it reads slowly")
	far, err := svc.AcceptStream()
	must(err, "service accepts a stream that is read slowly")
	const packets, size = 200, 1024
	go func() {
		for range packets {
			far.Write(make([]byte, size))
		}
		far.Close()
	}()
	near.SetReadDeadline(time.Now().Add(patience))
	got, buffer := 0, make([]byte, size)
	for err == nil {
		var read int
		read, err = near.Read(buffer)
		got += read
		time.Sleep(25 * time.Millisecond)
	}
	check(got == packets*size, "who reads slowly got %d of %d bytes, then %v", got, packets*size, err)
	must(edge.Close(), "the edge that reads slowly closes")
	must(svc.Close(), "its service closes")
}

// lastHandlers is a service that closes, as the reference's for clusters does at a node that stops, while it
// answers calls: they are answered.
func lastHandlers(nodes []node) {
	svc := mustService(nodes[0].services, "handlers")
	started := make(chan struct{}, 10)
	register(svc, "handle", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		started <- struct{}{}
		time.Sleep(500 * time.Millisecond)
		rsp.SetData(req.Data())
	})
	edge, err := newEdge(nodes[len(nodes)-1].edges, "handlers")
	must(err, "an edge that calls a service that closes connects")
	ctx, cancel := within(patience)
	defer cancel()
	answers := make(chan error, 10)
	for range 10 {
		go func() {
			_, err := call(edge, ctx, "handle", []byte("x"), nil)
			answers <- err
		}()
	}
	for range 10 {
		<-started
	}
	began := time.Now()
	must(svc.Close(), "a service closes while it answers")
	check(time.Since(began) < 5*time.Second, "it took %v to close", time.Since(began))
	for range 10 {
		must(<-answers, "a call to a service that closes")
	}
	must(edge.Close(), "its caller closes")
}

// push is a service that gives more than 16 MiB at once to edges which take their time: none is refused.
func push(nodes []node) {
	svc := mustService(nodes[0].services, "pusher")
	var edges []geminio.End
	for range 20 {
		edge, err := newEdge(nodes[len(nodes)-1].edges, "pushed")
		must(err, "an edge that is given much connects")
		register(edge, "put", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
			time.Sleep(time.Second)
			rsp.SetData([]byte{byte(len(req.Data()) >> 20)})
		})
		edges = append(edges, edge)
	}
	ctx, cancel := within(patience)
	defer cancel()
	answers := make(chan error, 40)
	for at := range 40 {
		go func() {
			data, err := svc.call(ctx, edges[at%len(edges)].ClientID(), "put", make([]byte, 1<<20), nil)
			check(err != nil || len(data) == 1 && data[0] == 1, "an edge got %v MiB", data)
			answers <- err
		}()
	}
	for range 40 {
		must(<-answers, "a MiB for an edge")
	}
	for _, edge := range edges {
		must(edge.Close(), "an edge that was given much closes")
	}
	must(svc.Close(), "the pusher closes")
}
