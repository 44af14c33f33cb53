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
	if file, err := reserve(port); err == nil {
		file.Close()
		t.Errorf("port %d was reserved twice", port)
	}
}
