package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/singchia/geminio"
)

// hold is an edge and a service whose methods "do" and "go-do" act on request: "call TARGET METHOD BODY",
// "publish TARGET BODY", "stream TARGET BODY". TARGET is an edge's id for the service, and a service's name or a topic
// for the edge.
func hold(at node) {
	svc := mustService(at.services, "go-service", "go-topic")
	go answer(svc, nil)
	go echoStreams(svc)
	register(svc, "go-echo", func(_ context.Context, req geminio.Request, rsp geminio.Response) { rsp.SetData(req.Data()) })
	register(svc, "go-fail", func(_ context.Context, _ geminio.Request, rsp geminio.Response) {
		rsp.SetError(errors.New("go failed"))
	})
	do(svc, "go-do", func(ctx context.Context, verb, whom, rest string) ([]byte, error) {
		edge, _ := strconv.ParseUint(whom, 10, 64)
		switch verb {
		case "call":
			method, body, _ := strings.Cut(rest, " ")
			return svc.call(ctx, edge, method, []byte(body), nil)
		case "publish":
			return nil, svc.publish(ctx, edge, []byte(rest))
		}
		return streamTo(svc, whom, rest)
	})
	edge := mustEdge(at.edges, "held")
	go echoStreams(edge)
	do(edge, "do", func(ctx context.Context, verb, whom, rest string) ([]byte, error) {
		switch verb {
		case "call":
			method, body, _ := strings.Cut(rest, " ")
			return call(edge, ctx, method, []byte(body), nil)
		case "publish":
			return nil, publish(edge, ctx, whom, []byte(rest))
		}
		return streamTo(edge, whom, rest)
	})
	fmt.Printf("held %d\n", edge.ClientID())
}

func do(end geminio.End, method string, act func(ctx context.Context, verb, whom, rest string) ([]byte, error)) {
	register(end, method, func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		words := strings.SplitN(string(req.Data()), " ", 3)
		ctx, cancel := within(patience)
		defer cancel()
		data, err := act(ctx, words[0], words[1], words[2])
		if err != nil {
			rsp.SetError(err)
			return
		}
		rsp.SetData(data)
	})
}

// echoStreams accepts streams and sends their bytes back.
func echoStreams(end geminio.End) {
	for {
		stream, err := end.AcceptStream()
		if err != nil {
			return
		}
		go func() {
			io.Copy(stream, stream)
			stream.Close()
		}()
	}
}

// streamTo sends text on a stream, reads as much back, and calls a method inside the stream, which fails when the
// other end is a native client.
func streamTo(end geminio.End, peer, text string) ([]byte, error) {
	stream, err := openTo(end, peer, "from go")
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	stream.Write([]byte(text))
	back := make([]byte, len(text))
	stream.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(stream, back); err != nil {
		return nil, err
	}
	ctx, cancel := within(patience)
	defer cancel()
	_, err = call(stream, ctx, "inner", nil, nil)
	return append(back, " / "+err.Error()...), nil
}
