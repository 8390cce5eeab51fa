package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/singchia/geminio"
	"github.com/singchia/geminio/client"
)

// checks runs all checks that do not disturb each other, at the same time.
func checks(nodes []node) {
	last := len(nodes) - 1
	all := []named{
		{"a hundred edges at once", crowd}, {"reconnects", reconnects}, {"one id, two services", twins},
		{"services that leave", neighbours}, {"last answers", lastAnswers}, {"last handlers", lastHandlers},
		{"a slow reader", slowly}, {"large bodies", heavy(large)}, {"much at once", heavy(push)},
		{"a long stream", heavy(bulk)},
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

var turn sync.Mutex

// heavy makes checks that move tens of megabytes take turns: each has deadlines of its own, and the time of its
// predecessors does not count.
func heavy(check func([]node)) func([]node) {
	return func(nodes []node) {
		turn.Lock()
		defer turn.Unlock()
		check(nodes)
	}
}

// alone runs the checks that would disturb others: their services are asked about each edge, or take each topic.
func alone(nodes []node) {
	for _, one := range []named{{"a service without JSON, and the topic *", strange}, {"edge callbacks", callbacks}} {
		one.timed(nodes)
	}
	fmt.Println("all checks passed")
}

// named is a check and its name.
type named struct {
	name string
	run  func([]node)
}

func (n named) timed(nodes []node) {
	began := time.Now()
	n.run(nodes)
	fmt.Printf("ok: %s, in %v\n", n.name, time.Since(began).Round(time.Millisecond))
}

// crowd is a hundred edges that connect and call at once.
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

// reconnects is a service whose connection breaks: it returns with its method and its topic.
func reconnects(nodes []node) {
	meta, _ := json.Marshal(&serviceMeta{"phoenix", []string{"ashes"}})
	line := &breakable{addr: nodes[0].services}
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
	must(err, "a call before the connection breaks")
	line.closeNow()
	eventually("the method is back", func() bool {
		_, err := call(edge, ctx, "phoenix", []byte("x"), nil)
		return err == nil
	})
	must(publish(edge, ctx, "ashes", nil), "the topic is back")
	must(edge.Close(), "the edge closes")
	must(svc.Close(), "the service closes")
}

// neighbours is services with ids close to each other: when some leave, the methods and topics of the others stay.
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

// twins is one service id on several connections: none closes or blocks another.
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

// strange is what ends the reference: a meta that is not JSON, and a subscription to *.
func strange(nodes []node) {
	opt := client.NewEndOptions()
	opt.SetMeta([]byte("no json"))
	_, err := client.NewEnd("tcp", nodes[0].services, opt)
	check(err != nil && strings.Contains(err.Error(), "JSON"), "a meta that is not JSON: %v", err)
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
	eventually("the topic has no subscriber", func() bool {
		err := publish(edge, ctx, "other", nil)
		return err != nil && err.Error() == "topic not online"
	})
	must(own.Close(), "own closes")
	must(edge.Close(), "the edge closes")
}
