package freeport

import (
	"net"
	"testing"
)

func TestGet(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		address, err := Address()
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] {
			t.Fatalf("%s was given out twice", address)
		}
		seen[address] = true
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
	}
}

// TestReserved takes a port for another program: it is not given out here, although nobody listens.
func TestReserved(t *testing.T) {
	port, err := Get()
	if err != nil {
		t.Fatal(err)
	}
	if err := Reserve(port); err == nil {
		t.Errorf("port %d was reserved twice", port)
	}
	other, err := Get()
	if err != nil {
		t.Fatal(err)
	}
	held.Lock()
	held.ports[other].Close() // as if its program had ended
	delete(held.ports, other)
	held.Unlock()
	if err := Reserve(other, port); err == nil {
		t.Errorf("port %d was reserved twice", port)
	}
	if err := Reserve(other); err != nil {
		t.Errorf("a port was kept although the one with it was refused: %v", err)
	}
}
