package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/singchia/geminio"
	"github.com/singchia/geminio/client"
)

func checks(nodes []node) {
	last := len(nodes) - 1
	all := []named{
		{"a hundred edges at once", crowd}, {"reconnects", reconnects}, {"one id, two services", twins},
		{"large bodies", large}, {"services that leave", neighbours}, {"last answers", lastAnswers},
		{"last handlers", lastHandlers}, {"a slow reader", slowly}, {"much at once", push},
	}
	for round, nos := range [][2]int{{0, 0}, {0, last}, {last, 0}} {
		name := fmt.Sprintf("edge on node %d, service on node %d", nos[0]+1, nos[1]+1)
		all = append(all, named{name, func(nodes []node) { both(nodes[nos[0]].edges, nodes[nos[1]].services, round) }})
	}
	var wait sync.WaitGroup
	for _, one := range all {
		wait.Add(1)
		go func() {
			defer wait.Done()
			one.timed(nodes)
		}()
	}
	wait.Wait()
	fmt.Println("all checks passed")
}

// alone is what others would notice: services that are asked about each edge, or take each topic.
func alone(nodes []node) {
	for _, one := range []named{{"a service without JSON, and the topic *", strange}, {"edge callbacks", callbacks}} {
		one.timed(nodes)
	}
	fmt.Println("all checks passed")
}

// named is a check.
type named struct {
	name string
	run  func([]node)
}

func (n named) timed(nodes []node) {
	began := time.Now()
	n.run(nodes)
	fmt.Printf("ok: %s, in %v\n", n.name, time.Since(began).Round(time.Millisecond))
}

// pair is an edge and a service; names of others of its kind are told apart by the suffix.
type pair struct {
	edge   geminio.End
	svc    *service
	suffix string
	ended  sync.WaitGroup // ends of streams that are still to be seen
}

func (p *pair) name(of string) string { return of + p.suffix }

// both is every pairing of operations between an edge and a service.
func both(edges, services string, round int) {
	p := &pair{suffix: fmt.Sprintf("-%d", round)}
	p.svc = mustService(services, p.name("svc"), p.name("t1"), p.name("t2"))
	svc := p.svc
	messages := make(chan geminio.Message, 16)
	go answer(svc, func(message geminio.Message) { messages <- message })
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
	edge := mustEdge(edges, "m1")
	p.edge = edge
	p.calls()
	var wait sync.WaitGroup
	for _, part := range []func(){p.cancels, func() { p.mails(messages) }, func() { p.streams(); p.inStreams(); p.tails(); p.bulk(round) }} {
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

func (p *pair) calls() {
	edge, svc, echo := p.edge, p.svc, p.name("echo")
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
	says(err, "record not found", "edge calls what nobody offers")
	_, err = call(edge, ctx, "edge_online", []byte(`{"EdgeID":1}`), nil)
	says(err, "record not found", "edge plays the gateway")

	id := edge.ClientID()
	data, err = svc.call(ctx, id, "echo", []byte("down"), nil)
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
	_, err = call(edge, ctx, strings.ToUpper(echo), nil, nil)
	says(err, "record not found", "a method in other letters")

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

func (p *pair) cancels() {
	edge, svc, key := p.edge, p.svc, p.name
	id := edge.ClientID()
	ctx, cancel := within(time.Second)
	_, err := svc.call(ctx, id, "slow", []byte(key("late")), nil)
	cancel()
	says(err, "context deadline exceeded", "a deadline that passes")
	eventually("the callee learns of the deadline", func() bool {
		_, ended := ends.Load(key("late"))
		return ended
	})
	ctx, cancel = within(patience)
	time.AfterFunc(300*time.Millisecond, cancel)
	_, err = svc.call(ctx, id, "slow", []byte(key("off")), nil)
	says(err, "context canceled", "a call that is cancelled")
	eventually("the callee learns that nobody waits", func() bool {
		text, ended := ends.Load(key("off"))
		return ended && text == "context canceled"
	})
	// The other way a service's handler never learns, by its SDK; the caller does not wait for it.
	stuck := make(chan struct{})
	register(svc, key("stuck"), func(context.Context, geminio.Request, geminio.Response) { <-stuck })
	ctx, cancel = within(time.Second)
	_, err = call(edge, ctx, key("stuck"), nil, nil)
	cancel()
	close(stuck)
	says(err, "context deadline exceeded", "an edge's deadline")
}

func (p *pair) mails(messages chan geminio.Message) {
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
	says(publish(edge, ctx, "nobody", nil), "topic not online", "a topic that nobody takes")
	must(publish(edge, ctx, p.name("t2"), []byte("after")), "edge publishes after errors")
	<-messages

	id := edge.ClientID()
	must(svc.publish(ctx, id, []byte("down")), "service publishes")
	says(svc.publish(ctx, id, []byte("bad")), "no legs", "the edge's error")
	says(svc.publish(ctx, 4242424242, nil), "edge not online", "service publishes to nobody")
	// None of the failures has ended anything, and a consumer that is mute blocks nobody.
	short, done := within(time.Second)
	check(svc.publish(short, id, []byte("mute")) != nil, "a mute consumer has acknowledged")
	done()
	must(svc.publish(ctx, id, []byte("again")), "service publishes after errors")
}

func (p *pair) streams() {
	edge, svc, name := p.edge, p.svc, p.name("svc")
	near, err := openTo(edge, name, "meta")
	must(err, "edge opens a stream")
	far, err := svc.AcceptStream()
	must(err, "service accepts a stream")
	check(string(far.Meta()) == "meta" && far.Peer() == strconv.FormatUint(edge.ClientID(), 10),
		"the stream came with %q from %q", far.Meta(), far.Peer())
	exchange(near, far, &p.ended)
	near, err = svc.open(edge.ClientID(), "down")
	must(err, "service opens a stream")
	far, err = edge.AcceptStream()
	must(err, "edge accepts a stream")
	check(string(far.Meta()) == "down", "the stream came with %q", far.Meta())
	exchange(near, far, &p.ended)

	for _, open := range []func() (geminio.Stream, error){
		func() (geminio.Stream, error) { return openTo(edge, "nobody", "") },
		func() (geminio.Stream, error) { return openTo(edge, strings.ToUpper(name), "") },
		func() (geminio.Stream, error) { return svc.open(4242424242, "") },
		func() (geminio.Stream, error) { return openTo(svc, "no number", "") },
	} {
		lost, err := open()
		if err == nil {
			lost.SetReadDeadline(time.Now().Add(patience))
			_, err = lost.Read(make([]byte, 1))
			check(errors.Is(err, io.EOF), "a stream to nobody ended with %v", err)
		}
	}
	// Data right behind the SessionAck, and right behind the accept: no byte is lost.
	for at := range 30 {
		accepted := make(chan geminio.Stream)
		go func() {
			far, err := svc.AcceptStream()
			must(err, "accept in a row")
			far.Write([]byte("hello from the service"))
			accepted <- far
		}()
		near, err := openTo(edge, name, "")
		must(err, "open in a row")
		near.Write([]byte("hello from the edge"))
		far := <-accepted
		check(readText(near, 22) == "hello from the service", "lost at once, down, round %d", at)
		check(readText(far, 19) == "hello from the edge", "lost at once, up, round %d", at)
		near.Close()
		far.Close()
	}
}

func readText(from net.Conn, count int) string {
	buf := make([]byte, count)
	from.SetReadDeadline(time.Now().Add(patience))
	n, _ := io.ReadFull(from, buf)
	return string(buf[:n])
}

func exchange(near, far geminio.Stream, ended *sync.WaitGroup) {
	data := make([]byte, 3<<20)
	rand.Read(data)
	for _, way := range [][2]geminio.Stream{{near, far}, {far, near}} {
		go func() {
			for at := 0; at < len(data); at += 30_000 {
				way[0].Write(data[at:min(at+30_000, len(data))])
			}
		}()
		got := make([]byte, len(data))
		_, err := io.ReadFull(way[1], got)
		must(err, "stream bytes")
		check(bytes.Equal(got, data), "stream bytes differ")
	}
	must(near.Close(), "close a stream")
	// The gateway lets a reader that may be behind wait for its end.
	ended.Add(1)
	go func() {
		defer ended.Done()
		n, err := far.Read(make([]byte, 1))
		check(n == 0 && err != nil, "%d bytes behind the end", n)
	}()
}

// inStreams is calls and messages inside a stream.
func (p *pair) inStreams() {
	edge, svc, name := p.edge, p.svc, p.name("svc")
	near, err := openTo(edge, name, "")
	must(err, "edge opens a stream for calls")
	far, err := svc.AcceptStream()
	must(err, "service accepts a stream for calls")
	ctx, cancel := within(patience)
	defer cancel()
	for at, way := range [][2]geminio.Stream{{near, far}, {far, near}} {
		method := fmt.Sprintf("inner-%d", at)
		register(way[1], method, func(_ context.Context, req geminio.Request, rsp geminio.Response) {
			rsp.SetData(append(req.Custom(), req.Data()...))
		})
		data, err := call(way[0], ctx, method, []byte("data"), []byte("custom-"))
		must(err, "call inside a stream")
		check(string(data) == "custom-data", "a call inside a stream: %q", data)
		_, err = call(way[0], ctx, "nosuch", nil, nil)
		says(err, "no such rpc: nosuch", "an unknown method inside a stream")
		big := make([]byte, 1<<20)
		data, err = call(way[0], ctx, method, big, nil)
		check(err == nil && len(data) == len(big), "a large call inside a stream: %d %v", len(data), err)
		go answer(way[1], nil)
		must(publish(way[0], ctx, "any", []byte("inner")), "message inside a stream")
		says(publish(way[0], ctx, "any", []byte("bad")), "no legs", "an error inside a stream")
		must(publish(way[0], ctx, "any", []byte("after")), "message after an error inside a stream")
	}
	near.Write([]byte("raw beside"))
	check(readText(far, 10) == "raw beside", "raw bytes beside calls")
	far.Close()
}

// tails is a slow reader whose stream is closed before it has read: no byte is lost.
func (p *pair) tails() {
	edge, svc, name := p.edge, p.svc, p.name("svc")
	near, err := openTo(edge, name, "")
	must(err, "edge opens a stream for its tail")
	far, err := svc.AcceptStream()
	must(err, "service accepts a stream for its tail")
	const packets, size = 200, 1024
	go func() {
		for range packets {
			far.Write(make([]byte, size))
		}
		far.Close()
	}()
	time.Sleep(time.Second)
	near.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(near)
	check(len(got) == packets*size, "a slow reader got %d of %d bytes, then %v", len(got), packets*size, err)
}

// bulk is more than the gateway keeps of a stream, from a service to an edge that reads as fast as it can: it
// need not be as fast as the service.
func (p *pair) bulk(round int) {
	if round != 1 {
		return
	}
	edge, svc, name := p.edge, p.svc, p.name("svc")
	near, err := openTo(edge, name, "")
	must(err, "edge opens a stream for much")
	far, err := svc.AcceptStream()
	must(err, "service accepts a stream for much")
	const pieces, size = 48, 1 << 20
	go func() {
		for range pieces {
			far.Write(make([]byte, size))
		}
		far.Close()
	}()
	near.SetReadDeadline(time.Now().Add(patience))
	got, err := io.Copy(io.Discard, near)
	check(got == pieces*size, "a reader got %d of %d bytes, then %v", got, pieces*size, err)
}

// crowd is a hundred edges that connect at once and call at once.
func crowd(nodes []node) {
	svc := mustService(nodes[0].services, "crowd")
	register(svc, "crowd", func(_ context.Context, req geminio.Request, rsp geminio.Response) { rsp.SetData(req.Data()) })
	go func() {
		for {
			stream, err := svc.AcceptStream()
			if err != nil {
				return
			}
			stream.Write([]byte("hello"))
		}
	}()
	var ids sync.Map
	var wait sync.WaitGroup
	for at := range 100 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			edge, err := newEdge(nodes[at%len(nodes)].edges, "crowd")
			must(err, "one of a hundred connects")
			_, twice := ids.LoadOrStore(edge.ClientID(), true)
			check(!twice, "edge id %d twice", edge.ClientID())
			ctx, cancel := within(patience)
			defer cancel()
			stream, err := openTo(edge, "crowd", "")
			must(err, "a stream right after the connect")
			check(readText(stream, 5) == "hello", "a stream right after the connect says nothing")
			_, err = call(edge, ctx, "crowd", []byte("x"), nil)
			must(err, "a call right after the connect")
			_, err = svc.call(ctx, edge.ClientID(), "nosuch", nil, nil)
			says(err, "no such rpc: nosuch", "a call to an edge right after its connect")
			must(edge.Close(), "one of a hundred closes")
		}()
	}
	wait.Wait()
	must(svc.Close(), "the crowd's service closes")
}

// reconnects is a service and an edge whose connections are cut.
func reconnects(nodes []node) {
	meta, _ := json.Marshal(&serviceMeta{"phoenix", []string{"ashes"}})
	line := &cut{addr: nodes[0].services}
	opt := client.NewEndOptions()
	opt.SetMeta(meta)
	svc, err := client.NewRetryEndWithDialer(line.dial, opt)
	must(err, "a service that comes back connects")
	register(svc, "phoenix", func(_ context.Context, req geminio.Request, rsp geminio.Response) { rsp.SetData(req.Data()) })
	go answer(svc, nil)
	edge := mustEdge(nodes[len(nodes)-1].edges, "")
	ctx, cancel := within(2 * time.Minute)
	defer cancel()
	_, err = call(edge, ctx, "phoenix", []byte("x"), nil)
	must(err, "before the cut")
	line.now()
	eventually("the method is back", func() bool {
		_, err := call(edge, ctx, "phoenix", []byte("x"), nil)
		return err == nil
	})
	must(publish(edge, ctx, "ashes", nil), "the topic is back")
	must(edge.Close(), "the edge closes")
	must(svc.Close(), "the service closes")
}

// neighbours is services whose ids are close: when some leave, what the others offer stays.
func neighbours(nodes []node) {
	var all []*service
	echo := func(_ context.Context, req geminio.Request, rsp geminio.Response) { rsp.SetData(req.Data()) }
	for at := range 6 {
		svc := mustService(nodes[at%len(nodes)].services, "neighbour", fmt.Sprintf("street-%d", at))
		register(svc, fmt.Sprintf("house-%d", at), echo)
		go answer(svc, nil)
		all = append(all, svc)
	}
	edge := mustEdge(nodes[0].edges, "")
	ctx, cancel := within(patience)
	defer cancel()
	for at, svc := range all[:5] {
		must(svc.Close(), "a neighbour leaves")
		eventually("its method is gone", func() bool {
			_, err := call(edge, ctx, fmt.Sprintf("house-%d", at), nil, nil)
			return err != nil && err.Error() == "record not found"
		})
	}
	_, err := call(edge, ctx, "house-5", nil, nil)
	must(err, "the last neighbour is called")
	must(publish(edge, ctx, "street-5", nil), "the last neighbour takes its topic")
	must(all[5].Close(), "the last neighbour leaves")
	must(edge.Close(), "the edge closes")
}

// lastAnswers is ends that close while they wait for answers: those come first.
func lastAnswers(nodes []node) {
	svc := mustService(nodes[0].services, "last", "last")
	slow := func(_ context.Context, req geminio.Request, rsp geminio.Response) {
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
	time.Sleep(200 * time.Millisecond)
	must(edge.Close(), "the edge closes")
	must(caller.Close(), "the caller closes")
	wait.Wait()
	must(other.Close(), "the other edge closes")
	must(svc.Close(), "the service closes")
}

// twins is one service id on two connections: neither evicts or blocks the other.
func twins(nodes []node) {
	const id = 770077
	edge := mustEdge(nodes[0].edges, "")
	ctx, cancel := within(patience)
	defer cancel()
	var both []*service
	for at := range 2 {
		svc, err := newService(nodes[at*(len(nodes)-1)].services, "twin", id)
		must(err, "a twin connects")
		check(svc.ClientID() == id, "the id is %d", svc.ClientID())
		register(svc, "twin", func(_ context.Context, req geminio.Request, rsp geminio.Response) { rsp.SetData(req.Data()) })
		both = append(both, svc)
	}
	third, err := newService(nodes[0].services, "twin", id)
	must(err, "a third on the same node")
	for _, svc := range append(both, third) {
		_, err := svc.call(ctx, edge.ClientID(), "echo", []byte("x"), nil)
		must(err, "a twin calls the edge")
	}
	for range 20 {
		_, err := call(edge, ctx, "twin", []byte("x"), nil)
		must(err, "the edge calls a twin")
	}
	must(third.Close(), "the third closes")
	must(both[0].Close(), "a twin closes")
	for range 20 {
		_, err := call(edge, ctx, "twin", []byte("x"), nil)
		must(err, "the edge calls the twin that is left")
	}
	must(both[1].Close(), "the other twin closes")
	must(edge.Close(), "the edge closes")
}

// strange is what ends the reference: a meta that is no JSON, and a subscription to *.
func strange(nodes []node) {
	opt := client.NewEndOptions()
	opt.SetMeta([]byte("no json"))
	_, err := client.NewEnd("tcp", nodes[0].services, opt)
	check(err != nil && strings.Contains(err.Error(), "JSON"), "a meta that is no JSON: %v", err)
	star := mustService(nodes[len(nodes)-1].services, "star", "*")
	own := mustService(nodes[0].services, "own", "own")
	topics := make(chan string, 16)
	go answer(star, func(message geminio.Message) { topics <- "star took " + message.Topic() })
	go answer(own, func(message geminio.Message) { topics <- "own took " + message.Topic() })
	edge := mustEdge(nodes[0].edges, "")
	ctx, cancel := within(patience)
	defer cancel()
	for _, topic := range []string{"other", "own", "*"} {
		must(publish(edge, ctx, topic, nil), "publish to "+topic)
	}
	for _, wanted := range []string{"star took other", "own took own", "star took *"} {
		got := <-topics
		check(got == wanted, "%s, wanted %s", got, wanted)
	}
	must(star.Close(), "star closes")
	eventually("nobody takes any topic", func() bool {
		err := publish(edge, ctx, "other", nil)
		return err != nil && err.Error() == "topic not online"
	})
	must(own.Close(), "own closes")
	must(edge.Close(), "the edge closes")
}

// large is bodies near the limit, and one that would kill its receiver.
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

type facts struct {
	EdgeID   uint64
	Meta     []byte
	Net, Str string
}

// callbacks is a service that gives ids, refuses, and hears of comings and goings.
func callbacks(nodes []node) {
	svc := mustService(nodes[len(nodes)-1].services, "ids")
	var mtx sync.Mutex
	var online, offline []facts
	note := func(list *[]facts, data []byte) facts {
		var fact facts
		must(json.Unmarshal(data, &fact), "facts of an edge")
		mtx.Lock()
		defer mtx.Unlock()
		*list = append(*list, fact)
		return fact
	}
	register(svc, "get_edge_id", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		switch meta := string(req.Data()); meta {
		case "nobody":
			rsp.SetError(errors.New("who <are> you"))
		case "odd":
			rsp.SetData([]byte("odd"))
		default:
			id, _ := strconv.ParseUint(meta, 10, 64)
			rsp.SetData(withEdge(nil, id))
		}
	})
	register(svc, "edge_online", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		if fact := note(&online, req.Data()); fact.EdgeID == 6666 {
			rsp.SetError(errors.New("refused <by> service"))
		}
	})
	register(svc, "edge_offline", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		note(&offline, req.Data())
	})
	addr := nodes[0].edges
	_, err := newEdge(addr, "nobody")
	says(err, "who <are> you", "get_edge_id refuses")
	_, err = newEdge(addr, "odd")
	says(err, "illegal edgeID", "get_edge_id gives nonsense")
	_, err = newEdge(addr, "6666")
	says(err, "refused <by> service", "edge_online refuses")
	zero := mustEdge(addr, "0")
	check(zero.ClientID() != 0, "an answer of 0 means: allot one")
	first := mustEdge(addr, "555001")
	check(first.ClientID() == 555001, "the edge has id %d", first.ClientID())
	mtx.Lock()
	fact := online[len(online)-1]
	mtx.Unlock()
	check(fact.EdgeID == 555001 && string(fact.Meta) == "555001" && fact.Net == "tcp" && fact.Str == first.LocalAddr().String(),
		"edge_online said %+v", fact)
	// The same id again, on another node: it takes over at once, and the end of the first is told.
	second := mustEdge(nodes[len(nodes)/2].edges, "555001")
	ctx, cancel := within(patience)
	defer cancel()
	register(second, "which", func(_ context.Context, _ geminio.Request, rsp geminio.Response) { rsp.SetData([]byte("second")) })
	data, err := svc.call(ctx, 555001, "which", nil, nil)
	check(err == nil && string(data) == "second", "after a take-over: %q %v", data, err)
	told := func(str string) func() bool {
		return func() bool {
			mtx.Lock()
			defer mtx.Unlock()
			for _, fact := range offline {
				if fact.EdgeID == 555001 && fact.Str == str {
					return true
				}
			}
			return false
		}
	}
	eventually("the end of the first is told", told(first.LocalAddr().String()))
	must(second.Close(), "the second closes")
	eventually("the end of the second is told", told(second.LocalAddr().String()))
	must(zero.Close(), "the edge with an allotted id closes")
	must(svc.Close(), "the service of ids closes")
}
