package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// dialled is a connection on which the handshake succeeded. Its owner releases it.
type dialled struct {
	conn    net.Conn // TLS on the dialled one, if there is TLS
	raw     net.Conn // the dialled one, as it is tracked
	reader  *bufio.Reader
	address string
	info    PeerInfo
}

// dial tries the addresses in turn. The error of the last one is returned; it wraps ECONNREFUSED
// only if every address refused the connection.
func (t *Transport) dial(ctx context.Context, to kv.NodeID, addresses []string, why purpose, stream string) (*dialled, error) {
	var failure error
	allRefused := true
	for _, address := range addresses {
		d, err := t.dialAddress(ctx, to, address, why, stream)
		if err == nil {
			return d, nil
		}
		allRefused = allRefused && errors.Is(err, syscall.ECONNREFUSED)
		// What a node said tells more than that another address does not answer.
		var refused *RefusedError
		if failure == nil || !errors.As(failure, &refused) {
			failure = err
		}
	}
	if !allRefused && errors.Is(failure, syscall.ECONNREFUSED) {
		failure = fmt.Errorf("transport: cannot connect to node %s at any of its addresses %v: %s", to, addresses, failure) // not wrapped: only some refused
	}
	return nil, failure
}

func (t *Transport) dialAddress(ctx context.Context, to kv.NodeID, address string, why purpose, stream string) (*dialled, error) {
	dialer := net.Dialer{Timeout: t.options.DialTimeout, KeepAliveConfig: t.keepAlive()}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("transport: cannot connect to node %s at %s: %w", to, address, err)
	}
	if !t.track(conn) {
		return nil, ErrClosed
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // wakes whoever waits in the handshake
	d, err := t.greet(ctx, conn, to, address, why, stream)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		t.release(conn)
		return nil, err
	}
	return d, nil
}

// greet is the caller's half of the handshake.
func (t *Transport) greet(ctx context.Context, conn net.Conn, to kv.NodeID, address string, why purpose, stream string) (*dialled, error) {
	setDeadAfter(conn, t.options.DeadAfter)
	if err := conn.SetDeadline(time.Now().Add(t.options.HandshakeTimeout)); err != nil {
		return nil, fmt.Errorf("transport: cannot greet node %s at %s: %w", to, address, err)
	}
	raw := conn
	conn, err := t.secureTo(raw, to, address)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(appendEnvelope(nil, t.options.hello(to, why, stream).encode())); err != nil {
		return nil, fmt.Errorf("transport: cannot greet node %s at %s: %w", to, address, err)
	}
	reader := bufio.NewReader(conn)
	body, err := readEnvelope(reader)
	if err != nil {
		return nil, fmt.Errorf("transport: node %s at %s did not answer the greeting: %w", to, address, err)
	}
	answer, err := decodeReply(body)
	if err != nil {
		return nil, fmt.Errorf("transport: cannot understand node %s at %s: %w", to, address, err)
	}
	if t.options.Lists != nil && t.differs(answer) {
		// What comes of it is seen at the next attempt. If nothing does, this attempt ends as it would have.
		_ = t.exchangeLists(ctx, to, address)
	}
	if err := t.options.accepts(to, address, answer); err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("transport: cannot use the connection to node %s at %s: %w", to, address, err)
	}
	return &dialled{conn: conn, raw: raw, reader: reader, address: address, info: PeerInfo{
		Name: answer.Name, Instance: answer.Instance, FormatVersion: answer.Version, Metadata: answer.Metadata,
	}}, nil
}
