package cluster

import (
	"strings"
	"testing"
)

func TestShardFlags(t *testing.T) {
	for _, test := range []struct{ shards, kind, commit, want string }{
		{"", "", "", ""},
		{"1", "range", "3pc", ""},
		{"8", "", "", "--initial-shards=8 --initial-partition=hash"},
		{"3", "hash", "3pc", "--initial-shards=3 --initial-partition=hash --commit-protocol=3pc"},
		{"8", "prefix", "", "--initial-shards=8 --initial-partition=hash --hash-prefix=1"},
		{"8", "range", "", "--initial-shards=8 --initial-partition=range --initial-split-keys=d,h,n,range/c,stream/015,v,x"},
		{"16", "range", "", "--initial-shards=16 --initial-partition=range --initial-split-keys=" + strings.Join(splitKeys, ",")},
		{"17", "range", "", "QUORATE_E2E_SHARDS=17: by range there are at most 16"},
		{"0", "hash", "", "QUORATE_E2E_SHARDS=0: a cluster has 1 to 1024 shards, not 0"},
		{"many", "", "", "QUORATE_E2E_SHARDS=many: must be a number of shards"},
		{"2", "sieve", "", "QUORATE_E2E_PARTITION: "},
	} {
		t.Setenv(EnvironmentShards, test.shards)
		t.Setenv(EnvironmentPartition, test.kind)
		t.Setenv(EnvironmentCommit, test.commit)
		flags, err := shardFlags(executable{})
		got := strings.Join(flags, " ")
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.HasPrefix(got, test.want)) {
			t.Errorf("%s shards by %q: %q, want %q", test.shards, test.kind, got, test.want)
		}
	}
}
