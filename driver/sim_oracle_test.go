package driver

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// oracle sees everything: what each node applies, and what clients were told.
type oracle struct {
	w *world
	// log is what the first node to apply an entry made of it. The entry at i has index BootstrapIndex+1+i.
	log      []entryRecord
	revision kv.Revision
	history  map[string][]versionRecord // by key, ascending
	written  map[string]kv.Revision     // by value, which is unique
	// forbidden are the values of requests that were refused: they must never be written.
	forbidden map[string]*operation
	// observed is the highest revision that any client was told of.
	observed   kv.Revision
	observedBy string
	open       map[*operation]struct{}
}

type entryRecord struct {
	term     consensus.Term
	seq      uint64
	void     bool
	revision kv.Revision
	effects  string
	// compacted is as of the entry.
	compacted kv.Revision
}

type versionRecord struct {
	revision kv.Revision
	value    string
	live     bool
}

// operation is one request of a client.
type operation struct {
	name     string
	node     *simNode
	via      *simNode // whom it waits for at the moment, if not node
	from     int      // incarnation
	key      string
	value    string // that it writes; unique
	expected string // a compare's right-hand side
	compares bool
	floor    kv.Revision // observed when it began
	answers  int
}

func newOracle(w *world) *oracle {
	return &oracle{w: w, revision: 1, observed: 1, history: map[string][]versionRecord{}, written: map[string]kv.Revision{},
		forbidden: map[string]*operation{}, open: map[*operation]struct{}{}}
}

// applied compares what a node made of an entry with what the first one did.
func (o *oracle) applied(n *simNode, a *shard.Applied) {
	if a.Jump {
		at := int(a.Index - consensus.BootstrapIndex - 1)
		if at >= len(o.log) || o.log[at].revision != a.Revision || o.log[at].term != a.Term {
			o.w.fail("node %d jumped to entry %d of term %d at revision %d", n.id, a.Index, a.Term, a.Revision)
		}
		n.next = a.Index + 1
		return
	}
	if a.Index != n.next {
		o.w.fail("node %d announced entry %d, %d was next", n.id, a.Index, n.next)
	}
	n.next = a.Index + 1
	record := entryRecord{term: a.Term, seq: a.Seq, void: a.Void, revision: a.Revision, effects: fmt.Sprintf("%+v", a.AllEffects())}
	at := int(a.Index - consensus.BootstrapIndex - 1)
	record.compacted = max(a.Compacted, o.compactedAt(a.Index-1))
	switch {
	case at < len(o.log):
		if o.log[at] != record {
			o.w.fail("node %d applied entry %d as %+v, another as %+v", n.id, a.Index, record, o.log[at])
		}
		return
	case at > len(o.log):
		o.w.fail("node %d applied entry %d, nobody applied %d", n.id, a.Index, len(o.log)+1)
		return
	}
	o.log = append(o.log, record)
	if a.Void {
		o.w.figures.Voids++
	}
	if a.Compacted != 0 {
		o.w.figures.Compactions++
	}
	effects := a.AllEffects()
	for i := range effects {
		e := &effects[i]
		if e.At.Rev != o.revision && e.At.Rev != o.revision+1 {
			o.w.fail("entry %d writes revision %d after %d", a.Index, e.At.Rev, o.revision)
		}
		o.revision = e.At.Rev
		key, value := string(e.Key), string(e.Value)
		o.history[key] = append(o.history[key], versionRecord{e.At.Rev, value, e.Version > 0})
		if e.Version == 0 {
			continue
		}
		if before, found := o.written[value]; found {
			o.w.fail("%q is written twice, at %d and %d", value, before, e.At.Rev)
		}
		if op := o.forbidden[value]; op != nil {
			o.w.fail("%q was refused but is written at %d (%s)", value, e.At.Rev, op.name)
		}
		o.written[value] = e.At.Rev
	}
	if o.revision != a.Revision {
		o.w.fail("entry %d ends at revision %d, not at %d", a.Index, o.revision, a.Revision)
	}
}

func (o *oracle) compactedAt(index consensus.Index) kv.Revision {
	if at := int(index) - int(consensus.BootstrapIndex) - 1; at >= 0 && at < len(o.log) {
		return o.log[at].compacted
	}
	return 0
}

// at returns the key's value as of the revision.
func (o *oracle) at(key string, revision kv.Revision) (value string, live bool) {
	for _, v := range o.history[key] {
		if v.revision > revision {
			break
		}
		value, live = v.value, v.live
	}
	return value, live
}

func (o *oracle) begin(op *operation) {
	op.floor, op.from = o.observed, int(op.node.incarnation)
	o.open[op] = struct{}{}
}

// crashed: whoever had asked the node will not hear any more.
func (o *oracle) crashed(n *simNode) {
	for op := range o.open {
		if op.node == n || op.via == n {
			delete(o.open, op)
		}
	}
}

// answered checks an answer against the history, and against what was known when the request was made.
func (o *oracle) answered(op *operation, resp *kv.Response, err error) {
	if op.from != int(op.node.incarnation) || !op.node.up {
		return // the process that answers is dead
	}
	if op.answers++; op.answers > 1 {
		o.w.fail("%s was answered twice", op.name)
	}
	delete(o.open, op)
	if err != nil {
		o.refusedOr(op, err)
		return
	}
	o.w.figures.Acked++
	if resp.Revision < op.floor {
		o.w.fail("%s was answered at revision %d, but %d was known when it was asked", op.name, resp.Revision, op.floor)
	}
	if resp.Revision > o.revision {
		o.w.fail("%s was answered at revision %d, committed is %d", op.name, resp.Revision, o.revision)
	}
	if resp.Revision > o.observed {
		o.observed, o.observedBy = resp.Revision, op.name
	}
	o.verify(op, resp)
}

func (o *oracle) refusedOr(op *operation, err error) {
	if errors.Is(err, kv.ErrOutcomeUnknown) {
		o.w.figures.Unknown++
		return
	}
	o.w.figures.Refused++
	if kv.CodeOf(err) == 0 {
		o.w.fail("%s: %v", op.name, err)
	}
	if op.value == "" {
		return
	}
	if at, found := o.written[op.value]; found {
		o.w.fail("%s was refused with %v but is written at %d", op.name, err, at)
	}
	o.forbidden[op.value] = op
}

// verify replays the request at its revision.
func (o *oracle) verify(op *operation, resp *kv.Response) {
	switch resp.Kind {
	case kv.KindPut:
		if o.written[op.value] != resp.Revision {
			o.w.fail("%s says revision %d, it is written at %d", op.name, resp.Revision, o.written[op.value])
		}
	case kv.KindTxn:
		at := resp.Revision
		if resp.Txn.Succeeded {
			at--
		}
		value, live := o.at(op.key, at)
		if holds := live && value == op.expected; holds != resp.Txn.Succeeded {
			o.w.fail("%s at revision %d: succeeded %v, but the key is %q", op.name, resp.Revision, resp.Txn.Succeeded, value)
		}
		if resp.Txn.Succeeded && o.written[op.value] != resp.Revision {
			o.w.fail("%s says revision %d, it is written at %d", op.name, resp.Revision, o.written[op.value])
		} else if !resp.Txn.Succeeded && o.written[op.value] != 0 {
			o.w.fail("%s failed but is written", op.name)
		}
	case kv.KindRange:
		want, live := o.at(op.key, resp.Revision)
		var got []byte
		if len(resp.Range.KVs) > 0 {
			got = resp.Range.KVs[0].Value
		}
		if live != (len(resp.Range.KVs) > 0) || live && !bytes.Equal(got, []byte(want)) {
			o.w.fail("%s at revision %d is %q (%v), read as %q", op.name, resp.Revision, want, live, got)
		}
	}
}

// observeLeases: who may read without asking has everything that anybody was told, nobody else may, and
// nothing of a later term is committed.
func (o *oracle) observeLeases() {
	var holder *simNode
	for _, n := range o.w.nodes {
		if !n.up || !n.replica.LeaseValid() {
			continue
		}
		_, term := n.replica.Leader()
		if holder != nil {
			o.w.fail("nodes %d and %d hold leases", holder.id, n.id)
		}
		holder = n
		if revision := n.replica.Revision(); revision < o.observed {
			o.w.fail("node %d holds a lease at revision %d in term %d, a client knows %d from %s%s", n.id, revision, term, o.observed, o.observedBy, o.w.describe())
		}
		if last := len(o.log) - 1; last >= 0 && uint64(o.log[last].term) > term {
			o.w.fail("node %d holds a lease in term %d, committed is term %d", n.id, term, o.log[last].term)
		}
	}
}
