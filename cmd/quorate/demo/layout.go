package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/quoratedb/quorate/transport/freeport"
)

// layout says which ports the nodes have. It is kept in a data directory that
// the user named, because the addresses are part of the cluster's identity.
type layout struct {
	ClientPorts [nodeCount]int `json:"client_ports"`
	PeerPorts   [nodeCount]int `json:"peer_ports"`
	TLS         bool           `json:"-"`
}

func (l layout) scheme() string {
	if l.TLS {
		return "https"
	}
	return "http"
}

const layoutFile = "demo.json"

// preferred are the ports of etcd's own local cluster (its Procfile).
func preferred() layout {
	return layout{ClientPorts: [nodeCount]int{2379, 22379, 32379}, PeerPorts: [nodeCount]int{2380, 22380, 32380}}
}

func (l layout) ports() []int { return append(l.ClientPorts[:], l.PeerPorts[:]...) }

// initialCluster is what all nodes get as --initial-cluster.
func (l layout) initialCluster() string {
	var pairs []string
	for i, port := range l.PeerPorts {
		pairs = append(pairs, fmt.Sprintf("%s=%s://127.0.0.1:%d", nodeName(i), l.scheme(), port))
	}
	return strings.Join(pairs, ",")
}

func nodeName(i int) string { return "n" + strconv.Itoa(i+1) }

// loadLayout takes the ports of an earlier run on this directory, or chooses.
func loadLayout(directory string, keep, tls bool) (layout, error) {
	path := filepath.Join(directory, layoutFile)
	content, err := os.ReadFile(path)
	if err == nil {
		l, err := reuseLayout(path, content)
		l.TLS = tls // the cluster is the same with TLS and without
		return l, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return layout{}, fmt.Errorf("read %s: %w", path, err)
	}
	chosen, err := choose()
	chosen.TLS = tls
	if err != nil || !keep {
		return chosen, err
	}
	content, err = json.Marshal(chosen)
	if err == nil {
		err = os.WriteFile(path, append(content, '\n'), 0o600)
	}
	if err != nil {
		return layout{}, fmt.Errorf("write %s: %w", path, err)
	}
	return chosen, nil
}

func reuseLayout(path string, content []byte) (layout, error) {
	var l layout
	if err := json.Unmarshal(content, &l); err != nil {
		return layout{}, fmt.Errorf("%s is damaged (%w); give an empty --data-dir", path, err)
	}
	listeners, err := listenAll(l.ports())
	if err != nil {
		return layout{}, fmt.Errorf("the cluster in %s has fixed ports, and one of them is taken: %w; end the program that uses it", filepath.Dir(path), err)
	}
	closeAll(listeners)
	return l, nil
}

// choose takes etcd's usual ports when they are all free, otherwise any
// that are free. Another program can still take one between here and
// the start of the nodes; they would say so.
func choose() (layout, error) {
	usual := preferred()
	if err := freeport.Reserve(usual.ports()...); err == nil {
		return usual, nil
	}
	var l layout
	for i := range nodeCount {
		for _, port := range []*int{&l.ClientPorts[i], &l.PeerPorts[i]} {
			var err error
			if *port, err = freeport.Get(); err != nil {
				return layout{}, fmt.Errorf("find free ports: %w", err)
			}
		}
	}
	return l, nil
}

// listenAll holds all ports at once, so that no two of them are the same.
func listenAll(ports []int) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, port := range ports {
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			closeAll(listeners)
			return nil, err
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, listener := range listeners {
		listener.Close() // nothing was accepted: there is nothing to lose
	}
}
