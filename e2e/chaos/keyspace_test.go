package chaos

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/partition"
)

var (
	shards  = flag.Int("chaos.shards", 1, "how many shards hold the keys")
	kind    = flag.String("chaos.partition", "hash", "which keys a shard has: range or hash")
	commit  = flag.String("chaos.commit", "2pc", "how the shards of a transaction agree: 2pc or 3pc")
	leaders = flag.String("chaos.leaders", "sequencer", "--leaders of the nodes, if there are several shards")
)

// keyspace says which keys the shards have.
type keyspace struct {
	scheme partition.Scheme
	commit string
}

// splitKeys begin shards by range. The first ones are taken first: they part the accounts and the registers.
var splitKeys = []string{"t/4", "r/4", "t/2", "t/6", "r/2", "r/6", "l/4", "t/1", "t/3", "t/7", "r/1", "r/5", "l/2", "l/8", "r/"}

func newKeyspace(t *testing.T, shards int, kind, commit string) (k keyspace) {
	t.Helper()
	k.commit = commit
	k.scheme = partition.Single()
	if shards > 1 {
		parsed, err := partition.ParseKind(kind)
		if err != nil {
			t.Fatal(err)
		}
		k.scheme = partition.Scheme{Kind: parsed, Shards: shards}
		if parsed == partition.Range {
			if shards > len(splitKeys)+1 {
				t.Fatalf("by range there are at most %d shards", len(splitKeys)+1)
			}
			for _, key := range slices.Sorted(slices.Values(splitKeys[:shards-1])) {
				k.scheme.SplitKeys = append(k.scheme.SplitKeys, []byte(key))
			}
		}
	}
	return k
}

func (k keyspace) many() bool { return k.scheme.Shards > 1 }

// flags are those of a node.
func (k keyspace) flags() []string {
	if !k.many() {
		return nil
	}
	return append(strings.Fields(k.scheme.Flags()), "--leaders="+*leaders, "--commit-protocol="+k.commit)
}
