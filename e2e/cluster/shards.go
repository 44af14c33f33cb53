package cluster

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/quoratedb/quorate/partition"
)

// EnvironmentShards names the variable that says how many shards the clusters have whose test asks for none; EnvironmentPartition names the one that says which
// keys a shard has: hash, which is the default, prefix for the hash of the first component, or range. EnvironmentCommit names the one that says how the shards
// of a transaction agree: 2pc, which is the default, or 3pc.
const (
	EnvironmentShards    = "QUORATE_E2E_SHARDS"
	EnvironmentPartition = "QUORATE_E2E_PARTITION"
	EnvironmentCommit    = "QUORATE_E2E_COMMIT"
)

// splitKeys are first keys of shards by range. Some are in the midst of what one test writes.
var splitKeys = []string{"b", "d", "f", "h", "many-watches/1", "n", "p", "range/c", "s", "stream/015", "t", "v", "whole/b", "x", "z"}

// scheme says which shards the clusters have that are asked for none.
func scheme() (partition.Scheme, error) {
	text := os.Getenv(EnvironmentShards)
	if text == "" {
		return partition.Single(), nil
	}
	s := partition.Scheme{Kind: partition.Hash}
	var err error
	if s.Shards, err = strconv.Atoi(text); err != nil {
		return s, fmt.Errorf("%s=%s: must be a number of shards", EnvironmentShards, text)
	}
	if s.Shards == 1 {
		return partition.Single(), nil
	}
	switch kind := os.Getenv(EnvironmentPartition); kind {
	case "":
	case "prefix":
		s.HashPrefix = 1
	default:
		if s.Kind, err = partition.ParseKind(kind); err != nil {
			return s, fmt.Errorf("%s: %w", EnvironmentPartition, err)
		}
	}
	if s.Kind == partition.Range {
		if s.Shards > len(splitKeys)+1 {
			return s, fmt.Errorf("%s=%d: by range there are at most %d", EnvironmentShards, s.Shards, len(splitKeys)+1)
		}
		for i := range s.Shards - 1 {
			s.SplitKeys = append(s.SplitKeys, []byte(splitKeys[(i+1)*(len(splitKeys)+1)/s.Shards-1]))
		}
	}
	if err := s.Validate(); err != nil {
		return s, fmt.Errorf("%s=%s: %w", EnvironmentShards, text, err)
	}
	return s, nil
}

// ManyShards tells whether clusters have several shards whose test asks for none.
func ManyShards() bool {
	s, err := scheme()
	return err == nil && s.Shards > 1
}

// shardFlags are the flags of the scheme; none if there is one shard, or the program is etcd.
func shardFlags(p executable) ([]string, error) {
	s, err := scheme()
	if err != nil || p.etcd || s.Shards == 1 {
		return nil, err
	}
	flags := strings.Fields(s.Flags())
	if commit := os.Getenv(EnvironmentCommit); commit != "" {
		flags = append(flags, "--commit-protocol="+commit)
	}
	return flags, nil
}
