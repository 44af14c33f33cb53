package sequencer

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/quoratedb/quorate/kv"
)

// A frame to the sequencer is
//
//	version   1 byte  1, formatVersion
//	form      1 byte  1
//	instance, number  uvarint  of the session
//	counter   uvarint  of the frame in its session, from 1 on. The first one opens the session
//	epoch     uvarint  with which the session is; 0 while the sender does not know
//	items, until the end
//
// and a frame from it
//
//	version   1 byte  1
//	form      1 byte  2; 3 if the session is over: then nothing comes after the epoch, and the counter is 0
//	instance, number, counter, epoch  uvarint each, as above
//	heard     uvarint  the last frame of the session that came before what follows was read
//	now, compact revision, alarm bits  uvarint each
//	items, until the end
//
// An item is a kind (1 byte), the length of the rest (uvarint), and fields (uvarint each). Later versions add fields at the end, and earlier
// ones ignore them; a new kind is used only with nodes whose version knows it. All items but the 7th are of at most 70 bytes. What is in brackets may be
// left out, as 0: whoever knows of no such field did.
//
//	1 alloc     shard, generation, leadership, batch, n [, most [, compacted]]
//	2 clean     epoch, shard, generation, leadership, asOf, top
//	3 frontier  shard, generation
//	4 read      nothing: a sign of life, and with it now
//	5 numbers   shard, leadership, batch, first, n [, compacted]
//	6 shard     shard; 1 clean, 0 not, 2 replaced; last, or the newer generation
//	7 multi     ticket, how many shards (1 to MaxNamed), then of each: shard, generation
//	8 revision  ticket, revision
//	9 doubt     shard, last
const (
	formatVersion byte = 1

	formRequest byte = 1
	formReply   byte = 2
	formOver    byte = 3
)

type item byte

const (
	itemAlloc    item = 1
	itemClean    item = 2
	itemFrontier item = 3
	itemRead     item = 4
	itemNumbers  item = 5
	itemShard    item = 6
	itemMulti    item = 7
	itemRevision item = 8
	itemDoubt    item = 9
)

// What an item of kind shard says.
const (
	shardOpen     = 0
	shardClean    = 1
	shardReplaced = 2
)

// MaxFrameBytes bounds a frame, far below what the transport allows.
const MaxFrameBytes = 8 << 20

// Request is a frame from a node to the sequencer. Nothing but its coming asks for now: each frame is answered by one.
type Request struct {
	Session Session
	Counter uint64 // of the frame in the session; 1 opens it
	Epoch   Epoch  // 0: the node does not know yet
	Allocs  []Alloc
	// Multis come after the Allocs of the same frame.
	Multis []AllocMulti
	Cleans []Clean
	// Frontier are shards of which a statement is asked for.
	Frontier []ShardGeneration
}

// Reply is a frame from the sequencer to a node.
type Reply struct {
	Session Session
	Counter uint64
	Epoch   Epoch
	// Over: the session is at its end, and nothing else is said.
	Over bool
	// Heard is the counter of the node's last frame that came before Now was read (rule 17).
	Heard uint64
	Now   kv.Revision
	Notice
	Numbers   []Numbers
	Revisions []MultiRevision // in the order in which they were asked for
	Frontier  []ShardFrontier
	// Doubts are about shards that are led on the node, as far as the sequencer knows.
	Doubts []Doubt
}

// appendItem writes an item. Its fields are at most 70 bytes, so that one byte is enough for the length.
func appendItem(b []byte, kind item, fields ...uint64) []byte {
	b = append(b, byte(kind), 0)
	at := len(b)
	for _, f := range fields {
		b = binary.AppendUvarint(b, f)
	}
	b[at-1] = byte(len(b) - at)
	return b
}

// appendMulti writes an item of any length.
func appendMulti(b []byte, m *AllocMulti) []byte {
	length := uvarintBytes(uint64(m.Ticket)) + uvarintBytes(uint64(len(m.Writers)))
	for _, w := range m.Writers {
		length += uvarintBytes(uint64(w.Shard)) + uvarintBytes(uint64(w.Generation))
	}
	b = binary.AppendUvarint(append(b, byte(itemMulti)), uint64(length))
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(m.Ticket)), uint64(len(m.Writers)))
	for _, w := range m.Writers {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(w.Shard)), uint64(w.Generation))
	}
	return b
}

// appendAlloc ends the item before the bounds where there are none: most have none, and older versions did not know them. They skip what comes after N.
func appendAlloc(b []byte, a *Alloc) []byte {
	fields := [...]uint64{
		uint64(a.Shard), uint64(a.Generation), uint64(a.Leadership), uint64(a.Batch), a.N, uint64(a.Bounds.Most), uint64(a.Bounds.Compacted),
	}
	said := len(fields)
	for said > 5 && fields[said-1] == 0 {
		said--
	}
	return appendItem(b, itemAlloc, fields[:said]...)
}

func appendNumbers(b []byte, n *Numbers) []byte {
	fields := [...]uint64{uint64(n.Shard), uint64(n.Leadership), uint64(n.Batch), uint64(n.First), n.N, uint64(n.Compacted)}
	if n.Compacted == 0 {
		return appendItem(b, itemNumbers, fields[:5]...)
	}
	return appendItem(b, itemNumbers, fields[:]...)
}

// uvarintBytes is how many bytes a number takes.
func uvarintBytes(v uint64) int { return max(1, (bits.Len64(v)+6)/7) }

func appendHead(b []byte, form byte, id Session, counter uint64, epoch Epoch) []byte {
	b = append(b, formatVersion, form)
	for _, v := range [...]uint64{id.Instance, id.Number, counter, uint64(epoch)} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// AppendRequest appends the frame.
func AppendRequest(b []byte, q *Request) []byte {
	b = appendHead(b, formRequest, q.Session, q.Counter, q.Epoch)
	for _, a := range q.Allocs {
		b = appendAlloc(b, &a)
	}
	for i := range q.Multis {
		b = appendMulti(b, &q.Multis[i])
	}
	for _, c := range q.Cleans {
		b = appendItem(b, itemClean, uint64(c.Epoch), uint64(c.Shard), uint64(c.Generation), uint64(c.Leadership), uint64(c.AsOf), uint64(c.Top))
	}
	for _, f := range q.Frontier {
		b = appendItem(b, itemFrontier, uint64(f.Shard), uint64(f.Generation))
	}
	if len(q.Allocs)+len(q.Multis)+len(q.Cleans)+len(q.Frontier) == 0 {
		b = appendItem(b, itemRead)
	}
	return b
}

// AppendReply appends the frame.
func AppendReply(b []byte, r *Reply) []byte {
	if r.Over {
		return appendHead(b, formOver, r.Session, 0, r.Epoch)
	}
	b = appendHead(b, formReply, r.Session, r.Counter, r.Epoch)
	for _, v := range [...]uint64{r.Heard, uint64(r.Now), uint64(r.Compact), r.Alarms} {
		b = binary.AppendUvarint(b, v)
	}
	for i := range r.Numbers {
		b = appendNumbers(b, &r.Numbers[i])
	}
	for _, m := range r.Revisions {
		b = appendItem(b, itemRevision, uint64(m.Ticket), uint64(m.Revision))
	}
	for _, f := range r.Frontier {
		state, value := uint64(shardOpen), uint64(0)
		switch {
		case f.Newer != 0:
			state, value = shardReplaced, uint64(f.Newer)
		case f.Clean:
			state, value = shardClean, uint64(f.Last)
		}
		b = appendItem(b, itemShard, uint64(f.Shard), state, value)
	}
	for _, d := range r.Doubts {
		b = appendItem(b, itemDoubt, uint64(d.Shard), uint64(d.Last))
	}
	return b
}

// reader takes uvarints off a frame. After a failure it gives zeros.
type reader struct {
	in     []byte
	failed bool
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.in)
	if n <= 0 {
		r.failed = true
		return 0
	}
	r.in = r.in[n:]
	return v
}

// bounded is a number up to a bound.
func (r *reader) bounded(most uint64) uint64 {
	v := r.number()
	r.failed = r.failed || v > most
	return v
}

func (r *reader) revision() kv.Revision { return kv.Revision(r.bounded(uint64(maxRevision))) }

func (r *reader) shard() kv.ShardID {
	v := r.number()
	r.failed = r.failed || v == 0
	return kv.ShardID(v)
}

// item takes an item off; what is left over of it is of a later version.
func (r *reader) item() (kind item, fields reader) {
	kind, r.in = item(r.in[0]), r.in[1:]
	length := r.number()
	if r.failed || length > uint64(len(r.in)) {
		r.failed = true
		return 0, reader{}
	}
	fields.in, r.in = r.in[:length:length], r.in[length:]
	return kind, fields
}

func (r *reader) head() (form byte, id Session, counter uint64, epoch Epoch) {
	if len(r.in) < 2 || len(r.in) > MaxFrameBytes {
		r.failed = true
		return 0, Session{}, 0, 0
	}
	form, r.in = r.in[1], r.in[2:]
	id = Session{Instance: r.number(), Number: r.number()}
	counter, epoch = r.number(), Epoch(r.number())
	r.failed = r.failed || id.Instance == 0 || id.Number == 0 || (counter == 0) != (form == formOver)
	return form, id, counter, epoch
}

// IsRequest tells whether a frame is one to the sequencer, if it is a frame at all.
func IsRequest(in []byte) bool { return len(in) > 1 && in[1] == formRequest }

// checkVersion refuses a frame of a format that is not known, of which nothing else is read.
func checkVersion(in []byte) error {
	if len(in) > 0 && in[0] != formatVersion {
		return fmt.Errorf("%w: %d; this version knows %d. Is the sender newer?", errVersion, in[0], formatVersion)
	}
	return nil
}

func (r *reader) alloc() Alloc {
	a := Alloc{Shard: r.shard(), Generation: Generation(r.number()), Leadership: Leadership(r.number()), Batch: Batch(r.number()), N: r.bounded(MaxBatchNumbers)}
	if len(r.in) > 0 {
		a.Bounds.Most = r.revision()
	}
	if len(r.in) > 0 {
		a.Bounds.Compacted = r.revision()
	}
	return a
}

func (r *reader) numbers() Numbers {
	n := Numbers{Shard: r.shard(), Leadership: Leadership(r.number()), Batch: Batch(r.number()), First: r.revision(), N: r.bounded(MaxBatchNumbers)}
	if len(r.in) > 0 {
		n.Compacted = r.revision()
	}
	return n
}

// DecodeRequest is the inverse of AppendRequest.
func DecodeRequest(in []byte) (*Request, error) {
	if err := checkVersion(in); err != nil {
		return nil, err
	}
	q, r := &Request{}, reader{in: in}
	var form byte
	form, q.Session, q.Counter, q.Epoch = r.head()
	if r.failed || form != formRequest {
		return nil, ErrMalformed
	}
	for len(r.in) > 0 && !r.failed {
		kind, f := r.item()
		switch {
		case r.failed:
		case kind == itemAlloc:
			q.Allocs = append(q.Allocs, f.alloc())
		case kind == itemClean:
			q.Cleans = append(q.Cleans, Clean{
				Epoch(f.number()), f.shard(), Generation(f.number()), Leadership(f.number()), f.revision(), f.revision(),
			})
		case kind == itemFrontier:
			q.Frontier = append(q.Frontier, ShardGeneration{f.shard(), Generation(f.number())})
		case kind == itemMulti:
			q.Multis = append(q.Multis, f.multi())
		case kind == itemRead:
		default:
			return nil, fmt.Errorf("%w (item %d of those that ask)", errUnknown, kind)
		}
		r.failed = r.failed || f.failed
	}
	if r.failed {
		return nil, ErrMalformed
	}
	return q, nil
}

// DecodeReply is the inverse of AppendReply.
func DecodeReply(in []byte) (*Reply, error) {
	if err := checkVersion(in); err != nil {
		return nil, err
	}
	p, r := &Reply{}, reader{in: in}
	var form byte
	form, p.Session, p.Counter, p.Epoch = r.head()
	switch {
	case r.failed || p.Epoch == 0:
		return nil, ErrMalformed
	case form == formOver:
		p.Over = true
		return p, nil
	case form != formReply:
		return nil, ErrMalformed
	}
	p.Heard, p.Now, p.Compact, p.Alarms = r.number(), r.revision(), r.revision(), r.number()
	for len(r.in) > 0 && !r.failed {
		kind, f := r.item()
		switch {
		case r.failed:
		case kind == itemNumbers:
			p.Numbers = append(p.Numbers, f.numbers())
		case kind == itemShard:
			p.Frontier = append(p.Frontier, f.frontier())
		case kind == itemRevision:
			p.Revisions = append(p.Revisions, MultiRevision{MultiTicket(f.number()), f.revision()})
		case kind == itemDoubt:
			p.Doubts = append(p.Doubts, Doubt{f.shard(), f.revision()})
		default:
			return nil, fmt.Errorf("%w (item %d of those that answer)", errUnknown, kind)
		}
		r.failed = r.failed || f.failed
	}
	if r.failed {
		return nil, ErrMalformed
	}
	return p, nil
}

// multi takes no more space than there are bytes for.
func (r *reader) multi() AllocMulti {
	m := AllocMulti{Ticket: MultiTicket(r.number())}
	count := r.bounded(MaxNamed)
	if r.failed || count == 0 || 2*count > uint64(len(r.in)) { // a shard and its generation take two bytes at least
		r.failed = true
		return m
	}
	m.Writers = make([]ShardGeneration, 0, count)
	for range count {
		m.Writers = append(m.Writers, ShardGeneration{r.shard(), Generation(r.number())})
	}
	return m
}

func (r *reader) frontier() (f ShardFrontier) {
	f.Shard = r.shard()
	switch state := r.bounded(shardReplaced); state {
	case shardClean:
		f.Clean, f.Last = true, r.revision()
	case shardReplaced:
		f.Newer = Generation(r.number())
		r.failed = r.failed || f.Newer == 0
	default:
		r.failed = r.failed || r.number() != 0
	}
	return f
}
