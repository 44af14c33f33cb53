package shard

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// leaseWithManyKeys returns a group with a lease of 5 s that has ten keys, more than are deleted at one revision.
func leaseWithManyKeys(t *testing.T) *group {
	options := testOptions(1)
	options.MaxKeysPerExpiry = 4
	g := newGroup(t, options)
	g.must(t, "grant 1 5")
	for i := range 10 {
		g.must(t, fmt.Sprintf("put 1/%d v lease=1", i))
	}
	return g
}

// A leader knows by itself that a lease has ended, and another one by what the log says. A lease that begins to lose its keys must have ended
// for both.
func TestEndedLeaseWithManyKeysStaysEnded(t *testing.T) {
	g := leaseWithManyKeys(t)
	g.must(t, "keepalive 1")
	g.now += 5 * time.Second
	if err := g.leader.Tick(g.now); err != nil {
		t.Fatal(err)
	}
	g.propose()
	if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
		t.Fatal(err)
	}
	if n := g.must(t, "get 1 * count").Range.Count; n != 6 {
		t.Fatalf("%d keys are left after the first part of the expiry, want 6", n)
	}
	g.leader.Follow()
	if err := g.elect(g.leader, 2); err != nil {
		t.Fatal(err)
	}
	if ttl := g.must(t, "ttl 1").LeaseTimeToLive.TTLSeconds; ttl != 0 {
		t.Fatalf("a lease that lost keys has %d s left for another leader", ttl)
	}
	if _, renewed := g.leader.Renew(&kv.LeaseKeepAliveRequest{ID: 1}, g.now); renewed {
		t.Fatal("a lease that lost keys was renewed")
	}
	if ttl := g.must(t, "keepalive 1").LeaseKeepAlive.TTLSeconds; ttl != 0 {
		t.Fatalf("a lease that lost keys was renewed for %d s", ttl)
	}
	if n := g.must(t, "get 1 * count").Range.Count; n != 0 {
		t.Fatalf("there is no such lease, and %d of its keys are left", n)
	}
}

// The same while the first part of its keys is in flight.
func TestEndedLeaseInFlight(t *testing.T) {
	g := leaseWithManyKeys(t)
	g.must(t, "keepalive 1")
	g.now += 5 * time.Second
	if err := g.leader.Tick(g.now); err != nil {
		t.Fatal(err)
	}
	if out := g.leader.Evaluate(parseRequest([]string{"ttl 1"})); out.Err != nil || out.Response.LeaseTimeToLive.TTLSeconds != 0 {
		t.Fatalf("a lease that loses keys has time left: %+v, %s", out, describe(out.Response))
	}
	if out := g.leader.Evaluate(parseRequest([]string{"keepalive 1"})); !out.Begun || out.Response != nil {
		t.Fatalf("a lease that has keys left is renewed, or is said to be gone: %+v, %s", out, describe(out.Response))
	}
	if err := g.leader.Check(); err != nil {
		t.Fatal(err)
	}
	if ttl := g.must(t, "keepalive 1").LeaseKeepAlive.TTLSeconds; ttl != 0 {
		t.Fatalf("a lease that lost keys was renewed for %d s", ttl)
	}
	if ids := g.must(t, "leases").LeaseLeases.IDs; len(ids) != 0 {
		t.Fatalf("a keep-alive was told that there is no such lease, and the list has %v", ids)
	}
}

// A key that gets the lease while it ends in parts, before those that were deleted: in flight, or applied, when the next part is evaluated.
func TestKeyAttachedBehindTheEndOfALease(t *testing.T) {
	for _, applied := range []bool{false, true} {
		g := leaseWithManyKeys(t)
		revoke := parseRequest([]string{"revoke 1"})
		if out := g.leader.Evaluate(revoke); !out.Begun || out.Err != nil {
			t.Fatalf("the revoke of a lease with many keys began: %v, %v", out.Begun, out.Err)
		}
		if out := g.leader.Evaluate(parseRequest([]string{"put 1/00 v lease=1"})); out.Err != nil {
			t.Fatal(out.Err)
		}
		g.propose()
		if applied {
			if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.do(revoke); err != nil {
			t.Fatal(err)
		}
		if n := g.must(t, "get 1 * count").Range.Count; n != 0 {
			t.Fatalf("%d keys are left of the lease; was the one that came late applied: %v", n, applied)
		}
		if err := g.leader.Check(); err != nil {
			t.Fatal(err)
		}
	}
}

// Earlier versions wrote renewals that end when what they promise does.
func TestRenewalOfEarlierVersion(t *testing.T) {
	g := newGroup(t, testOptions(1))
	g.must(t, "grant 1 5")
	g.now += 3 * time.Second
	g.leader.lead.overlay.addOp(op{kind: opRenew, lease: 1})
	g.must(t, "put a v lease=1")
	g.now += 4900 * time.Millisecond
	if err := g.leader.Tick(g.now); err != nil {
		t.Fatal(err)
	}
	if ttl := g.must(t, "ttl 1").LeaseTimeToLive.TTLSeconds; ttl != 0 {
		t.Fatalf("%d s are left", ttl)
	}
	if _, renewed := g.leader.Renew(&kv.LeaseKeepAliveRequest{ID: 1}, g.now); renewed {
		t.Fatal("renewed without the log, which covers nothing")
	}
	if ttl := g.must(t, "keepalive 1").LeaseKeepAlive.TTLSeconds; ttl != 5 {
		t.Fatalf("renewed for %d s", ttl)
	}
}

// promises is a random run of two replicas that take turns at leading, with what clients were told about leases. Time is real: the lease clock
// of a new leader goes back.
type promises struct {
	t        *testing.T
	random   *rand.Rand
	group    group
	replicas [2]*replica
	term     consensus.Term
	leads    int
	began    time.Duration // when the present leader did
	until    map[kv.LeaseID]time.Duration
	counts   map[string]int
}

// TestLeasesLastAsPromised: no lease ends before what anybody was told, whoever leads, and none lasts much longer.
func TestLeasesLastAsPromised(t *testing.T) {
	counts := map[string]int{}
	for seed := range uint64(60) {
		p := &promises{t: t, random: rand.New(rand.NewPCG(seed, 5)), until: map[kv.LeaseID]time.Duration{}, counts: counts}
		p.replicas = [2]*replica{mustOpen(testOptions(seed)), mustOpen(testOptions(seed + 1000))}
		p.elect(0)
		for range 600 {
			p.step()
			p.check()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
	for _, what := range []string{"renewed alone", "renewed in the log", "too late", "ended", "crash"} {
		if counts[what] < 40 {
			t.Errorf("%q happened %d times", what, counts[what])
		}
	}
	t.Log(counts)
}

func (p *promises) elect(i int) {
	if p.group.leader != nil {
		p.group.leader.Follow()
	}
	p.term++
	p.leads, p.began = i, p.group.now
	if err := p.group.elect(p.replicas[i], p.term); err != nil {
		p.t.Fatal(err)
	}
}

func (p *promises) step() {
	g := &p.group
	g.now += time.Duration(p.random.IntN(100)) * time.Millisecond
	id := kv.LeaseID(1 + p.random.IntN(12))
	switch n := p.random.IntN(100); {
	case n < 50:
		p.tick()
	case n < 60:
		p.grant(id)
	case n < 92:
		p.keepAlive(id)
	case n < 94:
		p.crash(p.random.IntN(2))
	case n < 96:
		if _, err := p.replicas[p.random.IntN(2)].flushSome(3); err != nil {
			p.t.Fatal(err)
		}
	case n < 98:
		p.elect(p.random.IntN(2))
	default:
		if err := g.catchUp(p.replicas[1-p.leads], consensus.Index(len(g.log))); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *promises) tick() {
	g := &p.group
	if err := g.leader.Tick(g.now); err != nil {
		p.t.Fatal(err)
	}
	g.propose()
	if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
		p.t.Fatal(err)
	}
}

func (p *promises) grant(id kv.LeaseID) {
	ttl := int64(1 + p.random.IntN(3))
	if _, err := p.group.do(parseRequest([]string{fmt.Sprintf("grant %d %d", id, ttl)})); err == nil {
		p.until[id] = p.group.now + time.Duration(ttl)*time.Second
	}
}

func (p *promises) keepAlive(id kv.LeaseID) {
	g := &p.group
	answer, alone := g.leader.Renew(&kv.LeaseKeepAliveRequest{ID: id}, g.now)
	if !alone {
		answer = g.must(p.t, fmt.Sprintf("keepalive %d", id))
	}
	ttl := time.Duration(answer.LeaseKeepAlive.TTLSeconds) * time.Second
	_, lived := p.until[id]
	switch {
	case ttl > 0:
		p.until[id] = g.now + ttl
		p.counts[map[bool]string{true: "renewed alone", false: "renewed in the log"}[alone]]++
	case lived:
		p.counts["too late"]++
	}
}

// crash restarts a replica; a leader leads again.
func (p *promises) crash(i int) {
	p.counts["crash"]++
	if i == p.leads {
		p.group.leader.Follow()
	}
	again, err := openReplica(p.replicas[i].engine.Crash(p.random), p.replicas[i].options)
	if err != nil {
		p.t.Fatal(err)
	}
	p.replicas[i] = again
	if i == p.leads {
		p.group.leader = nil
		p.elect(i)
	}
}

// check holds what the leader knows against what was promised.
func (p *promises) check() {
	g := &p.group
	if err := g.leader.Check(); err != nil {
		p.t.Fatal(err)
	}
	for id, until := range p.until {
		l := g.leader.leases.byID[id]
		if l == nil {
			if p.counts["ended"]++; g.now < until {
				p.t.Errorf("at %v: lease %d has ended, which was promised until %v", g.now, id, until)
			}
			delete(p.until, id)
			continue
		}
		// A replica that led before may go by promises of its own, in a clock that has gone back since.
		ttl := time.Duration(l.ttl) * time.Second
		latest := max(until, p.began+ttl) + g.leader.options.LeaseCheckpointInterval
		if g.now > latest+2*time.Second { // and it takes ticks to notice
			p.t.Errorf("at %v: lease %d is there, which was promised until %v; its leader began at %v", g.now, id, until, p.began)
		}
	}
}
