package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/singchia/geminio"
	"github.com/singchia/geminio/client"
	"github.com/singchia/geminio/options"
)

type node struct{ edges, services string }

// patience is ten times what anything takes on an idle machine. The gateway allows no call more.
const patience = 30 * time.Second

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

func newEdge(addr, meta string) (geminio.End, error) {
	opt := client.NewEndOptions()
	opt.SetMeta([]byte(meta))
	return client.NewEnd("tcp", addr, opt)
}

// mustEdge is an edge with the methods of edgeMethods.
func mustEdge(addr, meta string) geminio.End {
	edge, err := newEdge(addr, meta)
	must(err, "an edge connects to "+addr)
	edgeMethods(edge)
	return edge
}

type serviceMeta struct {
	Service string   `json:"service"`
	Topics  []string `json:"topics"`
}

type service struct{ geminio.End }

func newService(addr, name string, id uint64, topics ...string) (*service, error) {
	meta, _ := json.Marshal(&serviceMeta{name, topics})
	opt := client.NewEndOptions()
	opt.SetMeta(meta)
	opt.SetBufferSize(1024, 1024)
	if id != 0 {
		opt.SetClientID(id)
	}
	end, err := client.NewEnd("tcp", addr, opt)
	if err != nil {
		return nil, err
	}
	return &service{end}, nil
}

func mustService(addr, name string, topics ...string) *service {
	svc, err := newService(addr, name, 0, topics...)
	must(err, "a service connects to "+addr)
	return svc
}

func withEdge(custom []byte, edge uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{}, custom...), edge)
}

// splitEdge splits custom into the user's bytes and the edge id at its end.
func splitEdge(custom []byte) ([]byte, uint64) {
	at := len(custom) - 8
	if at < 0 {
		return custom, 0
	}
	return custom[:at], binary.BigEndian.Uint64(custom[at:])
}

func (s *service) call(ctx context.Context, edge uint64, method string, data, custom []byte) ([]byte, error) {
	opt := options.NewRequest()
	opt.SetCustom(withEdge(custom, edge))
	rsp, err := s.Call(ctx, method, s.NewRequest(data, opt))
	if err != nil {
		return nil, err
	}
	return rsp.Data(), rsp.Error()
}

func (s *service) publish(ctx context.Context, edge uint64, data []byte) error {
	opt := options.NewMessage()
	opt.SetCustom(withEdge(nil, edge))
	return s.Publish(ctx, s.NewMessage(data, opt))
}

func (s *service) open(edge uint64, meta string) (geminio.Stream, error) {
	return openTo(s, strconv.FormatUint(edge, 10), meta)
}

func openTo(end geminio.End, peer, meta string) (geminio.Stream, error) {
	opt := options.OpenStream()
	opt.SetPeer(peer)
	opt.SetMeta([]byte(meta))
	return end.OpenStream(opt)
}

func call(end geminio.RPCer, ctx context.Context, method string, data, custom []byte) ([]byte, error) {
	opt := options.NewRequest()
	opt.SetCustom(custom)
	rsp, err := end.Call(ctx, method, end.NewRequest(data, opt))
	if err != nil {
		return nil, err
	}
	return rsp.Data(), rsp.Error()
}

func publish(end geminio.Messager, ctx context.Context, topic string, data []byte) error {
	opt := options.NewMessage()
	opt.SetTopic(topic)
	return end.Publish(ctx, end.NewMessage(data, opt))
}

func register(end geminio.RPCer, method string, rpc geminio.RPC) {
	ctx, cancel := within(patience)
	defer cancel()
	must(end.Register(ctx, method, rpc), "register "+method)
}

// answer acknowledges messages. It answers "bad…" with an error and never answers "mute…".
func answer(end geminio.Messager, got func(geminio.Message)) {
	for {
		message, err := end.Receive(context.Background())
		if err != nil {
			return
		}
		switch {
		case len(message.Data()) >= 4 && string(message.Data()[:4]) == "mute":
		case len(message.Data()) >= 3 && string(message.Data()[:3]) == "bad":
			message.Error(errors.New("no legs"))
		default:
			if got != nil {
				got(message)
			}
			message.Done()
		}
	}
}

func edgeMethods(end geminio.End) {
	register(end, "echo", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		rsp.SetData(req.Data())
	})
	register(end, "custom", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		rsp.SetData(req.Custom())
	})
	register(end, "panic", func(context.Context, geminio.Request, geminio.Response) { panic("boom") })
	slow(end, "slow")
	go answer(end, nil)
}

// slowCalls notes the calls to slow methods, by their data.
var slowCalls callNotes

// callNotes notes when calls begin and with which error their contexts end.
type callNotes struct{ begins, ends sync.Map }

func (n *callNotes) begun(call string) bool {
	_, begun := n.begins.Load(call)
	return begun
}

// end is empty until the call's context has ended.
func (n *callNotes) end(call string) string {
	text, _ := n.ends.Load(call)
	end, _ := text.(string)
	return end
}

// slow registers a method that waits for the end of its context.
func slow(end geminio.RPCer, method string) {
	register(end, method, func(ctx context.Context, req geminio.Request, rsp geminio.Response) {
		slowCalls.begins.Store(string(req.Data()), true)
		select {
		case <-ctx.Done():
			slowCalls.ends.Store(string(req.Data()), ctx.Err().Error())
		case <-time.After(patience):
		}
		rsp.SetError(errors.New("slow"))
	})
}

// breakable is a dialer whose newest connection can be closed.
type breakable struct {
	addr string
	mtx  sync.Mutex
	conn net.Conn
}

func (b *breakable) dial() (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", b.addr, patience)
	b.mtx.Lock()
	defer b.mtx.Unlock()
	b.conn = conn
	return conn, err
}

func (b *breakable) closeNow() {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	b.conn.Close()
}
