// Command geminio is a client of the reference's dialect for the tests of limes. It knows the
// conventions of edges and services: what a service says in its meta, and the edge id at the end
// of custom.
//
//	geminio checks EDGES SERVICES [EDGES SERVICES]...   one pair of addresses for each node
//	geminio alone EDGES SERVICES [EDGES SERVICES]...    the checks that others would notice
//	geminio hold EDGES SERVICES                          an edge and a service that do as they are told
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
	// Lines on stdout are for the test; the library's log goes to stdout unless told otherwise.
	log.SetOutput(os.Stderr)
	// Whatever hangs, the test must end.
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
		// Until whoever started it closes the other end.
		bufio.NewReader(os.Stdin).ReadString('\n')
	case "moves":
		moves(nodes)
	default:
		os.Exit(2)
	}
}

// must ends the program when something that cannot be missed has failed.
func must(err error, what string) {
	if err != nil {
		fmt.Printf("FAILED: %s: %v\n", what, err)
		os.Exit(1)
	}
}

// check says what holds, or ends the program.
func check(holds bool, format string, args ...any) {
	if !holds {
		fmt.Printf("FAILED: "+format+"\n", args...)
		os.Exit(1)
	}
}

// says compares the text of an error.
func says(err error, text, what string) {
	if err == nil {
		check(false, "%s: no error, wanted %q", what, text)
	}
	check(err.Error() == text, "%s: %q, wanted %q", what, err, text)
}

// eventually waits for something that takes its time on a slow machine.
func eventually(what string, holds func() bool) {
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
	}
	check(false, "not within a minute: %s", what)
}
