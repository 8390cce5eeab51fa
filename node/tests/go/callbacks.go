package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/singchia/geminio"
)

// facts are what callbacks say about an edge.
type facts struct {
	EdgeID   uint64
	Meta     []byte
	Net, Str string
}

// callbacks is a service that gives ids, refuses edges, and gets callbacks when edges connect and disconnect.
func callbacks(nodes []node) {
	svc := mustService(nodes[len(nodes)-1].services, "ids")
	var log callbackLog
	log.registerAt(svc)
	addr := nodes[0].edges
	refusals(addr)
	zero := mustEdge(addr, "0")
	check(zero.ClientID() != 0, "an answer of 0 means that the gateway allots an id")
	first := mustEdge(addr, "555001")
	check(first.ClientID() == 555001, "the edge has id %d", first.ClientID())
	fact := log.lastOnline()
	check(fact.EdgeID == 555001 && string(fact.Meta) == "555001" && fact.Net == "tcp" && fact.Str == first.LocalAddr().String(),
		"edge_online said %+v", fact)
	// The same id again, on another node: it takes over at once, and edge_offline is called for the first.
	second := mustEdge(nodes[len(nodes)/2].edges, "555001")
	ctx, cancel := within(patience)
	defer cancel()
	register(second, "which", func(_ context.Context, _ geminio.Request, rsp geminio.Response) { rsp.SetData([]byte("second")) })
	data, err := svc.call(ctx, 555001, "which", nil, nil)
	check(err == nil && string(data) == "second", "after a takeover: %q %v", data, err)
	eventually("edge_offline is called for the first", log.hasOffline(555001, first.LocalAddr().String()))
	must(second.Close(), "the second closes")
	eventually("edge_offline is called for the second", log.hasOffline(555001, second.LocalAddr().String()))
	must(zero.Close(), "the edge with an allotted id closes")
	must(svc.Close(), "the service of ids closes")
}

// refusals are edges that the service does not accept.
func refusals(addr string) {
	_, err := newEdge(addr, "absent")
	says(err, "who <are> you", "get_edge_id refuses")
	_, err = newEdge(addr, "odd")
	says(err, "illegal edgeID", "get_edge_id answers without an id")
	_, err = newEdge(addr, "6666")
	says(err, "refused <by> service", "edge_online refuses")
}

// callbackLog notes the callbacks of a service.
type callbackLog struct {
	mtx             sync.Mutex
	online, offline []facts
}

// registerAt registers the three callbacks. An edge gets the id in its meta.
func (l *callbackLog) registerAt(svc *service) {
	register(svc, "get_edge_id", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		switch meta := string(req.Data()); meta {
		case "absent":
			rsp.SetError(errors.New("who <are> you"))
		case "odd":
			rsp.SetData([]byte("odd"))
		default:
			id, _ := strconv.ParseUint(meta, 10, 64)
			rsp.SetData(withEdge(nil, id))
		}
	})
	register(svc, "edge_online", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		if fact := l.note(&l.online, req.Data()); fact.EdgeID == 6666 {
			rsp.SetError(errors.New("refused <by> service"))
		}
	})
	register(svc, "edge_offline", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		l.note(&l.offline, req.Data())
	})
}

func (l *callbackLog) note(list *[]facts, data []byte) facts {
	var fact facts
	must(json.Unmarshal(data, &fact), "facts of an edge")
	l.mtx.Lock()
	defer l.mtx.Unlock()
	*list = append(*list, fact)
	return fact
}

func (l *callbackLog) lastOnline() facts {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	return l.online[len(l.online)-1]
}

// hasOffline is a condition: edge_offline was called for this id and address.
func (l *callbackLog) hasOffline(id uint64, address string) func() bool {
	return func() bool {
		l.mtx.Lock()
		defer l.mtx.Unlock()
		return slices.ContainsFunc(l.offline, func(fact facts) bool { return fact.EdgeID == id && fact.Str == address })
	}
}
