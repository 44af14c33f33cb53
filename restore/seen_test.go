package restore

import (
	"fmt"
	"testing"
)

// What was added is always known, and of what was not hardly anything.
func TestSeen(t *testing.T) {
	const keys = 200_000
	s, wrong := newSeen(), 0
	for i := range keys {
		if s.add(fmt.Appendf(nil, "key/%d", i)) {
			wrong++
		}
	}
	if wrong > keys/1000 {
		t.Errorf("%d of %d new keys pass for known ones", wrong, keys)
	}
	for i := range keys {
		if !s.add(fmt.Appendf(nil, "key/%d", i)) {
			t.Fatalf("key %d is forgotten", i)
		}
	}
}
