package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// delay is a link that is long in one direction: it forwards connections to a target, and what goes to the target arrives later. Like a
// long cable, and unlike a pause, it holds any number of pieces at a time.
type delay struct {
	listener net.Listener
	target   string
	by       atomic.Int64 // nanoseconds
	done     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]struct{}
}

// Pieces on the way: at most so many, of at most so many bytes each, in one connection.
const (
	delayPieces     = 1024
	delayPieceBytes = 64 << 10
)

type piece struct {
	due  time.Time
	data []byte
}

func newDelay(target string) (*delay, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: ports[0]})
	if err != nil {
		return nil, err
	}
	d := &delay{listener: l, target: target, open: make(map[net.Conn]struct{})}
	d.done.Go(d.accept)
	return d, nil
}

func (d *delay) address() string { return d.listener.Addr().String() }

// set changes by how much what comes in from now on is late.
func (d *delay) set(by time.Duration) { d.by.Store(int64(by)) }

func (d *delay) close() {
	d.mu.Lock()
	d.closed = true
	d.listener.Close()
	for c := range d.open {
		c.Close()
	}
	d.mu.Unlock()
	d.done.Wait()
}

func (d *delay) accept() {
	for {
		from, err := d.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", d.target)
		if err != nil || !d.keep(from, to) {
			from.Close()
			continue
		}
		pieces := make(chan piece, delayPieces)
		d.done.Go(func() { d.read(from, pieces) })
		d.done.Go(func() { write(to, pieces); d.drop(from, to) })
		d.done.Go(func() { io.Copy(from, to); d.drop(from, to) })
	}
}

// keep remembers connections for close; it is too late when that has begun.
func (d *delay) keep(from, to net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		to.Close()
		return false
	}
	d.open[from], d.open[to] = struct{}{}, struct{}{}
	return true
}

func (d *delay) drop(conns ...net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(d.open, c)
	}
}

// read takes what comes in until the connection ends.
func (d *delay) read(from net.Conn, pieces chan<- piece) {
	defer close(pieces)
	buffer := make([]byte, delayPieceBytes)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			pieces <- piece{time.Now().Add(time.Duration(d.by.Load())), append([]byte(nil), buffer[:n]...)}
		}
		if err != nil {
			return
		}
	}
}

// write hands the pieces on when they are due.
func write(to net.Conn, pieces <-chan piece) {
	failed := false
	for p := range pieces {
		if failed {
			continue // until the reader has noticed
		}
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			failed = true
			to.Close()
		}
	}
}
