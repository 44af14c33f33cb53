package server

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/quoratedb/quorate/datadir"
)

// TestPatience: what a killed process still holds is waited for, and nothing else is tried twice.
func TestPatience(t *testing.T) {
	for _, inUse := range []error{fmt.Errorf("lock: %w", datadir.ErrInUse), addressInUse(t)} {
		attempts := 0
		got, err := patiently(func() (int, error) {
			if attempts++; attempts < 3 {
				return 0, inUse
			}
			return 7, nil
		})
		if got != 7 || err != nil || attempts != 3 {
			t.Errorf("%v: got %d, %v after %d attempts", inUse, got, err, attempts)
		}
	}
	attempts := 0
	if _, err := patiently(func() (int, error) { attempts++; return 0, datadir.ErrNotWritable }); !errors.Is(err, datadir.ErrNotWritable) || attempts != 1 {
		t.Errorf("%v after %d attempts", err, attempts)
	}
}

func addressInUse(t *testing.T) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	second, err := net.Listen("tcp", l.Addr().String())
	if err == nil {
		second.Close()
		t.Fatal("two listeners on one port")
	}
	return err
}
