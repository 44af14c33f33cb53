// Package freeport finds ports of 127.0.0.1 for nodes that go down and come back: in tests, in the demo.
//
// A port that the system gives to a listener on port 0 is one of those that it also gives to outgoing
// connections, so somebody's connection may have it by the time the node listens. Ports from here lie below that range,
// and a lock file keeps other programs that ask here away from them for as long as this one runs.
package freeport

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Systems take the local ports of outgoing connections from 32768 (Linux) or 49152 (others) on.
const (
	firstPort = 10_000
	lastPort  = 32_000
)

// held are the lock files of the ports this program has. They stay open until it ends.
var held struct {
	sync.Mutex
	ports map[int]*os.File
}

// Get returns a port that nobody listens on, and that no program gets from here while this one runs.
func Get() (int, error) {
	var last error
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if last = Reserve(port); last == nil {
			return port, nil
		}
	}
	return 0, errors.Join(errors.New("found no free port"), last)
}

// Reserve takes ports of the caller's choice as Get takes its own: all of them, or none and an error.
func Reserve(ports ...int) error {
	held.Lock()
	defer held.Unlock()
	files := make(map[int]*os.File)
	for _, port := range ports {
		file, err := reserve(port)
		if err != nil {
			for _, taken := range files {
				err = errors.Join(err, taken.Close())
			}
			return err
		}
		files[port] = file
	}
	if held.ports == nil {
		held.ports = make(map[int]*os.File)
	}
	maps.Copy(held.ports, files)
	return nil
}

// Address is 127.0.0.1 with a port from Get.
func Address() (string, error) {
	port, err := Get()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// reserve locks the port's file and looks whether anybody listens.
func reserve(port int) (*os.File, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("quorate-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory for locks of ports: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock port %d: %w", port, err)
	}
	if err := lock(file); err != nil {
		return nil, errors.Join(fmt.Errorf("port %d belongs to another program: %w", port, err), file.Close())
	}
	// A process that is started meanwhile has the listener, too, until it runs its program: the port would be taken for a moment after this.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := listener.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("close port %d: %w", port, err), file.Close())
	}
	return file, nil
}
