package connlimit

import (
	"errors"
	"testing"
)

// TestPlan: what is given away is there; nobody goes below what it cannot do without; more descriptors are not less for anybody, but for rounding.
func TestPlan(t *testing.T) {
	for _, metrics := range []bool{false, true} {
		for _, nodes := range []int{1, 3, 5, 9} {
			var before Plan
			planned := false
			for descriptors := range uint64(40_000) {
				p, err := NewPlan(Request{Descriptors: descriptors, Nodes: nodes, Metrics: metrics, MaxClients: 10_000})
				if err != nil {
					if !errors.Is(err, ErrTooFew) || planned {
						t.Fatalf("%d descriptors: %v", descriptors, err)
					}
					continue
				}
				planned = true
				switch sum := p.Rest + p.State + p.Peers + p.Metrics + p.Clients; {
				case sum > int(descriptors):
					t.Fatalf("%d descriptors, %d given away: %+v", descriptors, sum, p)
				case p.Clients < minClients || p.State < minState || p.Peers < minPeers || p.Clients > 10_000 || metrics != (p.Metrics > 0):
					t.Fatalf("%d descriptors: %+v", descriptors, p)
				case p.State < before.State || p.Peers < before.Peers || p.Metrics < before.Metrics || p.Clients < before.Clients-2:
					t.Fatalf("%d descriptors: %+v, with one less %+v", descriptors, p, before)
				}
				before = p
			}
			if before.Clients != 10_000 || before.State != maxState {
				t.Errorf("with many descriptors: %+v", before)
			}
		}
	}
}

func TestPlanOfKnownLimits(t *testing.T) {
	for _, test := range []struct {
		descriptors uint64
		clients     int
	}{{300, 54}, {1024, 404}, {20_000, 10_000}, {1 << 63, 10_000}} {
		p, err := NewPlan(Request{Descriptors: test.descriptors, Nodes: 3, Metrics: true, MaxClients: 10_000})
		if err != nil || p.Clients != test.clients {
			t.Errorf("%d descriptors: %+v, %v", test.descriptors, p, err)
		}
	}
}
