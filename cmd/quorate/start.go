package main

import (
	"context"

	"github.com/quoratedb/quorate/server"
)

// node is what serve needs of a running server; *server.Server has it.
type node interface {
	Ready() <-chan struct{}      // closed once the node serves clients
	Err() <-chan error           // delivers what made the node stop by itself
	Close(context.Context) error // ends it in order; safe to call once
}

// startNode is the seam between the command line and the composition root.
func startNode(ctx context.Context, options server.Options) (node, error) {
	running, err := server.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	return running, nil
}
