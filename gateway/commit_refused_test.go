package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/txn"
)

// lead makes a node the leader of a shard, 0: nobody, and has the gateways hear of it.
func lead(first, of *cluster, node kv.NodeID) {
	of.elect(node)
	for _, n := range first.nodes {
		n.gateway.LeaderChanged(of.shard)
	}
}

// both reads the keys that writeBoth writes.
func both(t *testing.T, first, second *cluster) string {
	t.Helper()
	values := ""
	for _, key := range []string{"1a", "2a"} {
		r := submit(first.nodes[2].gateway, get(key))
		run(first, second, 1500*time.Millisecond)
		if r.answers != 1 || r.err != nil || len(r.resp.Range.KVs) != 1 {
			t.Fatalf("get %s: %d answers, %+v, %v", key, r.answers, r.resp, r.err)
		}
		values += string(r.resp.Range.KVs[0].Value) + " "
	}
	return values
}

// TestTransactionsBeyondLimits: what is too much for one participant, or for the node that takes it, is refused with the name of the limit; the others change nothing.
func TestTransactionsBeyondLimits(t *testing.T) {
	limits := shard.Limits{MaxTxnOps: 3, MaxRequestBytes: 4000}
	for _, protocol := range []txn.Protocol{txn.TwoPhase, txn.ThreePhase} {
		options := transacting(t, protocol)
		options.ValidateRequest = func(r *kv.Request) error { return shard.Validate(r, limits) }
		first, second, _ := storeOf(t, options, shard.Options{MaxShareBytes: 1000})
		lead(first, first, 1)
		lead(first, second, 2)
		exchangeBoth(first, second)
		for _, key := range []string{"1a", "2a", "2b"} {
			writeKey(t, first, second, key, "old")
		}
		for what, want := range map[string]struct {
			ops   []kv.Op
			err   error
			limit string
		}{
			"a large value": {[]kv.Op{putTo("1a", "x"), putTo("2a", strings.Repeat("x", 1000))}, kv.ErrRequestTooLarge,
				"beyond the limit of effects of a transaction over several shards in one of them (1000 bytes)"},
			"at the anchor":      {[]kv.Op{putTo("1a", strings.Repeat("x", 1000)), putTo("2a", "x")}, kv.ErrRequestTooLarge, "beyond the limit of effects of a transaction over several shards in one of them (1000 bytes)"},
			"many operations":    {[]kv.Op{putTo("1a", "x"), putTo("1b", "x"), putTo("2a", "x"), putTo("2b", "x")}, kv.ErrTooManyOps, ""},
			"a large request":    {[]kv.Op{putTo("1a", "x"), putTo("2a", strings.Repeat("x", 5000))}, kv.ErrRequestTooLarge, ""},
			"one that is within": {[]kv.Op{putTo("1b", "x"), putTo("2c", strings.Repeat("x", 900))}, nil, ""},
		} {
			r := submit(first.nodes[3].gateway, writeTxn(want.ops...))
			run(first, second, 300*time.Millisecond)
			if r.answers != 1 || !errors.Is(r.err, want.err) || r.err != nil && kv.LimitOf(r.err) != want.limit {
				t.Errorf("%s: %d answers, %v", what, r.answers, r.err)
			}
		}
		if got := both(t, first, second); got != "old old " {
			t.Errorf("afterwards there is %s", got)
		}
		quiet(t, first, second)
	}
}

// TestTransactionOfALeaderlessShard: whichever shard has no leader, and whenever it was lost, the client is told in time and by name. When the shard is back, it has
// happened in both or in none, and the keys are free.
func TestTransactionOfALeaderlessShard(t *testing.T) {
	for _, protocol := range []txn.Protocol{txn.TwoPhase, txn.ThreePhase} {
		for _, anchorLost := range []bool{false, true} {
			for steps := range 12 { // how far it comes before the shard is lost
				what := fmt.Sprintf("protocol %d, anchor: %v, after %d steps", protocol, anchorLost, steps)
				options := transacting(t, protocol)
				options.RequestTimeout = 2 * time.Second
				first, second, _ := storeWith(t, options, 1, 2, 3)
				lost, name := second, "shard 2"
				if anchorLost {
					lost, name = first, "shard 1, which numbers revisions"
				}
				g := first.nodes[3].gateway
				r := submit(g, writeBoth("x"))
				stepBoth(first, second, steps)
				lead(first, lost, 0)
				run(first, second, 2100*time.Millisecond)
				// A question that was on its way when the shard was lost may be answered, that nothing of it is known.
				if r.answers != 1 || r.err != nil && !errors.Is(r.err, kv.ErrOutcomeUnknown) && kv.LeaderlessOf(r.err) != "without a leader: "+name {
					t.Errorf("%s: %d answers, %v", what, r.answers, r.err)
				}
				required := &result{}
				g.Submit(&Call{Req: writeBoth("y"), RequireLeader: true, Done: func(resp *kv.Response, err error) { *required = result{resp, err, required.answers + 1} }})
				if required.answers != 1 || !errors.Is(required.err, kv.ErrNoLeader) || kv.LeaderlessOf(required.err) != "without a leader: "+name {
					t.Errorf("%s: with a leader required: %d answers, %v", what, required.answers, required.err)
				}
				lead(first, lost, 3)
				run(first, second, 5*time.Second)
				if got := both(t, first, second); got != "x x " && (got != "old old " || r.err == nil) {
					t.Errorf("%s: answered %v, and there is %s", what, r.err, got)
				}
				quiet(t, first, second)
			}
		}
	}
}

// stepBoth lets the nodes do so many small things: one applies, or the frames that are on their way arrive.
func stepBoth(first, second *cluster, steps int) {
	for i := range steps {
		switch at := kv.NodeID(i/2%3 + 1); i % 2 {
		case 0:
			frames := len(first.frames)
			first.deliverSome(frames)
		case 1:
			first.nodes[at].apply()
			second.nodes[at].apply()
		}
	}
}

// deliverSome hands over the first frames that are on their way.
func (c *cluster) deliverSome(n int) {
	c.mu.Lock()
	frames := c.frames[:n]
	c.frames = slices.Clone(c.frames[n:])
	c.mu.Unlock()
	for _, f := range frames {
		c.nodes[f.to].gateway.HandleMessage(f.from, f.channel, f.payload)
	}
}

// TestClientGoesAnyTime: a client, or its node, goes away in the middle. What became of its transaction is decided soon, the same in both shards, and can be read; its
// keys are free.
func TestClientGoesAnyTime(t *testing.T) {
	for _, protocol := range []txn.Protocol{txn.TwoPhase, txn.ThreePhase} {
		outcomes := map[string]int{}
		for _, at := range []kv.NodeID{1, 3} { // the coordinator's node, or another one
			for _, nodeGoes := range []bool{false, true} {
				for steps := range 12 {
					what := fmt.Sprintf("protocol %d, at node %d, node goes: %v, after %d steps", protocol, at, nodeGoes, steps)
					first, second, _ := storeWith(t, transacting(t, protocol), 1, 2, 2)
					r, g := &result{}, first.nodes[at].gateway
					call := &Call{Req: writeBoth("x"), Done: func(resp *kv.Response, err error) { r.resp, r.err, r.answers = resp, err, r.answers+1 }}
					g.Submit(call)
					stepBoth(first, second, steps)
					answered := r.answers > 0
					if nodeGoes && at == 3 {
						first.drop(3)
						first.block[3] = true
					} else {
						g.Cancel(call)
					}
					run(first, second, 3*time.Second)
					clear(first.block)
					for _, replicas := range []*cluster{first, second} {
						for _, u := range replicas.nodes[kv.NodeID(replicas.shard)].Undecided() {
							t.Errorf("%s: %+v is undecided after 3 s", what, u)
						}
					}
					if nodeGoes && at == 3 {
						g.Cancel(call)
					}
					got := both(t, first, second)
					if got != "x x " && got != "old old " || answered && got != "x x " || r.answers != 1 {
						t.Errorf("%s: answered %v, %d times, and there is %s", what, r.err, r.answers, got)
					}
					outcomes[got]++
					quiet(t, first, second)
				}
			}
		}
		if len(outcomes) != 2 {
			t.Errorf("protocol %d: outcomes are %v", protocol, outcomes)
		}
	}
}

// TestFramesTwice: whatever nodes tell each other about a transaction may come twice, at once and again when all is finished, and changes nothing then. A client's
// request that comes twice is done twice, as one whole each time, and is answered once.
func TestFramesTwice(t *testing.T) {
	for _, protocol := range []txn.Protocol{txn.TwoPhase, txn.ThreePhase} {
		first, second, c := storeWith(t, transacting(t, protocol), 1, 2, 3)
		g := first.nodes[3].gateway
		var all []frame
		forwarded := 0
		exchange := func(total time.Duration) {
			for past := time.Duration(0); past <= total; past += 50 * time.Millisecond {
				for range 8 {
					first.mu.Lock()
					frames := first.frames
					first.frames = nil
					first.mu.Unlock()
					for _, f := range frames {
						times := 2
						if f.from == 3 && f.channel == ChannelRequest {
							times, forwarded = 1, forwarded+1 // the client's; see below
						} else {
							all = append(all, f)
						}
						for range times {
							first.nodes[f.to].gateway.HandleMessage(f.from, f.channel, f.payload)
						}
					}
					for id := range first.nodes {
						first.nodes[id].apply()
						second.nodes[id].apply()
					}
				}
				first.tick(50 * time.Millisecond)
			}
		}
		r := submit(g, writeBoth("x"))
		exchange(3 * time.Second) // participants have heard that it is finished
		expect(t, "with all frames twice", r, "revision 5, true: was old@2 was old@3")
		if forwarded == 0 || len(all) < 6 {
			t.Fatalf("%d and %d frames were seen", forwarded, len(all))
		}
		state := func() (text string) {
			for _, replicas := range []*cluster{first, second} {
				m := replicas.nodes[kv.NodeID(replicas.shard)].machine
				text += fmt.Sprintf("%d %+v %v; ", m.Closed(), m.Metrics(), m.Undecided())
			}
			return text
		}
		if got := both(t, first, second); got != "x x " {
			t.Fatalf("there is %s", got)
		}
		before, issued, entries := state(), c.last, len(first.log)+len(second.log)
		for _, f := range all {
			first.nodes[f.to].gateway.HandleMessage(f.from, f.channel, f.payload)
		}
		run(first, second, 3*time.Second)
		if after := state(); after != before || c.last != issued || len(first.log)+len(second.log) != entries {
			t.Errorf("frames that came late have changed, in %d entries,\n%s\nto\n%s", len(first.log)+len(second.log)-entries, before, after)
		}
		again := submit(g, writeBoth("y"))
		first.mu.Lock()
		first.frames = append(first.frames, first.frames...)
		first.mu.Unlock()
		run(first, second, 3*time.Second)
		if again.answers != 1 || again.err != nil || c.last != issued+2 {
			t.Errorf("a request that came twice: %d answers, %v, %d revisions", again.answers, again.err, c.last-issued)
		}
		if got := both(t, first, second); got != "y y " {
			t.Errorf("there is %s", got)
		}
		quiet(t, first, second)
	}
}
