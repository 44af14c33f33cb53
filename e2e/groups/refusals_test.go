package groups

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

func putOf(key, value string) *kv.Request {
	return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value)}}
}

// fill puts a key into every group.
func (c *cluster) fill(value string) {
	for _, group := range c.processes[0].config.Groups {
		c.answer(c.processes[0], group, putOf("k", fmt.Sprint(value, group)))
	}
}

// TestTwoShardsWithOneNumber: a node that is told to hold a group twice, or to write the rows of a shard for two groups, does not start, says
// which group it is, and has touched nothing: told the right thing it goes on with what it had.
func TestTwoShardsWithOneNumber(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	c.fill("before")
	p := c.processes[2]
	p.kill()
	right := p.config
	for _, wrong := range []struct {
		change func(*nodeConfig)
		want   string
	}{
		{func(n *nodeConfig) { n.Groups = []consensus.GroupID{1, 2, 3, 2} }, "group 2 is named twice"},
		{func(n *nodeConfig) { n.Shards = map[consensus.GroupID]kv.ShardID{3: 2} }, "group 3: the state machine that was opened is of shard 2"},
		{func(n *nodeConfig) {
			n.Groups, n.Shards = []consensus.GroupID{1, 2, 3, 4}, map[consensus.GroupID]kv.ShardID{4: 1}
		},
			"group 4: the state machine that was opened is of shard 1"},
	} {
		wrong.change(&p.config)
		if err := p.tryStart(); err == nil || !strings.Contains(err.Error(), wrong.want) {
			t.Errorf("got %v, want %q", err, wrong.want)
		}
		p.kill()
		p.config = right
	}
	p.start()
	if unknown, err := call[[]consensus.GroupID](t.Context(), p.client.Load(), "Unknown", struct{}{}); err != nil || len(unknown) > 0 {
		t.Errorf("the log of node 3 knows groups %v, %v", unknown, err)
	}
	c.fill("after")
	for _, group := range right.Groups {
		if got := c.settled(group).Full; len(got) != 2 || string(got[0].KV.Value) != fmt.Sprint("before", group) || string(got[1].KV.Value) != fmt.Sprint("after", group) {
			t.Errorf("group %d has the events %+v", group, got)
		}
	}
}

// TestGroupThatIsNotHere: group 4 lives on two nodes only; group 5 lives on three, but one of them was not told so. That node refuses requests for both and the
// frames of group 5 by name, keeps nothing of them, and is a member of all others. As soon as it is told, it gets the group's state.
func TestGroupThatIsNotHere(t *testing.T) {
	for _, protocol := range []string{"raft", "paxos"} {
		t.Run(protocol, func(t *testing.T) { testGroupThatIsNotHere(t, protocol == "paxos") })
	}
}

func testGroupThatIsNotHere(t *testing.T, paxos bool) {
	t.Parallel()
	c := newCluster(t, 5, func(config *nodeConfig) {
		config.Paxos, config.Homes = paxos, map[consensus.GroupID][]int{4: {1, 2}}
		if config.Number == 3 {
			config.Groups = []consensus.GroupID{1, 2, 3}
		}
	})
	c.startAll()
	c.fill("a")
	p := c.processes[2]
	for _, group := range []consensus.GroupID{4, 5, 99} {
		for _, request := range []*kv.Request{putOf("k", "wrong"), rangeOf("k")} {
			if _, err := p.do(t.Context(), group, request); !errors.Is(err, kv.ErrShardNotHere) {
				t.Errorf("node 3 answers a request for group %d with %v", group, err)
			}
		}
	}
	c.eventually("node 3 refuses messages", func(ctx context.Context) error {
		count, err := call[uint64](ctx, p.client.Load(), "Refused", struct{}{})
		if err == nil && count == 0 {
			err = errors.New("none so far")
		}
		return err
	})
	if p.logged("for group 5: driver: this node has no replica of group 5") == 0 || p.logged("for group 4") > 0 {
		t.Errorf("node 3 did not refuse messages for group 5 by name, or was sent some for group 4: %s", p.lastWords())
	}
	if unknown, err := call[[]consensus.GroupID](t.Context(), p.client.Load(), "Unknown", struct{}{}); err != nil || len(unknown) > 0 {
		t.Errorf("the log of node 3 knows groups %v, %v", unknown, err)
	}
	for group := consensus.GroupID(1); group <= 3; group++ {
		c.settled(group)
	}

	p.kill()
	p.config.Groups = append(slices.Clone(p.config.Groups), 5)
	p.start()
	c.fill("b")
	if got := c.settled(5).Full; len(got) != 2 {
		t.Errorf("group 5 has the events %+v", got)
	}
}
