package main

import (
	"context"
	"sync"
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

// lastHandlers is a service that closes while it handles calls, as the reference's service for clusters does when
// its node stops: the calls are answered, and the close does not take the 30 s that a client waits for its peer.
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
	check(time.Since(began) < 15*time.Second, "it took %v to close", time.Since(began))
	for range 10 {
		must(<-answers, "a call to a service that closes")
	}
	must(edge.Close(), "its caller closes")
}

// lastAnswers is ends that close while they wait for answers: the answers come first.
func lastAnswers(nodes []node) {
	svc := mustService(nodes[0].services, "last", "last")
	started := make(chan struct{}, 20)
	slow := func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		started <- struct{}{}
		time.Sleep(500 * time.Millisecond)
		rsp.SetData(req.Data())
	}
	register(svc, "last", slow)
	other := mustEdge(nodes[len(nodes)-1].edges, "")
	register(other, "last", slow)
	edge := mustEdge(nodes[len(nodes)-1].edges, "")
	caller := mustService(nodes[len(nodes)-1].services, "caller")
	ctx, cancel := within(patience)
	defer cancel()
	var wait sync.WaitGroup
	for range 10 {
		wait.Add(2)
		go func() {
			defer wait.Done()
			_, err := call(edge, ctx, "last", []byte("x"), nil)
			must(err, "a call of an edge that closes")
		}()
		go func() {
			defer wait.Done()
			_, err := caller.call(ctx, other.ClientID(), "last", []byte("x"), nil)
			must(err, "a call of a service that closes")
		}()
	}
	for range 20 {
		<-started
	}
	must(edge.Close(), "the edge closes")
	must(caller.Close(), "the caller closes")
	wait.Wait()
	must(other.Close(), "the other edge closes")
	must(svc.Close(), "the service closes")
}
