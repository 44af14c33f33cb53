package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Nodes tell each other which version of the list of members they have when they greet each other, also when one refuses the other: it may be a node that
// the other has not heard of yet. Whoever finds that it has an older one asks for it, on a connection of its own; and so does a node that
// knows nothing yet but an address. Both sides of such a connection say what they have. docs/protocols/peer.md has the bytes.

// MaxListBytes is how large the encoding of a list may be.
const MaxListBytes = 256 << 10

// Lists is who keeps the list of members of this node. Its methods are called from the transport's goroutines.
type Lists interface {
	// Newest returns the newest list that the node knows, encoded: what other nodes get. At most MaxListBytes.
	Newest() (version uint64, encoded []byte)
	// Told takes what another node has, if its version is above what Newest said. prove tells why the other side may not speak for a node with these
	// hosts; nil: it has proved who it is. An error goes back to the other side, if that is the one that called.
	Told(from kv.NodeID, encoded []byte, prove func(hosts []string) error) error
}

// version is that of the newest list here; 0 is not said to others.
func (o *Options) version() uint64 {
	if o.Lists == nil {
		return 0
	}
	version, _ := o.Lists.Newest()
	return version
}

// AskOptions say whom to ask for the list of members, and how.
type AskOptions struct {
	// Address is host:port, where nodes connect to the node.
	Address  string
	Security Security // nil: plain text
	// Name is the caller's, for the log of the other side. It may be empty.
	Name string
	// Timeout bounds all of it. Default 5 s.
	Timeout time.Duration
}

// Answer is what a node says to one that knows nothing of the cluster.
type Answer struct {
	Cluster kv.ClusterID
	Node    kv.NodeID
	Name    string
	// Metadata is the node's Options.Metadata.
	Metadata []byte
	// List is what its Lists.Newest said. Nil: the node is of a version before lists of members, and says nothing else but Cluster, Node and Name.
	List []byte
}

// Ask asks a node for the list of members. The caller need not belong to the cluster; with TLS it needs a certificate that the node accepts.
func Ask(ctx context.Context, options AskOptions) (*Answer, error) {
	if options.Timeout == 0 {
		options.Timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, options.Timeout)
	defer cancel()
	dialer := net.Dialer{}
	raw, err := dialer.DialContext(ctx, "tcp", options.Address)
	if err != nil {
		return nil, fmt.Errorf("transport: cannot connect to the node at %s: %w", options.Address, err)
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // wakes whoever reads or writes
	defer stop()
	t := &Transport{options: Options{Security: options.Security}}
	conn, err := t.secureTo(raw, 0, options.Address)
	if err != nil {
		return nil, err
	}
	greeting := (&hello{Purpose: purposeLists, MinVersion: 1, MaxVersion: 1, Instance: 1, Name: options.Name[:min(len(options.Name), maxNameBytes)]}).encode()
	answer, list, err := exchange(conn, options.Address, greeting, nil)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("transport: the node at %s did not answer in %v: %w", options.Address, options.Timeout, ctx.Err())
	case err != nil:
		return nil, err
	case answer.Refusal == RefusalCluster && answer.Cluster != 0: // it takes the question for a greeting
		return &Answer{Cluster: answer.Cluster, Node: answer.Node, Name: answer.Name}, nil
	case answer.Refusal != RefusalNone:
		return nil, &RefusedError{Node: answer.Node, Address: options.Address, Refusal: answer.Refusal, Text: answer.Text}
	}
	return &Answer{Cluster: answer.Cluster, Node: answer.Node, Name: answer.Name, Metadata: answer.Metadata, List: list}, nil
}

// exchange is the caller's half: a greeting with a list, and the answer with the other side's. Without an error and without a refusal list is not nil.
func exchange(conn net.Conn, address string, greeting, own []byte) (answer *reply, list []byte, err error) {
	failed := func(err error) error {
		return fmt.Errorf("transport: asking the node at %s for the list of members: %w", address, err)
	}
	if _, err := conn.Write(appendEnvelope(appendEnvelope(nil, greeting), own)); err != nil {
		return nil, nil, failed(err)
	}
	reader := bufio.NewReader(conn)
	body, err := readEnvelope(reader)
	if err != nil {
		return nil, nil, failed(err)
	}
	if answer, err = decodeReply(body); err != nil || answer.Refusal != RefusalNone {
		return answer, nil, err
	}
	if list, err = readBoundedEnvelope(reader, MaxListBytes); err != nil {
		return nil, nil, failed(err)
	}
	return answer, list, nil
}

// ExchangeLists tells a peer the list that this node has, and takes the one that the peer has. It returns when Lists knows it.
func (t *Transport) ExchangeLists(ctx context.Context, to kv.NodeID) error {
	p := t.peers.Load().byID[to]
	if p == nil {
		return fmt.Errorf("%w: cannot exchange lists of members with node %s", ErrUnknownNode, to)
	}
	var failure error
	for _, address := range p.where() {
		if failure = t.exchangeLists(ctx, to, address); failure == nil {
			return nil
		}
	}
	return failure
}

func (t *Transport) exchangeLists(ctx context.Context, to kv.NodeID, address string) error {
	if t.options.Lists == nil {
		return errors.New("transport: this node keeps no list of members")
	}
	dialer := net.Dialer{Timeout: t.options.DialTimeout, KeepAliveConfig: t.keepAlive()}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("transport: cannot connect to node %s at %s: %w", to, address, err)
	}
	if !t.track(raw) {
		return ErrClosed
	}
	defer t.release(raw)
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // wakes whoever waits
	defer stop()
	_ = raw.SetDeadline(time.Now().Add(t.options.HandshakeTimeout)) // fails only on a closed connection
	conn, err := t.secureTo(raw, to, address)
	if err != nil {
		return err
	}
	_, own := t.options.Lists.Newest()
	answer, list, err := exchange(conn, address, t.options.hello(to, purposeLists, "").encode(), own)
	if err != nil {
		return err
	}
	if err := t.options.accepts(to, address, answer); err != nil {
		return err
	}
	if answer.List <= t.options.version() {
		return nil
	}
	return t.options.Lists.Told(to, list, nil)
}

// differs tells whether there is something to exchange with a node that answered a greeting: it has a newer list, or does not know this node and has an
// older one.
func (t *Transport) differs(answer *reply) bool {
	own := t.options.version()
	return answer.List > own || answer.Refusal == RefusalUnknownNode && answer.List < own
}

// asked takes a caller that wants the list of members.
func (t *Transport) asked(conn net.Conn, greeting io.Reader, h *hello) {
	if refusal, text := t.options.judgeLists(h); refusal != RefusalNone {
		t.refuse(conn, h, refusal, text)
		return
	}
	t.acceptLists(conn, greeting, h)
}

// acceptLists is the callee's half.
func (t *Transport) acceptLists(conn net.Conn, greeting io.Reader, h *hello) {
	theirs, err := readBoundedEnvelope(greeting, MaxListBytes)
	if err != nil {
		t.refuse(conn, h, RefusalInvalidRequest, err.Error())
		return
	}
	if len(theirs) > 0 && h.List > t.options.version() {
		prove := func(hosts []string) error { return nil }
		if s, ok := conn.(*secured); ok {
			prove = func(hosts []string) error { return t.options.Security.SpeaksFor(s.ConnectionState(), hosts) }
		}
		if err := t.options.Lists.Told(h.From, theirs, prove); err != nil {
			t.refuse(conn, h, RefusalInvalidRequest, err.Error())
			return
		}
	}
	_, own := t.options.Lists.Newest()
	out := appendEnvelope(nil, t.options.reply(h, RefusalNone, "").encode())
	if _, err := conn.Write(appendEnvelope(out, own)); err == nil {
		hangUp(conn, t.options.IdentityProbe)
	}
}

// judgeLists decides about a greeting with which a node asks for the list of members. One that knows nothing yet says no cluster and no node.
func (o *Options) judgeLists(h *hello) (Refusal, string) {
	here := fmt.Sprintf("node %s (%q)", o.Self, o.Name)
	switch {
	case o.Lists == nil:
		return RefusalInvalidRequest, here + " keeps no list of members"
	case h.Cluster == 0 && h.From == 0 && h.To == 0 && h.List == 0:
		return RefusalNone, ""
	case h.Cluster != o.Cluster || h.To != o.Self || h.From == 0 || h.From == o.Self:
		return RefusalCluster, fmt.Sprintf("%s of cluster %s is asked for the list of members by node %s of cluster %s, which looks for node %s", here, o.Cluster, h.From, h.Cluster, h.To)
	}
	return RefusalNone, ""
}
