package shard

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// bulkGroup is a group whose leader has 20 keys of lease 7, and a delete of all of them that is decided and to be staged in parts of a few effects.
func bulkGroup(t *testing.T) (*group, *Beside) {
	t.Helper()
	options := testOptions(1)
	options.RoundLooks, options.PartBytes = 5, 20
	g := &group{}
	if err := g.elect(mustOpen(options), 1); err != nil {
		t.Fatal(err)
	}
	requests := []*kv.Request{parseRequest([]string{"grant 7 60"})}
	for i := range 20 {
		requests = append(requests, parseRequest([]string{fmt.Sprintf("put k%02d v lease=7", i)}))
	}
	for _, r := range requests {
		if _, err := g.do(r); err != nil {
			t.Fatal(err)
		}
	}
	out := g.leader.Evaluate(parseRequest([]string{"del k *"}))
	if out.Beside == nil || g.leader.NextBeside() != out.Beside {
		t.Fatalf("the delete is not decided beside the rounds: %+v", out)
	}
	out.Beside.Run(func() bool { return false })
	if staged := g.leader.FinishBeside(out.Beside); !staged.Staged {
		t.Fatalf("the delete is not staged: %+v", staged)
	}
	if err := g.leader.flushAll(); err != nil {
		t.Fatal(err)
	}
	return g, out.Beside
}

// step lets the bulk take one step, and applies it.
func (g *group) step() (Outcome, error) {
	_, out := g.leader.StepBulk()
	g.propose()
	return out, g.catchUp(g.leader, consensus.Index(len(g.log)))
}

func (g *group) live(t *testing.T) (keys int64, attached int) {
	t.Helper()
	count := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k"), End: []byte("l")}, CountOnly: true}}
	found, err := g.leader.Read(nil, g.now, count)
	if err != nil {
		t.Fatal(err)
	}
	lease := &kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: 7, Keys: true}}
	ttl, err := g.leader.Read(nil, g.now, lease)
	if err != nil {
		t.Fatal(err)
	}
	return found.Range.Count, len(ttl.LeaseTimeToLive.Keys)
}

// TestBulkIsWhole: a delete that comes in parts is in force all at once, also for the lease of its keys, long before it is written.
func TestBulkIsWhole(t *testing.T) {
	g, _ := bulkGroup(t)
	parts := 0
	for {
		keys, attached := g.live(t)
		if keys != 20 || attached != 20 {
			t.Fatalf("%d keys live, %d are attached, before the delete is in force", keys, attached)
		}
		out, err := g.step()
		if err != nil {
			t.Fatal(err)
		}
		if out.Effects {
			if got := out.Response.DeleteRange.Deleted; got != 20 || out.Response.Revision != g.leader.Closed() {
				t.Fatalf("answered that %d keys are deleted, at revision %d of %d", got, out.Response.Revision, g.leader.Closed())
			}
			break
		}
		parts++
	}
	if parts < 3 {
		t.Errorf("the delete came in %d parts", parts)
	}
	for {
		if keys, attached := g.live(t); keys != 0 || attached != 0 {
			t.Fatalf("%d keys live, %d are attached, when the delete is in force", keys, attached)
		}
		if _, pending := g.leader.Bulk(); pending == 0 {
			break
		}
		if g.leader.Freeze() {
			t.Fatal("a flush began although a bulk is not written")
		}
		if err := g.leader.batch(func(b storage.Batch) error { g.leader.ApplyBulk(b, 3); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if out := g.leader.Evaluate(parseRequest([]string{"put k03 again"})); out.Err != nil || out.Blocked || out.Fatal != nil {
		t.Fatalf("a put to a key of a bulk that has ended: %+v", out)
	}
}

// TestBulkOfALeaderThatIsGone: what another leader staged never takes effect.
func TestBulkOfALeaderThatIsGone(t *testing.T) {
	g, b := bulkGroup(t)
	for range 2 {
		if _, err := g.step(); err != nil {
			t.Fatal(err)
		}
	}
	if staged, _ := g.leader.Bulk(); staged == 0 {
		t.Fatal("nothing is staged")
	}
	b.Drop()
	if err := g.elect(g.leader, 2); err != nil {
		t.Fatal(err)
	}
	if staged, _ := g.leader.Bulk(); staged != 0 {
		t.Fatalf("%d effects of the leader before are staged", staged)
	}
	if keys, attached := g.live(t); keys != 20 || attached != 20 {
		t.Fatalf("%d keys live, %d are attached", keys, attached)
	}
}

// TestBulkWithoutStaging: the op that lets a bulk take effect needs one.
func TestBulkWithoutStaging(t *testing.T) {
	g, _ := bulkGroup(t)
	m := g.leader
	m.lead.overlay.addOp(op{kind: opBulk, revision: m.lead.revision + 1})
	m.lead.revision++
	g.propose()
	if err := g.catchUp(m, consensus.Index(len(g.log))); !errors.Is(err, ErrInconsistent) {
		t.Fatalf("a bulk without effects took effect: %v", err)
	}
}

// TestBeyondLimits: what can never be done is refused with the name of the limit, changes nothing, and is in nobody's way afterwards.
func TestBeyondLimits(t *testing.T) {
	for want, limit := range map[string]func(*Options){
		"beyond the limit of effects of one request (600 bytes)":                  func(o *Options) { o.MaxRequestEffectBytes = 600 },
		"beyond the limit of what any write looks at (12 keys and KiB of values)": func(o *Options) { o.MaxLooks = 12 },
	} {
		options := testOptions(1)
		options.RoundLooks = 5
		limit(&options)
		g := &group{}
		if err := g.elect(mustOpen(options), 1); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if _, err := g.do(parseRequest([]string{fmt.Sprintf("put k%02d v", i)})); err != nil {
				t.Fatal(err)
			}
		}
		before := g.leader.Closed()
		_, err := g.do(parseRequest([]string{"del k *"}))
		if !errors.Is(err, kv.ErrRequestTooLarge) || kv.LimitOf(err) != want {
			t.Errorf("a delete of 20 keys: %v, want %q", err, want)
		}
		response, err := g.do(parseRequest([]string{"put k03 again"}))
		if err != nil || response.Revision != before+1 {
			t.Errorf("afterwards: %+v, %v; the revision was %d", response, err, before)
		}
	}
}
