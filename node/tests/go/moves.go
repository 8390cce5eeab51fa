package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/singchia/geminio"
	"github.com/singchia/geminio/client"
)

// moves is an edge that dials the second node first and then the nodes in turn, as the reference's edges do when
// their connection ends, and a service on the first node that calls it all the time. When the edge has answered on
// its second connection, it prints how many calls failed.
func moves(nodes []node) {
	const id = 4711
	svc := mustService(nodes[0].services, "mover")
	register(svc, "get_edge_id", func(_ context.Context, _ geminio.Request, rsp geminio.Response) {
		rsp.SetData(binary.BigEndian.AppendUint64(nil, id))
	})
	var dials atomic.Int64
	dial := func() (net.Conn, error) {
		return net.Dial("tcp", nodes[1-(dials.Add(1)-1)%2].edges)
	}
	opt := client.NewEndOptions()
	opt.SetMeta([]byte("moves"))
	edge, err := client.NewRetryEndWithDialer(dial, opt)
	must(err, "an edge that reconnects connects")
	register(edge, "where", func(_ context.Context, req geminio.Request, rsp geminio.Response) {
		rsp.SetData(fmt.Append(nil, dials.Load()))
	})
	calls, failed := 0, 0
	where := func() string {
		ctx, cancel := within(patience)
		defer cancel()
		calls++
		said, err := svc.call(ctx, id, "where", nil, nil)
		if err != nil {
			failed++
			fmt.Printf("call %d: %v\n", calls, err)
		}
		return string(said)
	}
	check(where() == "1", "the edge is called on its first connection")
	fmt.Println("moving")
	eventually("the edge answers on another connection", func() bool {
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if said := where(); said != "" && said != "1" {
				return true
			}
		}
		return false
	})
	fmt.Printf("%d calls, %d failed\n", calls, failed)
}
