package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/storage"
)

// TestAdviceOfANodeThatDoesNotRepair: the reader is sent to the guide once, whoever wrote the error.
func TestAdviceOfANodeThatDoesNotRepair(t *testing.T) {
	options := Options{Cluster: ClusterOptions{Members: []Member{{Name: "a", PeerURLs: []URL{{Host: "a", Port: 1}}}, {Name: "b", PeerURLs: []URL{{Host: "b", Port: 1}}}}}}
	options.Node.RefuseDamaged = true
	for _, err := range []error{
		datadir.ErrCorruptIdentity,
		fmt.Errorf("%w: a segment is gone; see %s", storage.ErrCorrupt, datadir.LostDataAdvice),
	} {
		text := options.noRepair(err).Error()
		if strings.Count(text, datadir.LostDataAdvice) != 1 || !strings.Contains(text, "--auto-repair=false") {
			t.Errorf("%q", text)
		}
	}
}
