package partition

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// Kind is a way to partition keys. The numbers are on disk: add, never renumber.
type Kind uint8

// Kinds.
const (
	Range Kind = iota + 1
	Hash
)

// String is the kind's name on the command line.
func (k Kind) String() string {
	switch k {
	case Range:
		return "range"
	case Hash:
		return "hash"
	}
	return fmt.Sprintf("partitioning %d", uint8(k))
}

// MaxShards is how many shards there may be. Each needs some memory and disk on every node, and some of the time of all even if it is hardly used.
const MaxShards = 1024

// MaxSplitKeyBytes bounds a split key: all nodes keep them all in memory.
const MaxSplitKeyBytes = 1 << 10

// MaxHashPrefix bounds Scheme.HashPrefix.
const MaxHashPrefix = 64

// Scheme is all that decides where a key goes.
type Scheme struct {
	Kind   Kind
	Shards int
	// SplitKeys are the first keys of all shards but the first, ascending. Range only.
	SplitKeys [][]byte
	// HashPrefix is how many components of a key, between slashes, are hashed: keys that begin with the same ones are in one shard. 0: the whole key. Hash only.
	HashPrefix int
}

// Single is the scheme of a cluster with one shard.
func Single() Scheme { return Scheme{Kind: Range, Shards: 1} }

// Validate tells what is wrong with a scheme, in a sentence for whoever wrote it.
func (s Scheme) Validate() error {
	switch {
	case s.Shards < 1 || s.Shards > MaxShards:
		return fmt.Errorf("a cluster has 1 to %d shards, not %d", MaxShards, s.Shards)
	case s.Kind == Range:
		return s.validateRange()
	case s.Kind == Hash:
		return s.validateHash()
	}
	return fmt.Errorf("there is no %v: keys are partitioned by range or by hash", s.Kind)
}

func (s Scheme) validateRange() error {
	if s.HashPrefix != 0 {
		return errors.New("components of keys are hashed only if keys are partitioned by hash, not by range: give no hash prefix, or choose hash")
	}
	if len(s.SplitKeys) != s.Shards-1 {
		return fmt.Errorf("%d shards by range need %d split keys, the first key of each shard but the first, and there are %d: give that many, or another number of shards", s.Shards, s.Shards-1, len(s.SplitKeys))
	}
	for i, key := range s.SplitKeys {
		switch {
		case len(key) == 0:
			return fmt.Errorf("split key %d is empty, so that a shard would have no keys: leave it out", i+1)
		case len(key) > MaxSplitKeyBytes:
			return fmt.Errorf("split key %d has %d bytes, more than %d: give only its beginning", i+1, len(key), MaxSplitKeyBytes)
		case i > 0 && bytes.Equal(key, s.SplitKeys[i-1]):
			return fmt.Errorf("split key %q is there twice: leave one out", key)
		case i > 0 && bytes.Compare(key, s.SplitKeys[i-1]) < 0:
			return fmt.Errorf("split keys must ascend, byte by byte, and %q comes after %q: give them in order", key, s.SplitKeys[i-1])
		}
	}
	return nil
}

func (s Scheme) validateHash() error {
	switch {
	case len(s.SplitKeys) > 0:
		return errors.New("split keys are for keys that are partitioned by range, not by hash: give none, or choose range")
	case s.HashPrefix < 0 || s.HashPrefix > MaxHashPrefix:
		return fmt.Errorf("0 to %d components of a key can be hashed, not %d", MaxHashPrefix, s.HashPrefix)
	}
	return nil
}

// String describes the scheme in a few words.
func (s Scheme) String() string {
	switch {
	case s.Shards == 1:
		return "one shard"
	case s.Kind == Hash && s.HashPrefix > 0:
		return fmt.Sprintf("%d shards by hash of the first %d components", s.Shards, s.HashPrefix)
	case s.Kind == Hash:
		return fmt.Sprintf("%d shards by hash", s.Shards)
	}
	return fmt.Sprintf("%d shards by range, split at %q", s.Shards, s.SplitKeys)
}

// ShardIDs lists the shards of a cluster, from kv.SystemShard on.
func (s Scheme) ShardIDs() []kv.ShardID {
	ids := make([]kv.ShardID, s.Shards)
	for i := range ids {
		ids[i] = kv.SystemShard + kv.ShardID(i)
	}
	return ids
}
