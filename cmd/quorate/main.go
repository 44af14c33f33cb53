// Command quorate is the whole product in one binary: it serves a node, starts
// a demonstration cluster, and talks to clusters from the command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/quoratedb/quorate/sim/campaign"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{
		stdin:       os.Stdin,
		stdout:      os.Stdout,
		stderr:      os.Stderr,
		environment: os.Environ(),
		start:       startNode,
		asEtcd:      startedAsEtcd(os.Args[0]),
		simulator:   campaign.Real{},
	}
	// The first signal asks for an orderly end; after it the default action is
	// back, so that a second one ends the process whatever it is doing.
	go func() {
		<-ctx.Done()
		stop()
	}()
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// startedAsEtcd tells whether the program file, or a link to it, is named etcd.
func startedAsEtcd(program string) bool {
	return strings.TrimSuffix(filepath.Base(program), ".exe") == "etcd"
}
