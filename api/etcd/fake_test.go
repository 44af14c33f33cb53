package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"github.com/quoratedb/quorate/proto/native"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
)

// fake is a store in memory behind the real watch hub: enough of etcd's meaning for its official
// client. It is its own gateway and node.
type fake struct {
	hub    *watch.Hub
	leader atomic.Uint64
	shards atomic.Int64 // 0: one

	refuseSnapshot atomic.Bool

	// intercept, if set, takes a call instead of the store; it tells whether it did.
	intercept func(*gateway.Call) bool
	canceled  chan *gateway.Call
	listings  atomic.Int64 // open
	endless   func() bool  // Measure gives keys while it says so
	// beforeNext, if set, is called before a portion of a list of which so many keys are left.
	beforeNext func(left int)

	mu        sync.Mutex
	revision  kv.Revision
	compacted kv.Revision
	history   []mvcc.Effect
	leases    map[kv.LeaseID]int64
	nextLease kv.LeaseID
}

func newFake() (*fake, error) {
	f := &fake{revision: 1, leases: map[kv.LeaseID]int64{}, nextLease: 1000, canceled: make(chan *gateway.Call, 16)}
	f.leader.Store(1)
	var err error
	f.hub, err = watch.NewHub(watch.Options{Source: (*fakeSource)(f), Encode: etcdwire.AppendEvent}.WithDefaults())
	if err == nil {
		f.hub.Restored(1)
	}
	return f, err
}

func (f *fake) Leader() (kv.NodeID, uint64) { return kv.NodeID(f.leader.Load()), 5 }

func (f *fake) Revision() kv.Revision {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.revision
}

func (f *fake) Status() Status {
	leader, term := f.Leader()
	return Status{Leader: leader, Term: term, CommittedIndex: 12, AppliedIndex: 11, Revision: f.Revision(), SizeBytes: 4096,
		SizeInUseBytes: 1024, QuotaBytes: 1 << 31, Alarms: []kv.Alarm{{Node: 1, Type: kv.AlarmNoSpace}}, Errors: []string{"the disk is slow"},
		Shards: int(f.shards.Load()), ShardsLed: 5}
}

func (f *fake) Shards() native.ShardList {
	return native.ShardList{Cluster: 1, Member: 1, Protocol: "raft", Partition: "--initial-shards=1", Shards: []native.Shard{{ID: 1, Leader: 1, State: "member"}}}
}

func (f *fake) Transactions() native.TransactionList {
	return native.TransactionList{Cluster: 1, Member: 1, Commit: "2pc", Transactions: []native.Transaction{
		{ID: kv.TransactionID{Anchor: 2, Term: 3, Number: 4}, Participants: []kv.ShardID{2, 5}, Undecided: []kv.ShardID{5}},
	}}
}

func (f *fake) Defragment(context.Context) error { return nil }

// Snapshot is of pieces that say where they are, unless the caller is to be refused.
func (f *fake) Snapshot(_ context.Context, _ string, pieceBytes int, send func([]byte, int64) error) error {
	if f.refuseSnapshot.Load() {
		return fmt.Errorf("%w: one is being made", ErrSnapshotRefused)
	}
	for left := int64(2); left >= 0; left-- {
		if err := send(bytes.Repeat([]byte{byte(left)}, pieceBytes), left*int64(pieceBytes)); err != nil {
			return err
		}
	}
	return send(make([]byte, 32), 0)
}

// BeginBackup is of one shard and many leases.
func (f *fake) BeginBackup(_ context.Context, _ string, send func(*native.BackupBegin) error) error {
	if err := send(&native.BackupBegin{Cluster: 3, Revision: 9, Compacted: 2, Time: 5e9, Partition: "flags", Shards: []native.BackupShard{{ID: 4, Bytes: 70}}}); err != nil {
		return err
	}
	return send(&native.BackupBegin{Leases: []native.BackupLease{{ID: 8, TTLSeconds: 60}}})
}

// HoldHistory says twice that it does, and then that it is over.
func (f *fake) HoldHistory(_ context.Context, send func(*native.HoldPart) error) error {
	for _, over := range []bool{false, false, true} {
		if err := send(&native.HoldPart{LimitSeconds: 7, Over: over}); err != nil {
			return err
		}
	}
	return nil
}

// ExportShard sends a version at the revision that is asked for, in a part of its own for each one since that which is asked from. Shard 1 is compacted, shard 2 sends
// nothing, shard 3 ends in the middle, and shard 5 is not there.
func (f *fake) ExportShard(ctx context.Context, _ string, req native.ExportRequest, send func(*native.ExportPart) error) error {
	switch req.Shard {
	case 1:
		return kv.ErrCompacted
	case 2:
		<-ctx.Done()
		return context.Cause(ctx)
	case 5:
		return kv.ErrShardNotHere
	}
	if err := send(&native.ExportPart{Compacted: 2}); err != nil {
		return err
	}
	for rev := req.FromRevision; rev <= req.Revision; rev++ {
		var batch backup.Batch
		batch.Add(&backup.Version{KeyValue: kv.KeyValue{Key: []byte("k"), ModRevision: rev, CreateRevision: rev, Version: 1, Value: []byte{byte(req.FromSub)}}})
		if err := send(&native.ExportPart{Versions: batch.Bytes, Done: rev == req.Revision && req.Shard != 3}); err != nil {
			return err
		}
	}
	return nil
}

// Times has two points, which it sends if they are wanted, one by one.
func (f *fake) Times(_ context.Context, req native.TimesRequest, send func(*native.TimesPart) error) error {
	s := timeline.SeriesOf([]timeline.Point{{Revision: 4, Time: 1000}, {Revision: 9, Time: 2000}})
	p := native.TimesPart{Known: s.Known(req.At, 9, 3000), Compacted: 2}
	if err := send(&p); err != nil || !req.All {
		return err
	}
	for _, point := range s.Points() {
		if err := send(&native.TimesPart{Points: []timeline.Point{point}}); err != nil {
			return err
		}
	}
	return nil
}

// MoveLeader knows nodes 1 and 2; node 3 never takes over.
func (f *fake) MoveLeader(_ context.Context, to kv.NodeID) error {
	switch to {
	case 1, 2:
		f.leader.Store(uint64(to))
		return nil
	case 3:
		return fmt.Errorf("%w: node 3 does not lead", kv.ErrTransferTimeout)
	}
	return fmt.Errorf("%w: %v is no node of the cluster", kv.ErrBadTransferee, to)
}

func (f *fake) KnowsUsers() bool { return true }

func (f *fake) Meets(string, kv.Credential, auth.Need) error { return nil }

func (f *fake) MayWatch(string, kv.Credential, kv.Span) error { return nil }

func (f *fake) CatchUp(context.Context, kv.ShardID) error { return nil }

func (f *fake) NewWatchStream(_ string, _ kv.Credential, memory watch.Memory) (*watch.Stream, error) {
	return f.hub.NewStream(nil, memory)
}

func (f *fake) Cancel(c *gateway.Call) { f.canceled <- c }

func (f *fake) HashKV(_ context.Context, _ string, revision kv.Revision) (gateway.HashResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case revision > f.revision:
		return gateway.HashResult{}, kv.ErrFutureRevision
	case revision == 0:
		revision = f.revision
	}
	return gateway.HashResult{Hash: 77, HashRevision: revision, Revision: f.revision, Compacted: f.compacted}, nil
}

func (f *fake) RangeStream(_ context.Context, request *kv.Request, emit func(r *kv.Response, last bool) error) error {
	f.mu.Lock()
	revision := f.revision
	all, err := f.get(request.Range)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	end := *all
	for len(end.KVs) > 3 {
		if err := emit(&kv.Response{Revision: revision, Range: &kv.RangeResponse{KVs: end.KVs[:3:3]}}, false); err != nil {
			return err
		}
		end.KVs = end.KVs[3:]
	}
	return emit(&kv.Response{Revision: revision, Range: &end}, true)
}

func (f *fake) Submit(c *gateway.Call) {
	if f.intercept != nil && f.intercept(c) {
		return
	}
	f.mu.Lock()
	if leader, _ := f.Leader(); c.RequireLeader && leader == 0 {
		f.mu.Unlock()
		c.Done(nil, kv.ErrNoLeader)
		return
	}
	response, err := f.serve(c.Req)
	f.mu.Unlock()
	c.Done(response, err)
}

func (f *fake) serve(r *kv.Request) (*kv.Response, error) {
	response := &kv.Response{Kind: r.Kind}
	before := f.revision
	var err error
	switch r.Kind {
	case kv.KindRange:
		response.Range, err = f.get(r.Range)
	case kv.KindPut:
		response.Put = f.put(before+1, r.Put)
	case kv.KindDeleteRange:
		response.DeleteRange = f.remove(before+1, r.DeleteRange)
	case kv.KindTxn:
		response.Txn, err = f.txn(before+1, r.Txn)
	case kv.KindCompact:
		err = f.compact(r.Compact.Revision)
	case kv.KindLeaseGrant:
		response.LeaseGrant, err = f.grant(r.LeaseGrant)
	case kv.KindLeaseRevoke:
		err = f.revoke(before+1, r.LeaseRevoke.ID)
	case kv.KindLeaseKeepAlive:
		id := r.LeaseKeepAlive.ID
		if _, ok := f.leases[id]; !ok {
			err = kv.ErrLeaseNotFound
		}
		response.LeaseKeepAlive = &kv.LeaseKeepAliveResponse{ID: id, TTLSeconds: f.leases[id]}
	case kv.KindLeaseTimeToLive:
		response.LeaseTimeToLive = f.timeToLive(r.LeaseTimeToLive)
	case kv.KindLeaseLeases:
		response.LeaseLeases = &kv.LeaseLeasesResponse{}
		for id := range f.leases {
			response.LeaseLeases.IDs = append(response.LeaseLeases.IDs, id)
		}
		slices.Sort(response.LeaseLeases.IDs)
	case kv.KindAlarm:
		response.Alarm = &kv.AlarmResponse{Alarms: []kv.Alarm{{Node: 1, Type: kv.AlarmNoSpace}}}
	case kv.KindMemberList:
		response.MemberList = &kv.MemberListResponse{Nodes: []kv.NodeRecord{{ID: 1, Name: "one", PeerURLs: []string{"http://peer"}, ClientURLs: []string{"http://client"}}}}
	default:
		err = kv.ErrInvalidRequest
	}
	if applied := f.since(before); len(applied) > 0 {
		f.revision = before + 1
		f.hub.Applied(&shard.Applied{Revision: f.revision, Closed: f.revision, After: before, Effects: applied})
	}
	response.Revision = f.revision
	return response, err
}

// since returns a copy of the changes after a revision.
func (f *fake) since(revision kv.Revision) (out []mvcc.Effect) {
	for i := range f.history {
		if f.history[i].At.Rev > revision {
			out = append(out, f.history[i])
		}
	}
	return out
}

// versions returns the newest version of each key in the span at a revision, in key order.
func (f *fake) versions(span kv.Span, at kv.Revision) (out []mvcc.Effect) {
	newest := map[string]mvcc.Effect{}
	for _, e := range f.history {
		if e.At.Rev <= at && span.Contains(e.Key) {
			newest[string(e.Key)] = e
		}
	}
	for _, e := range newest {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b mvcc.Effect) int { return bytes.Compare(a.Key, b.Key) })
	return out
}

func pairOf(e mvcc.Effect) kv.KeyValue {
	return kv.KeyValue{Key: e.Key, Value: e.Value, CreateRevision: e.Create, ModRevision: e.At.Rev, Version: e.Version, Lease: e.Lease}
}

func (f *fake) get(r *kv.RangeRequest) (*kv.RangeResponse, error) {
	at := r.Revision
	switch {
	case len(r.Span.Start) == 0:
		return nil, kv.ErrEmptyKey
	case at > f.revision:
		return nil, kv.ErrFutureRevision
	case at > 0 && at < f.compacted:
		return nil, kv.ErrCompacted
	case at == 0:
		at = f.revision + 1 // a transaction sees its own writes
	}
	out := &kv.RangeResponse{}
	for _, e := range f.versions(r.Span, at) {
		if e.Version == 0 {
			continue
		}
		out.Count++
		if !r.CountOnly && (r.MaxCreate == 0 || e.Create <= r.MaxCreate) {
			out.KVs = append(out.KVs, pairOf(e))
		}
	}
	switch {
	case r.SortTarget == kv.SortByCreate && r.SortOrder == kv.SortAscend:
		slices.SortFunc(out.KVs, func(a, b kv.KeyValue) int { return int(a.CreateRevision - b.CreateRevision) })
	case r.SortTarget == kv.SortByCreate && r.SortOrder == kv.SortDescend:
		slices.SortFunc(out.KVs, func(a, b kv.KeyValue) int { return int(b.CreateRevision - a.CreateRevision) })
	}
	if r.Limit > 0 && int64(len(out.KVs)) > r.Limit {
		out.KVs, out.More = out.KVs[:r.Limit], true
	}
	return out, nil
}

func (f *fake) write(rev kv.Revision, e mvcc.Effect) *kv.KeyValue {
	e.At = mvcc.Locator{Rev: rev, Sub: uint32(len(f.since(rev - 1)))}
	var prev *kv.KeyValue
	if old := f.versions(kv.Span{Start: e.Key}, rev); len(old) > 0 {
		e.Prev, e.PrevLive, e.PrevLease = old[0].At, old[0].Version > 0, old[0].Lease
		if e.PrevLive {
			pair := pairOf(old[0])
			prev = &pair
		}
	}
	if e.Version > 0 {
		e.Create = rev
		if prev != nil {
			e.Create, e.Version = prev.CreateRevision, prev.Version+1
		}
	}
	f.history = append(f.history, e)
	return prev
}

func (f *fake) put(rev kv.Revision, r *kv.PutRequest) *kv.PutResponse {
	prev := f.write(rev, mvcc.Effect{Key: r.Key, Value: r.Value, Version: 1, Lease: r.Lease})
	if !r.PrevKV {
		prev = nil
	}
	return &kv.PutResponse{Prev: prev}
}

func (f *fake) remove(rev kv.Revision, r *kv.DeleteRangeRequest) *kv.DeleteRangeResponse {
	out := &kv.DeleteRangeResponse{}
	for _, e := range f.versions(r.Span, rev) {
		if e.Version == 0 {
			continue
		}
		prev := f.write(rev, mvcc.Effect{Key: e.Key})
		out.Deleted++
		if r.PrevKV {
			out.Prev = append(out.Prev, *prev)
		}
	}
	return out
}

func (f *fake) txn(rev kv.Revision, r *kv.TxnRequest) (*kv.TxnResponse, error) {
	out := &kv.TxnResponse{Succeeded: true}
	for i := range r.Compare {
		out.Succeeded = out.Succeeded && f.holds(&r.Compare[i])
	}
	ops := r.Success
	if !out.Succeeded {
		ops = r.Failure
	}
	for _, op := range ops {
		one := kv.OpResponse{Revision: rev}
		var err error
		switch {
		case op.Range != nil:
			one.Range, err = f.get(op.Range)
		case op.Put != nil:
			one.Put = f.put(rev, op.Put)
		case op.DeleteRange != nil:
			one.DeleteRange = f.remove(rev, op.DeleteRange)
		case op.Txn != nil:
			one.Txn, err = f.txn(rev, op.Txn)
		}
		if err != nil {
			return nil, err
		}
		out.Responses = append(out.Responses, one)
	}
	return out, nil
}

func (f *fake) holds(c *kv.Compare) bool {
	var e mvcc.Effect
	if found := f.versions(kv.Span{Start: c.Span.Start}, f.revision+1); len(found) > 0 && found[0].Version > 0 {
		e = found[0]
	}
	order := 0
	switch c.Target {
	case kv.CompareVersion:
		order = int(e.Version - c.Integer)
	case kv.CompareCreate:
		order = int(int64(e.Create) - c.Integer)
	case kv.CompareMod:
		order = int(int64(pairOf(e).ModRevision) - c.Integer)
	case kv.CompareValue:
		order = bytes.Compare(e.Value, c.Value)
	}
	switch c.Result {
	case kv.CompareEqual:
		return order == 0
	case kv.CompareGreater:
		return order > 0
	case kv.CompareLess:
		return order < 0
	}
	return order != 0
}

func (f *fake) compact(rev kv.Revision) error {
	switch {
	case rev > f.revision:
		return kv.ErrFutureRevision
	case rev <= f.compacted:
		return kv.ErrCompacted
	}
	f.compacted = rev
	return nil
}

func (f *fake) grant(r *kv.LeaseGrantRequest) (*kv.LeaseGrantResponse, error) {
	id := r.ID
	if id == 0 {
		f.nextLease++
		id = f.nextLease
	}
	if _, exists := f.leases[id]; exists {
		return nil, kv.ErrLeaseExists
	}
	f.leases[id] = r.TTLSeconds
	return &kv.LeaseGrantResponse{ID: id, TTLSeconds: r.TTLSeconds}, nil
}

func (f *fake) attached(id kv.LeaseID) (keys [][]byte) {
	for _, e := range f.versions(kv.Everything(), f.revision) {
		if e.Version > 0 && e.Lease == id {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

func (f *fake) revoke(rev kv.Revision, id kv.LeaseID) error {
	if _, exists := f.leases[id]; !exists {
		return kv.ErrLeaseNotFound
	}
	for _, key := range f.attached(id) {
		f.write(rev, mvcc.Effect{Key: key})
	}
	delete(f.leases, id)
	return nil
}

func (f *fake) timeToLive(r *kv.LeaseTimeToLiveRequest) *kv.LeaseTimeToLiveResponse {
	ttl, exists := f.leases[r.ID]
	if !exists {
		return &kv.LeaseTimeToLiveResponse{ID: r.ID, TTLSeconds: -1}
	}
	out := &kv.LeaseTimeToLiveResponse{ID: r.ID, TTLSeconds: ttl, GrantedTTLSeconds: ttl}
	if r.Keys {
		out.Keys = f.attached(r.ID)
	}
	return out
}

// fakeSource is what the watch hub reads of the store. The hub calls it while the store is not locked.
type fakeSource fake

func (f *fakeSource) Revision() kv.Revision { return (*fake)(f).Revision() }

func (f *fakeSource) Compacted() kv.Revision {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.compacted
}

func (f *fakeSource) Replaced(at mvcc.Locator) (kv.KeyValue, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.history {
		if e.At == at {
			return pairOf(e), true, nil
		}
	}
	return kv.KeyValue{}, false, nil
}

func (f *fakeSource) View() (watch.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeView{f.revision, f.compacted, slices.Clone(f.history)}, nil
}

type fakeView struct {
	revision, compacted kv.Revision
	history             []mvcc.Effect
}

func (v *fakeView) Closed() kv.Revision    { return v.revision }
func (v *fakeView) Compacted() kv.Revision { return v.compacted }
func (v *fakeView) Close() error           { return nil }

func (v *fakeView) History(from, to kv.Revision, _ int64, fn func(*mvcc.Effect) error) (kv.Revision, error) {
	for i := range v.history {
		if e := &v.history[i]; e.At.Rev >= from && e.At.Rev <= to {
			if err := fn(e); err != nil {
				return 0, err
			}
		}
	}
	return to + 1, nil
}

func (v *fakeView) Changes(mvcc.Locator, kv.Revision, func(mvcc.Locator, []byte, int64) bool, func(*mvcc.Effect) error) error {
	return errors.New("there is one shard")
}

// serveTxn puts the keys in one transaction, whatever its size.
func (f *fake) serveTxn(puts [][2]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	txn := &kv.TxnRequest{}
	for _, p := range puts {
		txn.Success = append(txn.Success, kv.Op{Put: &kv.PutRequest{Key: []byte(p[0]), Value: []byte(p[1])}})
	}
	if _, err := f.serve(&kv.Request{Kind: kv.KindTxn, Txn: txn}); err != nil {
		panic(err)
	}
}
