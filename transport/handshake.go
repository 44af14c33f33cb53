package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/quoratedb/quorate/kv"
)

// The envelope of a handshake's messages. It is the same in every version, so that
// any two versions can tell each other why they cannot talk:
//
//	magic   8 bytes "QUORPEER"
//	length  4 bytes, little endian: of the body
//	crc     4 bytes, little endian: CRC-32C of the body
//	body    fields in a fixed order; later versions only add fields at the end
const (
	magic               = "QUORPEER"
	envelopeHeaderBytes = 16
	maxEnvelopeBytes    = 64 << 10
	maxTextBytes        = 4 << 10
)

// purpose is what a connection is for. The numbers are on the wire.
type purpose uint8

const (
	purposeFrames purpose = 1
	purposeStream purpose = 2
	purposeLists  purpose = 3
)

// hello is what a caller says first.
type hello struct {
	Purpose                purpose
	MinVersion, MaxVersion uint16
	Cluster                kv.ClusterID
	From, To               kv.NodeID
	Instance               uint64
	Name                   string
	Metadata               []byte
	Stream                 string // name of the stream
	List                   uint64 // version of the caller's list of members; 0 is not sent
}

// reply is the answer to hello. All fields but Version and Refusal are set in any case.
type reply struct {
	Refusal                Refusal
	Version                uint16 // chosen
	MinVersion, MaxVersion uint16
	Cluster                kv.ClusterID
	Node                   kv.NodeID
	Instance               uint64
	Name                   string
	Metadata               []byte
	Text                   string // why refused
	List                   uint64 // version of the callee's list of members; 0 is not sent
}

// verdict is what the receiver of a stream says when it has ended.
type verdict struct {
	Failed bool
	Text   string
}

func (h *hello) encode() []byte {
	b := []byte{byte(h.Purpose)}
	b = binary.LittleEndian.AppendUint16(b, h.MinVersion)
	b = binary.LittleEndian.AppendUint16(b, h.MaxVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Cluster))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.From))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.To))
	b = binary.LittleEndian.AppendUint64(b, h.Instance)
	b = appendText(b, h.Name)
	b = appendText(b, string(h.Metadata))
	return appendVersion(appendText(b, h.Stream), h.List)
}

func decodeHello(body []byte) (*hello, error) {
	r := fields{rest: body}
	h := &hello{
		Purpose: purpose(r.uint8()), MinVersion: r.uint16(), MaxVersion: r.uint16(),
		Cluster: kv.ClusterID(r.uint64()), From: kv.NodeID(r.uint64()), To: kv.NodeID(r.uint64()), Instance: r.uint64(),
		Name: r.text(maxNameBytes), Metadata: []byte(r.text(maxMetadataBytes)), Stream: r.text(maxNameBytes), List: r.version(),
	}
	if r.failed {
		return nil, fmt.Errorf("%w: %d bytes are no greeting", ErrMalformed, len(body))
	}
	return h, nil
}

func (a *reply) encode() []byte {
	b := []byte{byte(a.Refusal)}
	b = binary.LittleEndian.AppendUint16(b, a.Version)
	b = binary.LittleEndian.AppendUint16(b, a.MinVersion)
	b = binary.LittleEndian.AppendUint16(b, a.MaxVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Cluster))
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Node))
	b = binary.LittleEndian.AppendUint64(b, a.Instance)
	b = appendText(b, a.Name)
	b = appendText(b, string(a.Metadata))
	return appendVersion(appendText(b, cut(a.Text)), a.List)
}

func decodeReply(body []byte) (*reply, error) {
	r := fields{rest: body}
	a := &reply{
		Refusal: Refusal(r.uint8()), Version: r.uint16(), MinVersion: r.uint16(), MaxVersion: r.uint16(),
		Cluster: kv.ClusterID(r.uint64()), Node: kv.NodeID(r.uint64()), Instance: r.uint64(),
		Name: r.text(maxNameBytes), Metadata: []byte(r.text(maxMetadataBytes)), Text: r.text(maxTextBytes), List: r.version(),
	}
	if r.failed {
		return nil, fmt.Errorf("%w: %d bytes are no answer to a greeting", ErrMalformed, len(body))
	}
	return a, nil
}

func (v *verdict) encode() []byte {
	b := []byte{0}
	if v.Failed {
		b[0] = 1
	}
	return appendText(b, cut(v.Text))
}

func decodeVerdict(body []byte) (*verdict, error) {
	r := fields{rest: body}
	v := &verdict{Failed: r.uint8() != 0, Text: r.text(maxTextBytes)}
	if r.failed {
		return nil, fmt.Errorf("%w: %d bytes are no verdict on a stream", ErrMalformed, len(body))
	}
	return v, nil
}

// cut bounds a text that goes over the wire.
func cut(text string) string { return text[:min(len(text), maxTextBytes)] }

func appendText(dst []byte, text string) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(text)))
	return append(dst, text...)
}

// appendVersion adds the version of a list of members, which versions before know nothing of. As long as nobody has changed the list nothing is added.
func appendVersion(dst []byte, version uint64) []byte {
	if version == 0 {
		return dst
	}
	return binary.LittleEndian.AppendUint64(dst, version)
}

func appendEnvelope(dst, body []byte) []byte {
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	return append(dst, body...)
}

func readEnvelope(r io.Reader) ([]byte, error) { return readBoundedEnvelope(r, maxEnvelopeBytes) }

func readBoundedEnvelope(r io.Reader, limit uint32) ([]byte, error) {
	var header [envelopeHeaderBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(header[:], []byte(tlsRecord)) {
		return nil, fmt.Errorf("%w: the other side speaks TLS, and this node plain text to other nodes; either all nodes have https:// in --initial-cluster, or none has", ErrMalformed)
	}
	if string(header[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: the other side does not speak the protocol between nodes (its first bytes are %q)", ErrMalformed, header[:len(magic)])
	}
	length := binary.LittleEndian.Uint32(header[8:])
	if length > limit {
		return nil, fmt.Errorf("%w: a greeting of %d bytes is above the limit of %d", ErrMalformed, length, limit)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(header[12:]) {
		return nil, fmt.Errorf("%w: the checksum of a greeting is wrong", ErrMalformed)
	}
	return body, nil
}

// fields takes fields off the front; after a failure all read as zero. What is left over at
// the end is of a later version and ignored.
type fields struct {
	rest   []byte
	failed bool
}

func (f *fields) take(n int) []byte {
	if f.failed || len(f.rest) < n {
		f.failed = true
		return make([]byte, min(n, 8))
	}
	head := f.rest[:n]
	f.rest = f.rest[n:]
	return head
}

func (f *fields) uint8() uint8   { return f.take(1)[0] }
func (f *fields) uint16() uint16 { return binary.LittleEndian.Uint16(f.take(2)) }
func (f *fields) uint64() uint64 { return binary.LittleEndian.Uint64(f.take(8)) }

// version is the last field, or missing.
func (f *fields) version() uint64 {
	if len(f.rest) < 8 {
		return 0
	}
	return f.uint64()
}

func (f *fields) text(limit int) string {
	n := int(f.uint16())
	if n > limit {
		f.failed = true
	}
	if f.failed {
		return ""
	}
	return string(f.take(n))
}

// judge decides about a greeting by what it says, and what the caller is to this node.
func (o *Options) judge(h *hello, caller standing) (Refusal, string) {
	here := fmt.Sprintf("node %s (%q)", o.Self, o.Name)
	calling := fmt.Sprintf("node %s (%q)", h.From, h.Name)
	switch {
	case h.Cluster != o.Cluster:
		return RefusalCluster, fmt.Sprintf("%s belongs to cluster %s and the calling %s to cluster %s; compare --initial-cluster and --initial-cluster-token of both, "+
			"and the addresses they have for each other; a data directory keeps the cluster that it was created with", here, o.Cluster, calling, h.Cluster)
	case h.To != o.Self:
		return RefusalWrongNode, fmt.Sprintf("the calling %s looks for node %s, but here lives %s; compare the addresses in --initial-cluster with --listen-peer-urls of the nodes", calling, h.To, here)
	case h.From == o.Self:
		return RefusalDuplicate, fmt.Sprintf("the caller says that it is %s, as this node is; two nodes were started with one name or with copies of one data directory, or an address in --initial-cluster leads a node to itself", here)
	case caller == standingRemoved:
		return RefusalRemoved, fmt.Sprintf("the calling %s was removed from the cluster, as %s knows; a removed node never comes back: "+
			"add it as a new one (member add), and start it with an empty data directory", calling, here)
	case caller != standingPeer:
		return RefusalUnknownNode, fmt.Sprintf("%s does not know the calling %s; when a cluster is founded, --initial-cluster must list the same nodes everywhere; later ones are added first (member add)", here, calling)
	case h.MinVersion > o.MaxFormatVersion || h.MaxVersion < o.MinFormatVersion:
		return RefusalVersion, fmt.Sprintf("%s speaks format versions %d to %d and the calling %s %d to %d; upgrade the older one first to a release that both understand",
			here, o.MinFormatVersion, o.MaxFormatVersion, calling, h.MinVersion, h.MaxVersion)
	case h.Purpose != purposeFrames && h.Purpose != purposeStream || h.Instance == 0:
		return RefusalInvalidRequest, fmt.Sprintf("%s does not understand the greeting of the calling %s (purpose %d)", here, calling, h.Purpose)
	}
	if o.JudgeMetadata != nil {
		if why := o.JudgeMetadata(h.Metadata); why != "" {
			return RefusalMetadata, fmt.Sprintf("%s refuses the calling %s: %s", here, calling, why)
		}
	}
	return RefusalNone, ""
}

// hello is this node's greeting.
func (o *Options) hello(to kv.NodeID, why purpose, stream string) *hello {
	return &hello{
		Purpose: why, MinVersion: o.MinFormatVersion, MaxVersion: o.MaxFormatVersion,
		Cluster: o.Cluster, From: o.Self, To: to, Instance: o.Instance,
		Name: o.Name, Metadata: o.Metadata, Stream: stream, List: o.version(),
	}
}

// reply is this node's answer to a greeting.
func (o *Options) reply(h *hello, refusal Refusal, text string) *reply {
	a := &reply{
		Refusal: refusal, Text: text,
		MinVersion: o.MinFormatVersion, MaxVersion: o.MaxFormatVersion,
		Cluster: o.Cluster, Node: o.Self, Instance: o.Instance, Name: o.Name, List: o.version(),
	}
	if refusal == RefusalNone {
		a.Version = min(h.MaxVersion, o.MaxFormatVersion)
		a.Metadata = o.Metadata
	}
	return a
}

// accepts checks the answer of the node that was called.
func (o *Options) accepts(to kv.NodeID, address string, a *reply) error {
	if a.Refusal == RefusalRemoved && (a.Cluster != o.Cluster || a.Node != to) {
		return fmt.Errorf("%w: node %s of cluster %s at %s says that this node was removed from cluster %s, and node %s was called", ErrMalformed, a.Node, a.Cluster, address, o.Cluster, to)
	}
	if a.Refusal != RefusalNone {
		return &RefusedError{Node: to, Address: address, Refusal: a.Refusal, Text: a.Text}
	}
	if a.Cluster != o.Cluster || a.Node != to || a.Version < o.MinFormatVersion || a.Version > o.MaxFormatVersion {
		return fmt.Errorf("%w: node %s of cluster %s answered at %s, with format version %d, where node %s of cluster %s was called",
			ErrMalformed, a.Node, a.Cluster, address, a.Version, to, o.Cluster)
	}
	if o.JudgeMetadata != nil {
		if why := o.JudgeMetadata(a.Metadata); why != "" {
			return &RefusedError{Node: to, Address: address, Refusal: RefusalMetadata, Text: fmt.Sprintf("node %s (%q) refuses the called node %s (%q): %s", o.Self, o.Name, to, a.Name, why)}
		}
	}
	return nil
}
