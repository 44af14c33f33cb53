package shard

import (
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/txn"
)

// endings are the cores of transactions over several shards, of one leadership of a shard in a leaseWorld. That of the system shard ends leases.
type endings struct {
	shard       *leaseShard
	coordinator *txn.Coordinator // nil: not the system shard
	recovery    *txn.Recovery
	older       bool
}

// mail is a question about a transaction on its way to a leader.
type mail struct {
	shard   kv.ShardID
	request *kv.Request
	told    func(*kv.Response, error)
}

func newEndings(s *leaseShard) (*endings, error) {
	id, term := s.group.leader.Shard(), uint64(s.term)
	e := &endings{shard: s}
	table, err := partition.New(partition.Scheme{Kind: partition.Hash, Shards: 3})
	if err != nil {
		return nil, err
	}
	if id == kv.SystemShard {
		options := txn.Options{Protocol: s.world.protocol, Anchor: id, Term: term, Table: table, Finished: s.group.leader.Finished(id)}
		if e.coordinator, err = txn.NewCoordinator(options.WithDefaults()); err != nil {
			return nil, err
		}
		e.coordinator.Tick(s.group.now)
	}
	e.recovery, err = txn.NewRecovery(txn.RecoveryOptions{Protocol: s.world.protocol, Shard: id, Term: term}.WithDefaults())
	return e, err
}

// begin ends a lease, for who asked.
func (e *endings) begin(o *onTheWay) {
	if o.term != e.shard.term {
		e.shard.world.answer(o, nil, kv.ErrNotLeader)
	} else if _, err := e.coordinator.Begin(o, o.ask.Request, e.shard.group.now+2*time.Second); err != nil {
		e.shard.world.answer(o, nil, err)
	}
}

// pump does what the cores want.
func (e *endings) pump() error {
	s, w := e.shard, e.shard.world
	var undecided []kv.UnfinishedTransaction
	for _, u := range s.group.leader.Undecided() {
		if e.coordinator == nil || !e.coordinator.Live(u.ID) {
			undecided = append(undecided, u)
		}
	}
	e.recovery.Tick(s.group.now, undecided)
	for _, a := range e.recovery.Ready() {
		w.seen["recovery"]++
		e.send(a, e.recovery.Answered)
	}
	c := e.coordinator
	if c == nil {
		return nil
	}
	if told, open, finished := e.recovery.OlderFinished(); finished && (!e.older || len(told)+len(open) > 0) {
		e.older = true
		c.OlderFinished(told, open)
	}
	c.Tick(s.group.now)
	for {
		ready := c.Ready()
		if len(ready.Done)+len(ready.Asks)+len(ready.Numbers) == 0 {
			return c.Check()
		}
		e.done(&ready)
		for _, a := range ready.Asks {
			e.send(a, c.Answered)
		}
		for _, n := range ready.Numbers {
			if len(n.Writers) > 0 {
				w.last++
			}
			c.Numbered(n.ID, w.last, nil)
		}
	}
}

func (e *endings) done(ready *txn.Ready) {
	for _, d := range ready.Done {
		if d.Err == nil {
			e.shard.world.seen["ended by transaction"]++
		}
		e.shard.world.answer(d.Owner.(*onTheWay), d.Response, d.Err)
	}
}

func (e *endings) send(a txn.Ask, answered func(txn.Ask, *kv.CommitResponse, error)) {
	e.shard.world.mail = append(e.shard.world.mail, &mail{a.Shard, a.Request, func(resp *kv.Response, err error) {
		if e.shard.endings != e {
			return
		}
		var body *kv.CommitResponse
		if err == nil {
			body = resp.Commit
		}
		answered(a, body, err)
	}})
}

// stop: the leadership is over.
func (e *endings) stop() {
	if e.coordinator != nil {
		e.coordinator.Stop()
		ready := e.coordinator.Ready()
		e.done(&ready)
	}
}

// deliverMail brings a question about a transaction to its leader. It may be lost, or come twice.
func (w *leaseWorld) deliverMail(i int, faults bool) {
	l := w.mail[i]
	w.mail = slices.Delete(w.mail, i, i+1)
	target := w.shards[l.shard-1]
	if faults {
		switch w.random.IntN(20) {
		case 0:
			l.told(nil, kv.ErrTimeout)
			return
		case 1:
			target.queue = append(target.queue, &pendingRequest{request: l.request})
		}
	}
	if l.request.Kind == kv.KindTxnState && target.endings.coordinator.Live(l.request.Commit.ID) {
		l.told(&kv.Response{Commit: &kv.CommitResponse{}}, nil)
		return
	}
	target.queue = append(target.queue, &pendingRequest{request: l.request, told: l.told})
}

// tell gives the answer to who asked about a transaction, once.
func (p *pendingRequest) tell(resp *kv.Response, err error) {
	if told := p.told; told != nil {
		p.told = nil
		told(resp, err)
	}
}

// incarnation is a lease with its incarnation.
type incarnation struct {
	lease  kv.LeaseID
	number uint64
}

// checkEnded: the keys of a lease that go by transaction all go at one revision.
func (w *leaseWorld) checkEnded(id kv.LeaseID, number uint64, rev kv.Revision) error {
	at := incarnation{id, number}
	if before, known := w.ended[at]; known && before != rev {
		return fmt.Errorf("keys of incarnation %d of lease %d go at revisions %d and %d", number, id, before, rev)
	}
	w.ended[at] = rev
	return nil
}

// mayBeRead tells which keys a client can read although their lease has ended.
func mayBeRead(m *Machine, keys [][]byte, at kv.Revision) [][]byte {
	return slices.DeleteFunc(keys, func(key []byte) bool {
		return m.Held(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: key}}}, at)
	})
}
