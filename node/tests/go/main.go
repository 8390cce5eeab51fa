// Command geminio is a client of the geminio protocol for the tests of limes. It follows the conventions of edges
// and services: the JSON in a service's meta, and the edge id at the end of custom.
//
//	geminio checks EDGES SERVICES [EDGES SERVICES]...   one pair of addresses for each node
//	geminio alone EDGES SERVICES [EDGES SERVICES]...    the checks that would disturb others
//	geminio hold EDGES SERVICES                          an edge and a service that act on request, until stdin ends
//	geminio moves EDGES SERVICES EDGES SERVICES          an edge that leaves the second node, called from the first
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"

	"github.com/jumboframes/armorigo/log"
)

func main() {
	if len(os.Args) < 4 || len(os.Args)%2 != 0 {
		fmt.Fprintln(os.Stderr, "usage: geminio checks|alone|hold|moves EDGES SERVICES [EDGES SERVICES]...")
		os.Exit(2)
	}
	var nodes []node
	for at := 2; at+1 < len(os.Args); at += 2 {
		nodes = append(nodes, node{edges: os.Args[at], services: os.Args[at+1]})
	}
	// Stdout is for the lines that the test reads; the library would log there too.
	log.SetOutput(os.Stderr)
	// A check that hangs must not hang the test.
	time.AfterFunc(5*time.Minute, func() {
		fmt.Println("FAILED: not within five minutes")
		os.Exit(1)
	})
	switch os.Args[1] {
	case "checks":
		checks(nodes)
	case "alone":
		alone(nodes)
	case "hold":
		hold(nodes[0])
		// The test closes stdin when it is done.
		bufio.NewReader(os.Stdin).ReadString('\n')
	case "moves":
		moves(nodes)
	default:
		os.Exit(2)
	}
}

// must ends the program on an error.
func must(err error, what string) {
	if err != nil {
		fmt.Printf("FAILED: %s: %v\n", what, err)
		os.Exit(1)
	}
}

// check ends the program when a condition does not hold.
func check(holds bool, format string, args ...any) {
	if !holds {
		fmt.Printf("FAILED: "+format+"\n", args...)
		os.Exit(1)
	}
}

// says ends the program unless the error has this text.
func says(err error, text, what string) {
	if err == nil {
		check(false, "%s: no error, wanted %q", what, text)
	}
	check(err.Error() == text, "%s: %q, wanted %q", what, err, text)
}

// eventually waits for a condition, at most a minute.
func eventually(what string, holds func() bool) {
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
	}
	check(false, "not within a minute: %s", what)
}
