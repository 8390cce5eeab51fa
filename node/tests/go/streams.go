package main

import (
	"bytes"
	"context"
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
)

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
		func() (geminio.Stream, error) { return openTo(edge, "absent", "") },
		func() (geminio.Stream, error) { return openTo(edge, strings.ToUpper(name), "") },
		func() (geminio.Stream, error) { return svc.open(4242424242, "") },
		func() (geminio.Stream, error) { return openTo(svc, "no number", "") },
	} {
		lost, err := open()
		if err == nil {
			lost.SetReadDeadline(time.Now().Add(patience))
			_, err = lost.Read(make([]byte, 1))
			check(errors.Is(err, io.EOF), "a stream to an unknown peer ended with %v", err)
		}
	}
}

// openAndSend sends right after the open and right after the accept: no byte is lost.
func (p *pair) openAndSend() {
	edge, svc, name := p.edge, p.svc, p.name("svc")
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
	// The gateway delays the end for a reader that may be behind.
	ended.Add(1)
	go func() {
		defer ended.Done()
		n, err := far.Read(make([]byte, 1))
		check(n == 0 && err != nil, "%d bytes behind the end", n)
	}()
}

// inStreams are calls and messages inside a stream.
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

// tails closes a stream before its reader has begun to read: no byte is lost.
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
