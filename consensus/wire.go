package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The formats below travel between nodes and lie in logs and state rows. Each that stands alone begins
// with a version byte; numbers are uvarints; a message writes only the fields that are not zero.
//
//	message  = version kind fields(2, little endian) from to {field, in the order of the bits}
//	entry    = index term kind length data
//	config   = version voters learners outgoing;  list = count {difference to the one before}
//	snapshot = index term length config
const (
	messageVersion = 1
	configVersion  = 1
)

// Bits of a message's field mask. The two lowest hold the class.
const (
	classMask  uint16 = 3
	hasReject  uint16 = 1 << 2
	hasTerm    uint16 = 1 << 3
	hasLogTerm uint16 = 1 << 4
	hasIndex   uint16 = 1 << 5
	hasCommit  uint16 = 1 << 6
	hasHint    uint16 = 1 << 7
	hasVote    uint16 = 1 << 8
	hasContext uint16 = 1 << 9
	hasEntries uint16 = 1 << 10
	hasMeta    uint16 = 1 << 11
	knownBits  uint16 = 1<<12 - 1
)

// minEntryBytes is the least an encoded entry takes; a count above remaining/minEntryBytes is a lie.
const minEntryBytes = 4

// ErrMalformed is wrapped by the errors of the decoders.
var ErrMalformed = errors.New("consensus: malformed encoding")

// AppendMessage appends the encoding of the message to b.
func AppendMessage(b []byte, m *Message) []byte {
	fields := m.fields()
	b = append(b, messageVersion, byte(m.Kind))
	b = binary.LittleEndian.AppendUint16(b, fields)
	b = binary.AppendUvarint(b, uint64(m.From))
	b = binary.AppendUvarint(b, uint64(m.To))
	for bit, v := range m.numbers() {
		if fields&(hasTerm<<bit) != 0 {
			b = binary.AppendUvarint(b, v)
		}
	}
	if fields&hasEntries != 0 {
		b = binary.AppendUvarint(b, uint64(len(m.Entries)))
		for i := range m.Entries {
			b = AppendEntry(b, &m.Entries[i])
		}
	}
	if fields&hasMeta != 0 {
		b = AppendSnapshotMeta(b, m.Snapshot)
	}
	return b
}

// numbers lists the numeric fields in the order of their bits, from hasTerm on.
func (m *Message) numbers() [7]uint64 {
	return [...]uint64{uint64(m.Term), uint64(m.LogTerm), uint64(m.Index), uint64(m.Commit), uint64(m.Hint), uint64(m.Vote), m.Context}
}

func (m *Message) fields() uint16 {
	fields := uint16(m.Class) & classMask
	if m.Reject {
		fields |= hasReject
	}
	for bit, v := range m.numbers() {
		if v != 0 {
			fields |= hasTerm << bit
		}
	}
	if len(m.Entries) > 0 {
		fields |= hasEntries
	}
	if m.Snapshot != nil {
		fields |= hasMeta
	}
	return fields
}

// DecodeMessage reads what AppendMessage wrote. The data of the entries aliases b. It checks the
// form only; what a message may say is the business of the core that takes it.
func DecodeMessage(b []byte) (Message, error) {
	d := decoder{rest: b}
	d.version("message", messageVersion)
	var m Message
	m.Kind = MessageKind(d.byte())
	fields := d.uint16()
	if fields&^knownBits != 0 {
		d.fail("message has unknown fields %#x; is the sender newer than this node?", fields)
	}
	m.Class = Class(fields & classMask)
	m.Reject = fields&hasReject != 0
	m.From, m.To = ReplicaID(d.uvarint()), ReplicaID(d.uvarint())
	m.Term = Term(d.optional(fields, hasTerm))
	m.LogTerm = Term(d.optional(fields, hasLogTerm))
	m.Index = Index(d.optional(fields, hasIndex))
	m.Commit = Index(d.optional(fields, hasCommit))
	m.Hint = Index(d.optional(fields, hasHint))
	m.Vote = ReplicaID(d.optional(fields, hasVote))
	m.Context = d.optional(fields, hasContext)
	if fields&hasEntries != 0 {
		m.Entries = d.entries()
	}
	if fields&hasMeta != 0 {
		m.Snapshot = d.snapshotMeta()
	}
	if err := d.end("message"); err != nil {
		return Message{}, err
	}
	return m, nil
}

// AppendEntry appends the encoding of the entry to b.
func AppendEntry(b []byte, e *Entry) []byte {
	b = binary.AppendUvarint(b, uint64(e.Index))
	b = binary.AppendUvarint(b, uint64(e.Term))
	b = append(b, byte(e.Kind))
	b = binary.AppendUvarint(b, uint64(len(e.Data)))
	return append(b, e.Data...)
}

// AppendConfig appends the encoding of the config to b.
func AppendConfig(b []byte, c Config) []byte {
	b = append(b, configVersion)
	for _, list := range [][]ReplicaID{c.Voters, c.Learners, c.Outgoing} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		before := ReplicaID(0)
		for _, id := range list {
			b = binary.AppendUvarint(b, uint64(id-before))
			before = id
		}
	}
	return b
}

// DecodeConfig reads what AppendConfig wrote. Lists that do not ascend are malformed; whether
// the config is a sensible one tells Validate.
func DecodeConfig(b []byte) (Config, error) {
	d := decoder{rest: b}
	c := d.config()
	if err := d.end("config"); err != nil {
		return Config{}, err
	}
	return c, nil
}

// AppendSnapshotMeta appends the encoding of the metadata to b.
func AppendSnapshotMeta(b []byte, s *SnapshotMeta) []byte {
	b = binary.AppendUvarint(b, uint64(s.Index))
	b = binary.AppendUvarint(b, uint64(s.Term))
	config := AppendConfig(nil, s.Config)
	b = binary.AppendUvarint(b, uint64(len(config)))
	return append(b, config...)
}

// decoder takes values off the front of rest. After the first failure it yields zeros, so that
// callers look at err once.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	d.rest = nil
}

func (d *decoder) version(what string, want byte) {
	if got := d.byte(); d.err == nil && got != want {
		d.fail("%s of format version %d; this node knows version %d", what, got, want)
	}
}

// end checks that nothing is left.
func (d *decoder) end(what string) error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d bytes after the end of the %s", len(d.rest), what)
	}
	return d.err
}

func (d *decoder) byte() byte {
	if len(d.rest) < 1 {
		d.fail("it is cut short")
		return 0
	}
	v := d.rest[0]
	d.rest = d.rest[1:]
	return v
}

func (d *decoder) uint16() uint16 {
	if len(d.rest) < 2 {
		d.fail("it is cut short")
		return 0
	}
	v := binary.LittleEndian.Uint16(d.rest)
	d.rest = d.rest[2:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail("a number is cut short or too long")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) optional(fields, bit uint16) uint64 {
	if fields&bit == 0 {
		return 0
	}
	return d.uvarint()
}

// bytes takes a length and as many bytes; it yields nil for none.
func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail("%d bytes are announced, %d are left", n, len(d.rest))
		return nil
	}
	if n == 0 {
		return nil
	}
	v := d.rest[:n:n]
	d.rest = d.rest[n:]
	return v
}

// count takes a number of things that take at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/size) {
		d.fail("%d items are announced, %d bytes are left", n, len(d.rest))
		return 0
	}
	return int(n)
}

func (d *decoder) entry() Entry {
	return Entry{Index: Index(d.uvarint()), Term: Term(d.uvarint()), Kind: EntryKind(d.byte()), Data: d.bytes()}
}

func (d *decoder) entries() []Entry {
	n := d.count(minEntryBytes)
	if n == 0 {
		return nil
	}
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = d.entry()
	}
	return entries
}

func (d *decoder) config() Config {
	d.version("config", configVersion)
	return Config{Voters: d.replicas(), Learners: d.replicas(), Outgoing: d.replicas()}
}

func (d *decoder) replicas() []ReplicaID {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	ids := make([]ReplicaID, n)
	before := ReplicaID(0)
	for i := range ids {
		ids[i] = before + ReplicaID(d.uvarint())
		if ids[i] <= before && d.err == nil {
			d.fail("replica ids do not ascend")
		}
		before = ids[i]
	}
	return ids
}

func (d *decoder) snapshotMeta() *SnapshotMeta {
	s := &SnapshotMeta{Index: Index(d.uvarint()), Term: Term(d.uvarint())}
	inner := decoder{rest: d.bytes(), err: d.err}
	s.Config = inner.config()
	if err := inner.end("config"); err != nil && d.err == nil {
		d.err, d.rest = err, nil
	}
	return s
}
