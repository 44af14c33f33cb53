package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// The language of testdata/scenarios. Every command prints the calls that it ended.
//
//	new [bytes=] [calls=]  three nodes without a leader; limits
//	elect n=               0: nobody leads
//	submit n= name= [require-leader] [deadline-ms=]
//	    put key value | get key | range start end | stale key | grant lease ttl | ttl lease | txn key value | malformed
//	deliver                frames arrive, and those they cause; prints how many
//	apply nodes=(1,2,...)    the nodes apply the log
//	down n=                frames from and to the node are lost, its connections break
//	block n= / unblock n=  nothing can be sent to or by the node
//	up n= to=              node n has connected to the other one; there need be no connection from there
//	mute n= / unmute n=    node n has no connection to send on
//	returned n= from=      a node has connected again whose process had been connected before
//	lease on|off           leaders may serve reads without asking
//	tick ms=
//	cancel name=
//	changed n=             the replica says that its leader changed
//	metrics n=
//	close n=
type scenario struct {
	*cluster
	calls    map[string]*Call
	finished []string
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		s := &scenario{cluster: newCluster(t, Options{}), calls: map[string]*Call{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.run(t, d) })
	})
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	number := func(name string) (n int) {
		if d.HasArg(name) {
			d.ScanArgs(t, name, &n)
		}
		return n
	}
	at := s.nodes[kv.NodeID(number("n"))]
	var out string
	switch d.Cmd {
	case "new":
		s.cluster = newCluster(t, Options{Limits: Limits{MaxForwardedBytes: number("bytes"), MaxCalls: number("calls")}})
	case "elect":
		s.elect(kv.NodeID(number("n")))
	case "submit":
		s.submit(t, d, at)
	case "deliver":
		out = fmt.Sprintf("%d frames\n", s.deliver())
	case "apply":
		for _, arg := range d.CmdArgs {
			for _, id := range arg.Vals {
				n, err := strconv.Atoi(id)
				if err != nil {
					t.Fatal(err)
				}
				s.nodes[kv.NodeID(n)].apply()
			}
		}
	case "down":
		s.drop(at.id)
	case "block":
		s.block[at.id] = true
	case "unblock":
		delete(s.block, at.id)
	case "up":
		at.gateway.PeerUp(kv.NodeID(number("to")), Dialect{Deadlines: true, Shards: true})
	case "mute":
		s.mute[at.id] = true
	case "unmute":
		delete(s.mute, at.id)
	case "returned":
		at.gateway.PeerReturned(kv.NodeID(number("from")))
	case "lease":
		s.cluster.lease = d.HasArg("on")
	case "tick":
		s.now += time.Duration(number("ms")) * time.Millisecond
		for id := kv.NodeID(1); id <= 3; id++ {
			s.nodes[id].gateway.Tick(s.now)
		}
	case "cancel":
		var name string
		d.ScanArgs(t, "name", &name)
		if s.calls[name] == nil {
			t.Fatal(errNoSuchCall)
		}
		at.gateway.Cancel(s.calls[name])
	case "changed":
		at.gateway.LeaderChanged(kv.SystemShard)
	case "close":
		at.gateway.Close()
	case "metrics":
		m := at.gateway.Metrics()
		out = fmt.Sprintf("calls %d queued %d sent %d (%d bytes) local reads %d writes %d forwarded %d served %d barriers %d retries %d unknown %d timeouts %d lost answers %d\n",
			m.CallsInFlight, m.QueuedCalls, m.SentCalls, m.ForwardedBytes, m.LocalReads, m.LocalWrites, m.ForwardedCalls, m.ServedCalls,
			m.BarrierCount, m.RetryCount, m.UnknownOutcomes, m.Timeouts, m.LostAnswers)
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	for _, n := range s.nodes {
		n.gateway.reading.wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.finished)
	for _, line := range s.finished {
		out += line + "\n"
	}
	s.finished = nil
	if out == "" {
		return "ok\n"
	}
	return out
}

func (s *scenario) submit(t *testing.T, d *datadriven.TestData, at *node) {
	var name string
	d.ScanArgs(t, "name", &name)
	call := &Call{Req: parseRequest(t, strings.Fields(d.Input)), RequireLeader: d.HasArg("require-leader")}
	if d.HasArg("deadline-ms") {
		var ms int
		d.ScanArgs(t, "deadline-ms", &ms)
		call.Deadline = time.Now().Add(time.Duration(ms) * time.Millisecond)
	}
	answers := 0
	call.Done = func(resp *kv.Response, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if answers++; answers > 1 {
			t.Errorf("call %s was answered twice", name)
		}
		s.finished = append(s.finished, name+": "+responseText(resp, err))
	}
	s.calls[name] = call
	at.gateway.Submit(call)
}

func parseRequest(t *testing.T, words []string) *kv.Request {
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	key := func(i int) kv.Span { return kv.Span{Start: []byte(words[i])} }
	switch words[0] {
	case "put":
		return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(words[1]), Value: []byte(words[2])}}
	case "get":
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: key(1)}}
	case "stale":
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: key(1), Serializable: true}}
	case "range":
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(words[1]), End: []byte(words[2])}}}
	case "grant":
		return &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: kv.LeaseID(number(words[1])), TTLSeconds: number(words[2])}}
	case "ttl":
		return &kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: kv.LeaseID(number(words[1]))}}
	case "malformed":
		return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{}}
	case "txn":
		return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{
			Success: []kv.Op{{Put: &kv.PutRequest{Key: []byte(words[1]), Value: []byte(words[2])}}},
		}}
	}
	t.Fatalf("unknown request %q", words)
	return nil
}

// TestRangeStream reads a range at a follower: linearizable, in chunks, with what blocks in emit.
func TestRangeStream(t *testing.T) {
	c := newCluster(t, Options{})
	c.elect(1)
	c.nodes[1].apply()
	value := make([]byte, 100<<10)
	for i := range 30 {
		c.nodes[1].gateway.Submit(&Call{
			Req:  &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: fmt.Appendf(nil, "k%02d", i), Value: value}},
			Done: func(*kv.Response, error) {},
		})
	}
	c.nodes[1].apply()
	result := make(chan error, 1)
	var keys, chunks, ends int
	var end *kv.Response
	go func() {
		req := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k"), End: []byte("l")}, Limit: 25}}
		result <- c.nodes[2].gateway.RangeStream(context.Background(), req, func(r *kv.Response, last bool) error {
			keys += len(r.Range.KVs)
			chunks++
			if last {
				ends++
			}
			end = r
			return nil
		})
	}()
	for done := false; !done; {
		c.deliver()
		c.nodes[2].apply()
		select {
		case err := <-result:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
	}
	if keys != 25 || chunks != 3 || ends != 1 || len(end.Range.KVs) == 0 || end.Range.Count != 30 || !end.Range.More || end.Revision != 31 {
		t.Fatalf("%d keys in %d chunks, the last %+v at %d", keys, chunks, end.Range, end.Revision)
	}
	first, err := c.nodes[1].gateway.HashKV(context.Background(), "", 20)
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.nodes[2].gateway.HashKV(context.Background(), "", 20)
	if err != nil || first != second || first.Hash == 0 {
		t.Fatalf("hashes %+v and %+v, %v", first, second, err)
	}
	if _, err := c.nodes[2].gateway.HashKV(context.Background(), "", 200); err == nil {
		t.Fatal("hash of a future revision")
	}
	c.keptHashes = map[kv.Revision]uint32{20: first.Hash, 15: 15, 25: 25}
	c.nodes[1].gateway.Submit(&Call{Req: &kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: 20}}, Done: func(*kv.Response, error) {}})
	c.nodes[1].apply()
	kept, err := c.nodes[1].gateway.HashKV(context.Background(), "", 20)
	if want := (HashResult{Hash: first.Hash, HashRevision: 20, Revision: 31, Compacted: 19}); err != nil || kept != want {
		t.Fatalf("hash of a compaction: %+v, %v; want %+v", kept, err, want)
	}
	if older, err := c.nodes[1].gateway.HashKV(context.Background(), "", 15); err != nil || older.Hash != 15 {
		t.Fatalf("hash of an older compaction: %+v, %v", older, err)
	}
	if newer, err := c.nodes[1].gateway.HashKV(context.Background(), "", 25); err != nil || newer.Hash == 25 {
		t.Fatalf("hash of a revision that is not compacted: %+v, %v", newer, err)
	}
	if _, err := c.nodes[1].gateway.HashKV(context.Background(), "", 14); !errors.Is(err, kv.ErrCompacted) {
		t.Fatalf("a compacted revision without a hash: %v", err)
	}
}
