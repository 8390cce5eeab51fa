package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/singchia/geminio"
)

// pair is an edge and a service. The suffix distinguishes the names of this pair from those of others.
type pair struct {
	edge   geminio.End
	svc    *service
	suffix string
	ended  sync.WaitGroup // readers that wait for the end of their stream
}

func (p *pair) name(of string) string { return of + p.suffix }

// both checks every pairing of operations between an edge and a service.
func both(edges, services string, round int) {
	p := &pair{suffix: fmt.Sprintf("-%d", round)}
	p.svc = mustService(services, p.name("svc"), p.name("t1"), p.name("t2"))
	svc := p.svc
	messages := make(chan geminio.Message, 16)
	go answer(svc, func(message geminio.Message) { messages <- message })
	p.serviceMethods()
	edge := mustEdge(edges, "m1")
	p.edge = edge
	p.callsUp()
	p.callsDown()
	p.manyCalls()
	var wait sync.WaitGroup
	for _, part := range []func(){p.cancels, func() { p.messages(messages) }, func() { p.streams(); p.openAndSend(); p.inStreams(); p.tails() }} {
		wait.Add(1)
		go func() {
			defer wait.Done()
			part()
		}()
	}
	wait.Wait()
	p.ended.Wait()
	must(edge.Close(), "the edge closes")
	eventually("a closed edge is gone", func() bool {
		ctx, cancel := within(patience)
		defer cancel()
		_, err := svc.call(ctx, edge.ClientID(), "echo", nil, nil)
		return err != nil && err.Error() == "edge not online"
	})
	must(svc.Close(), "the service closes")
}

// serviceMethods are "echo", "custom" and "fail" of the service.
func (p *pair) serviceMethods() {
	svc := p.svc
	register(svc, p.name("echo"), func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		_, edge := splitEdge(req.Custom())
		rsp.SetData([]byte(fmt.Sprintf("%d:%s", edge, req.Data())))
	})
	register(svc, p.name("custom"), func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		custom, _ := splitEdge(req.Custom())
		rsp.SetData(custom)
	})
	register(svc, p.name("fail"), func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		rsp.SetData([]byte("partial"))
		rsp.SetError(errors.New("svc <failed>"))
	})
}

func (p *pair) callsUp() {
	edge, echo := p.edge, p.name("echo")
	ctx, cancel := within(patience)
	defer cancel()
	data, err := call(edge, ctx, echo, []byte("up"), nil)
	must(err, "edge calls service")
	check(string(data) == fmt.Sprintf("%d:up", edge.ClientID()), "the service saw %q", data)
	data, err = call(edge, ctx, p.name("custom"), nil, []byte("cus"))
	must(err, "edge calls service with custom")
	check(string(data) == "cus", "custom was %q", data)
	data, err = call(edge, ctx, p.name("fail"), nil, nil)
	says(err, "svc <failed>", "the service's own error")
	check(len(data) == 0, "a value beside an error")
	_, err = call(edge, ctx, "nosuch", nil, nil)
	says(err, "record not found", "edge calls a method without a handler")
	_, err = call(edge, ctx, "edge_online", []byte(`{"EdgeID":1}`), nil)
	says(err, "record not found", "edge plays the gateway")
	_, err = call(edge, ctx, strings.ToUpper(echo), nil, nil)
	says(err, "record not found", "a method in other letters")
}

func (p *pair) callsDown() {
	svc, id := p.svc, p.edge.ClientID()
	ctx, cancel := within(patience)
	defer cancel()
	data, err := svc.call(ctx, id, "echo", []byte("down"), nil)
	must(err, "service calls edge")
	check(string(data) == "down", "the edge answered %q", data)
	data, err = svc.call(ctx, id, "custom", nil, []byte("cus"))
	must(err, "service calls edge with custom")
	check(string(data) == "cus", "custom was %q", data)
	_, err = svc.call(ctx, id, "nosuch", nil, nil)
	says(err, "no such rpc: nosuch", "service calls what the edge has not")
	_, err = svc.call(ctx, 4242424242, "echo", nil, nil)
	says(err, "edge not online", "service calls an edge that is offline")
	_, err = svc.call(ctx, id, "panic", nil, nil)
	check(err != nil && strings.HasPrefix(err.Error(), "rpc handler panic"), "a handler's panic: %v", err)
	_, err = svc.Call(ctx, "echo", svc.NewRequest(nil))
	check(err != nil, "a call without an edge id")
	check(svc.Publish(ctx, svc.NewMessage(nil)) != nil, "a message without an edge id")
}

// manyCalls are 200 calls in each direction at once.
func (p *pair) manyCalls() {
	edge, svc, id, echo := p.edge, p.svc, p.edge.ClientID(), p.name("echo")
	ctx, cancel := within(patience)
	defer cancel()
	var wait sync.WaitGroup
	for at := range 200 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			up, err := call(edge, ctx, echo, []byte(strconv.Itoa(at)), nil)
			check(err == nil && strings.HasSuffix(string(up), ":"+strconv.Itoa(at)), "call %d up: %q %v", at, up, err)
			down, err := svc.call(ctx, id, "echo", []byte(strconv.Itoa(at)), nil)
			check(err == nil && string(down) == strconv.Itoa(at), "call %d down: %q %v", at, down, err)
		}()
	}
	wait.Wait()
}

// cancels are calls that end before they are answered: their callee learns of it.
func (p *pair) cancels() {
	p.deadline()
	edge, svc, key := p.edge, p.svc, p.name
	ctx, cancel := within(patience)
	go func() {
		eventually("the callee begins", func() bool { return slowCalls.begun(key("off")) })
		cancel()
	}()
	_, err := svc.call(ctx, edge.ClientID(), "slow", []byte(key("off")), nil)
	says(err, "context canceled", "a call that is cancelled")
	eventually("the callee learns of the cancellation", func() bool { return slowCalls.end(key("off")) == "context canceled" })
	// A service's handler never learns of it, because of its SDK; the caller does not wait for the handler.
	stuck := make(chan struct{})
	register(svc, key("stuck"), func(context.Context, geminio.Request, geminio.Response) { <-stuck })
	ctx, cancel = within(time.Second)
	_, err = call(edge, ctx, key("stuck"), nil, nil)
	cancel()
	close(stuck)
	says(err, "context deadline exceeded", "an edge's deadline")
}

// deadline is a call whose deadline passes while its callee runs. A loaded machine may take longer than the
// deadline to deliver the call; then a longer one is needed.
func (p *pair) deadline() {
	for allowed := time.Second; ; allowed *= 2 {
		key := p.name(fmt.Sprintf("late-%v", allowed))
		ctx, cancel := within(allowed)
		_, err := p.svc.call(ctx, p.edge.ClientID(), "slow", []byte(key), nil)
		cancel()
		says(err, "context deadline exceeded", "a deadline that passes")
		if slowCalls.begun(key) {
			eventually("the callee learns of the deadline", func() bool { return slowCalls.end(key) != "" })
			return
		}
		check(allowed < patience/2, "no call reaches its callee within %v", allowed)
	}
}

func (p *pair) messages(messages chan geminio.Message) {
	edge, svc := p.edge, p.svc
	ctx, cancel := within(patience)
	defer cancel()
	for at := range 20 {
		must(publish(edge, ctx, p.name("t1"), []byte(strconv.Itoa(at))), "edge publishes")
		message := <-messages
		_, from := splitEdge(message.Custom())
		check(string(message.Data()) == strconv.Itoa(at) && message.Topic() == p.name("t1") && from == edge.ClientID(),
			"message %q of topic %q from %d", message.Data(), message.Topic(), from)
	}
	says(publish(edge, ctx, p.name("t2"), []byte("bad")), "no legs", "the consumer's error")
	says(publish(edge, ctx, "absent", nil), "topic not online", "a topic without subscribers")
	must(publish(edge, ctx, p.name("t2"), []byte("after")), "edge publishes after errors")
	<-messages

	id := edge.ClientID()
	must(svc.publish(ctx, id, []byte("down")), "service publishes")
	says(svc.publish(ctx, id, []byte("bad")), "no legs", "the edge's error")
	says(svc.publish(ctx, 4242424242, nil), "edge not online", "service publishes to an edge that is offline")
	// None of the failures ends the connection, and a consumer that does not acknowledge blocks no other message.
	short, done := within(time.Second)
	check(svc.publish(short, id, []byte("mute")) != nil, "a mute consumer has acknowledged")
	done()
	must(svc.publish(ctx, id, []byte("again")), "service publishes after errors")
}
