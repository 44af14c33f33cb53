package consensus

import (
	"errors"
	"slices"
	"testing"
)

func TestHasQuorum(t *testing.T) {
	for _, tc := range []struct {
		config Config
		has    []ReplicaID
		want   bool
	}{
		{Config{}, nil, false},
		{Config{Learners: []ReplicaID{1}}, []ReplicaID{1}, false},
		{Config{Voters: []ReplicaID{1}}, []ReplicaID{1}, true},
		{Config{Voters: []ReplicaID{1, 2}}, []ReplicaID{1}, false},
		{Config{Voters: []ReplicaID{1, 2, 3}}, []ReplicaID{1, 3}, true},
		{Config{Voters: []ReplicaID{1, 2, 3}, Learners: []ReplicaID{4}}, []ReplicaID{1, 4}, false},
		{Config{Voters: []ReplicaID{1, 2, 3, 4}}, []ReplicaID{1, 3}, false},
		{Config{Voters: []ReplicaID{1, 4, 5}, Outgoing: []ReplicaID{1, 2, 3}}, []ReplicaID{1, 2}, false},
		{Config{Voters: []ReplicaID{1, 4, 5}, Outgoing: []ReplicaID{1, 2, 3}}, []ReplicaID{1, 4}, false},
		{Config{Voters: []ReplicaID{1, 4, 5}, Outgoing: []ReplicaID{1, 2, 3}}, []ReplicaID{1, 2, 4}, true},
	} {
		if got := tc.config.HasQuorum(func(id ReplicaID) bool { return slices.Contains(tc.has, id) }); got != tc.want {
			t.Errorf("%v with %v: %v", tc.config, tc.has, got)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []Config{
		{},
		{Learners: []ReplicaID{1}},
		{Voters: []ReplicaID{0}},
		{Voters: []ReplicaID{2, 1}},
		{Voters: []ReplicaID{1, 1}},
		{Voters: []ReplicaID{MaxReplicaID + 1}},
		{Voters: []ReplicaID{1, 2}, Learners: []ReplicaID{2}},
		{Voters: []ReplicaID{1}, Outgoing: []ReplicaID{3, 2}},
	} {
		if err := c.Validate(); !errors.Is(err, ErrInvalidConfig) {
			t.Errorf("%v is accepted: %v", c, err)
		}
	}
	demotion := Config{Voters: []ReplicaID{1, 2}, Learners: []ReplicaID{3}, Outgoing: []ReplicaID{1, 2, 3}}
	if err := demotion.Validate(); err != nil {
		t.Error(err)
	}
	if got := demotion.String(); got != "voters=(1,2) outgoing=(1,2,3) learners=(3)" {
		t.Error(got)
	}
	if got := demotion.Members(); !slices.Equal(got, []ReplicaID{1, 2, 3}) {
		t.Error(got)
	}
	clone := demotion.Clone()
	clone.Voters[0] = 9
	if demotion.Voters[0] != 1 || !demotion.Contains(3) || demotion.Contains(4) || !demotion.Votes(3) {
		t.Error("clone shares memory, or membership is wrong")
	}
}
