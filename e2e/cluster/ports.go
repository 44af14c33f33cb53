package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports come from below the range from which systems take the local ports of outgoing connections
// (32768 on Linux, 49152 elsewhere): nothing takes the port of a node while it is down.
const (
	firstPort = 10_000
	lastPort  = 32_000
)

// handedOut are the ports this test program gave to nodes; they are not given twice.
var handedOut struct {
	sync.Mutex
	ports map[int]bool
}

// FreePort is a port of 127.0.0.1 that nobody listens on and that was not given out before.
func FreePort() (int, error) {
	handedOut.Lock()
	defer handedOut.Unlock()
	if handedOut.ports == nil {
		handedOut.ports = make(map[int]bool)
	}
	var last error
	for range 1000 {
		// Other test programs look for ports at the same time: a random one hardly collides.
		port := firstPort + rand.IntN(lastPort-firstPort)
		if handedOut.ports[port] {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("close port %d: %w", port, err)
		}
		handedOut.ports[port] = true
		return port, nil
	}
	return 0, errors.Join(errors.New("found no free port"), last)
}
