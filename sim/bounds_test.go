package sim

import (
	"reflect"
	"testing"
)

// TestBoundsAreDrawn: each is that of production in most runs, and small in some.
func TestBoundsAreDrawn(t *testing.T) {
	const seeds = 400
	changed := make([]int, reflect.TypeFor[Bounds]().NumField())
	for seed := uint64(1); seed <= seeds; seed++ {
		drawn := reflect.ValueOf(drawBounds(seed))
		for i := range changed {
			if !drawn.Field(i).IsZero() {
				changed[i]++
			}
		}
	}
	for i, n := range changed {
		switch name := reflect.TypeFor[Bounds]().Field(i).Name; name {
		case "LogSegmentBytes": // it is not that of production in any run
			if n != seeds {
				t.Errorf("%s was drawn %d times of %d", name, n, seeds)
			}
		case "WatchChunkBytes", "WatchBatchBytes":
			if n < seeds/2 || n == seeds {
				t.Errorf("%s was drawn %d times of %d", name, n, seeds)
			}
		default:
			if n < seeds/20 || n > seeds/2 {
				t.Errorf("%s was drawn %d times of %d", name, n, seeds)
			}
		}
	}
}
