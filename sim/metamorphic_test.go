package sim

import (
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/oracle"
	"github.com/quoratedb/quorate/sim/workload"
)

// TestSameAnswers: where nothing fails, a store answers the same requests, one after the other, in the same way, whatever it is made of: the protocol, the disks,
// the shards, how they part the keys and how they commit what is in several of them. The revisions of all headers and all events of watches are the same, too.
func TestSameAnswers(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 1
	}
	byRange, byHash := &Partition{Kind: ByRange, SplitKeys: []string{"d1/", "d2/", "d4/", "d6/"}}, &Partition{Kind: ByHash, HashPrefix: 1}
	stores := []struct {
		partition *Partition
		commit    CommitProtocol
	}{{nil, ""}, {byRange, TwoPhase}, {byRange, ThreePhase}, {byHash, TwoPhase}, {byHash, ThreePhase}}
	for seed := uint64(1); seed <= seeds; seed++ {
		var want []string
		for _, protocol := range []Protocol{Raft, Paxos} {
			for _, engine := range []EngineKind{Memory, Pebble} {
				for _, store := range stores {
					name := fmt.Sprintf("seed %d, %s on %s, %+v, %s", seed, protocol, engine, store.partition, store.commit)
					p := sameness(seed, protocol, engine, store.partition)
					p.Commit = store.commit
					got := answers(t, name, p)
					if want == nil {
						want = got
					}
					for i := range want {
						if i >= len(got) || got[i] != want[i] {
							t.Errorf("%s: step %d: %s\nraft on memory with one shard: %s", name, i, append(got, "nothing")[min(i, len(got))], want[i])
							break
						}
					}
				}
			}
		}
	}
}

// sameness is a plan of a run in which nothing fails, and nothing is refused for want of room.
func sameness(seed uint64, protocol Protocol, engine EngineKind, partition *Partition) Plan {
	p := Plan{
		Seed: seed, Protocol: protocol, Engine: engine, Nodes: 3, Partition: partition, Duration: time.Minute,
		Limits: Limits{
			RetainLogEntries: 60, FlushLogBytes: 4 << 10, FlushChunkRows: 4, MaxInflight: 3, MaxDirtyKeys: 1000, MaxMessageBytes: 1 << 20,
			MaxUncommittedBytes: 256 << 20, WatchRingRecords: 30, Heartbeat: 100 * time.Millisecond,
		},
	}
	if partition != nil {
		p.Shards = map[string]int{ByRange: len(partition.SplitKeys) + 1, ByHash: 8}[partition.Kind]
	}
	return p
}

// answers runs one history, and returns what came for each request, and then all events.
func answers(t *testing.T, name string, p Plan) (got []string) {
	election.Lock()
	before := cryptorand.Reader // see election
	defer func() {
		cryptorand.Reader = before
		election.Unlock()
	}()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	w := newWorld(p, RunOptions{})
	defer w.finish()
	cryptorand.Reader = chance{w.source(sourceElection, 0)}
	for _, n := range w.nodes {
		n.start()
	}
	w.begun()
	w.runUntil(w.now+patience, 5*time.Millisecond, w.whole)
	user := &samenessUser{random: rand.New(rand.NewPCG(p.Seed, 0)), last: 1}
	c := w.groups[0].newClient(1, "sameness", user.live)
	w.runUntil(w.now+10*time.Minute, 5*time.Millisecond, func() bool { return c.done })
	if w.verdict == "" && !c.done {
		w.fail(Liveness, "the client waits for %s", c.waitsFor)
	}
	w.compare()
	w.groups[0].complete()
	if p.Partition != nil && w.marks["transaction in several shards"] < 10 {
		t.Errorf("%s: %d transactions took effect in several shards", name, w.marks["transaction in several shards"])
	}
	if problems := oracle.Check(w.groups[0].history); w.verdict != "" || len(problems) > 0 {
		t.Fatalf("%s: %s %s %v", name, w.verdict, w.problem, problems)
	}
	return user.got
}

// samenessUser asks for one thing after the other, at any node. What it asks for follows from chance and from the answers.
type samenessUser struct {
	workload.Client
	random *rand.Rand
	last   kv.Revision
	got    []string
	values int
}

const samenessSteps = 250

func (u *samenessUser) live(c workload.Client) {
	u.Client = c
	all := kv.Span{Start: []byte("d"), End: []byte("e")}
	streams := []workload.WatchStream{u.watch(1, watch.CreateRequest{ID: 1, Span: all, PrevKV: true})}
	for i := range samenessSteps {
		u.ask(u.request())
		if i == samenessSteps/2 { // from the past, and of a few keys
			streams = append(streams, u.watch(2, watch.CreateRequest{ID: 1, Span: all, StartRevision: 2}))
			streams = append(streams, u.watch(3, watch.CreateRequest{ID: 1, Span: kv.Span{Start: []byte("d3/"), End: []byte("d50")}, StartRevision: u.last, PrevKV: true}))
		}
	}
	end := u.value()
	u.ask(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("d4/end"), Value: end}})
	for i, s := range streams {
		if s == nil || !u.follow(i, s) {
			return
		}
	}
}

func (u *samenessUser) watch(node int, r watch.CreateRequest) workload.WatchStream {
	s, err := u.Watch(node)
	if err != nil {
		u.Fail("open a stream: %v", err)
		return nil
	}
	s.Create(r)
	b, err := s.Next(0)
	if err != nil || b.Kind != watch.KindCreated || b.Err != nil {
		u.Fail("create a watch: %v, %+v", err, b)
		return nil
	}
	u.got = append(u.got, fmt.Sprintf("watch at %d", b.Revision))
	return s
}

// follow reads what a watch gets up to the last key.
func (u *samenessUser) follow(number int, s workload.WatchStream) bool {
	for {
		b, err := s.Next(5 * time.Second)
		if err != nil {
			u.Fail("watch %d: %v", number, err)
			return false
		}
		for _, e := range b.Events {
			event := e.Event(b.PrevKV)
			u.got = append(u.got, fmt.Sprintf("watch %d: %d %q=%q %d %d %d, before %v", number, event.Type, event.KV.Key, event.KV.Value, event.KV.CreateRevision,
				event.KV.ModRevision, event.KV.Version, describeKV(event.Prev)))
			if string(event.KV.Key) == "d4/end" {
				return true
			}
		}
	}
}

func describeKV(e *kv.KeyValue) string {
	if e == nil {
		return "nothing"
	}
	return fmt.Sprintf("%q=%q %d %d %d", e.Key, e.Value, e.CreateRevision, e.ModRevision, e.Version)
}

func (u *samenessUser) ask(r *kv.Request) {
	resp, err := u.Do(1+u.random.IntN(u.Nodes()), r, 0)
	if err == nil {
		u.last = max(u.last, resp.Revision)
		u.got = append(u.got, fmt.Sprintf("%s: %s", describeRequest(r), describeResponse(resp)))
		return
	}
	for _, known := range []error{kv.ErrFutureRevision, kv.ErrKeyNotFound, kv.ErrDuplicateKey} {
		if errors.Is(err, known) {
			if r.Kind == kv.KindTxn && !errors.Is(known, kv.ErrDuplicateKey) {
				known = errRefused // of what is wrong in several shards one thing is told, not always the first
			}
			u.got = append(u.got, fmt.Sprintf("%s: %v", describeRequest(r), known))
			return
		}
	}
	u.Fail("%s: %v", describeRequest(r), err)
}

// describeResponse tells all that an answer says.
func describeResponse(r *kv.Response) string {
	text := fmt.Sprintf("at %d:", r.Revision)
	switch {
	case r.Range != nil:
		text += describeKVs(r.Range.KVs) + fmt.Sprintf(", %d, more %v", r.Range.Count, r.Range.More)
	case r.Put != nil:
		text += " before " + describeKV(r.Put.Prev)
	case r.DeleteRange != nil:
		text += fmt.Sprintf(" %d:", r.DeleteRange.Deleted) + describeKVs(r.DeleteRange.Prev)
	case r.Txn != nil:
		text += fmt.Sprint(" ", r.Txn.Succeeded)
		for i := range r.Txn.Responses {
			one := r.Txn.Responses[i]
			text += "; " + describeResponse(&kv.Response{Revision: one.Revision, Range: one.Range, Put: one.Put, DeleteRange: one.DeleteRange, Txn: one.Txn})
		}
	}
	return text
}

func describeKVs(list []kv.KeyValue) (text string) {
	for i := range list {
		text += " " + describeKV(&list[i])
	}
	return text
}

func (u *samenessUser) one(in int) bool { return u.random.IntN(in) == 0 }

func (u *samenessUser) value() []byte {
	u.values++
	return fmt.Appendf(nil, "v%d", u.values)
}

var errRefused = errors.New("refused")

// anyDirectory is none in particular: another one each time.
const anyDirectory = -1

// key is one of a few in the directory: a directory is in one shard, whatever the partition.
func (u *samenessUser) key(directory int) []byte {
	if directory == anyDirectory {
		directory = u.random.IntN(8)
	}
	return fmt.Appendf(nil, "d%d/%d", directory, u.random.IntN(4))
}

// span is of one directory, or of all.
func (u *samenessUser) span(directory int, everywhere bool) kv.Span {
	if directory == anyDirectory {
		directory, everywhere = u.random.IntN(8), everywhere || u.one(3)
	}
	switch {
	case everywhere && u.one(2):
		return kv.Span{Start: []byte("d"), End: []byte("e")}
	case everywhere && u.one(2):
		return kv.Span{Start: u.key(directory), End: u.key(u.random.IntN(8))} // it may be empty
	case u.one(2):
		return kv.Span{Start: u.key(directory)}
	}
	return kv.Span{Start: fmt.Appendf(nil, "d%d/", directory), End: fmt.Appendf(nil, "d%d0", directory)}
}

// revision is one that a read may name: 0, of the past, the last one, or of the future.
func (u *samenessUser) revision() kv.Revision {
	switch u.random.IntN(6) {
	case 0:
		return 1 + kv.Revision(u.random.Int64N(int64(u.last)))
	case 1:
		return u.last
	case 2:
		return u.last + kv.Revision(u.random.IntN(3))
	}
	return 0
}

func (u *samenessUser) rangeOf(directory int, everywhere bool) *kv.RangeRequest {
	r := &kv.RangeRequest{Span: u.span(directory, everywhere), Revision: u.revision(), KeysOnly: u.one(5), CountOnly: u.one(5)}
	if u.one(2) {
		r.Limit = u.random.Int64N(12)
	}
	if u.one(2) {
		r.SortOrder, r.SortTarget = kv.SortOrder(u.random.IntN(3)), kv.SortTarget(u.random.IntN(5))
	}
	for _, bound := range []*kv.Revision{&r.MinMod, &r.MaxMod, &r.MinCreate, &r.MaxCreate} {
		if u.one(8) {
			*bound = kv.Revision(u.random.Int64N(int64(u.last) + 3))
		}
	}
	return r
}

func (u *samenessUser) ops(directory, depth int) (ops []kv.Op) {
	for range u.random.IntN(4) {
		switch u.random.IntN(5 - depth) {
		case 0, 1:
			ops = append(ops, kv.Op{Range: u.rangeOf(directory, false)})
		case 2:
			ops = append(ops, kv.Op{Put: &kv.PutRequest{Key: u.key(directory), Value: u.value(), PrevKV: u.one(2)}})
		case 3:
			d := &kv.DeleteRangeRequest{Span: kv.Span{Start: u.key(directory)}, PrevKV: u.one(2)}
			if directory == anyDirectory && u.one(8) {
				d.Span = u.span(directory, true)
			}
			ops = append(ops, kv.Op{DeleteRange: d})
		case 4:
			ops = append(ops, kv.Op{Txn: u.txn(directory, depth+1)})
		}
	}
	return ops
}

func (u *samenessUser) txn(directory, depth int) *kv.TxnRequest {
	r := &kv.TxnRequest{Success: u.ops(directory, depth), Failure: u.ops(directory, depth)}
	for range u.random.IntN(3) {
		r.Compare = append(r.Compare, kv.Compare{
			Span: u.span(directory, false), Target: pick(u.random, kv.CompareVersion, kv.CompareCreate, kv.CompareMod),
			Result: pick(u.random, kv.CompareEqual, kv.CompareGreater, kv.CompareLess, kv.CompareNotEqual), Integer: u.random.Int64N(int64(u.last) + 4),
		})
	}
	return r
}

// wide is a transaction that writes in several directories, whichever way it goes, and is never refused.
func (u *samenessUser) wide() *kv.TxnRequest {
	r := u.txn(anyDirectory, 3) // for its compares
	r.Success, r.Failure = nil, nil
	for i, directory := range u.random.Perm(8)[:2+u.random.IntN(4)] {
		put := kv.Op{Put: &kv.PutRequest{Key: u.key(directory), Value: u.value(), PrevKV: u.one(2)}}
		r.Success = append(r.Success, put)
		if i < 2 {
			other := kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: u.span(directory, u.one(6)), PrevKV: true}}
			r.Failure = append(r.Failure, kv.Op{Range: &kv.RangeRequest{Span: u.span(directory, true)}}, other)
		}
	}
	return r
}

func (u *samenessUser) request() *kv.Request {
	directory := u.random.IntN(8)
	if u.one(2) {
		directory = anyDirectory
	}
	switch u.random.IntN(13) {
	case 10, 11, 12:
		return &kv.Request{Kind: kv.KindTxn, Txn: u.wide()}
	case 0, 1, 2:
		r := &kv.PutRequest{Key: u.key(directory), Value: u.value(), PrevKV: u.one(2)}
		if u.one(6) {
			r.Value, r.IgnoreValue = nil, true
		}
		return &kv.Request{Kind: kv.KindPut, Put: r}
	case 3:
		return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: u.span(directory, false), PrevKV: u.one(2)}}
	case 4, 5, 6:
		return &kv.Request{Kind: kv.KindTxn, Txn: u.txn(directory, 0)}
	}
	return &kv.Request{Kind: kv.KindRange, Range: u.rangeOf(directory, true)}
}
