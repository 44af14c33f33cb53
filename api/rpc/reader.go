package rpc

import (
	"net"

	"github.com/quoratedb/quorate/budget"
)

const (
	leastBuffer = 4 << 10  // what an idle connection has
	mostBuffer  = 32 << 10 // what one gets that sends much at a time
)

// reader is a buffer in front of a socket. It grows when what comes with one read does not fit, if there is memory.
type reader struct {
	socket  net.Conn
	account *budget.Account
	pause   func() // called before the socket is waited for
	buffer  []byte
	from    int // buffer[from:to] is not read yet
	to      int
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.from == r.to {
		if r.to == len(r.buffer) && len(r.buffer) < mostBuffer && r.account.Reserve(int64(mostBuffer-len(r.buffer))) {
			r.buffer = make([]byte, mostBuffer)
		}
		r.from, r.to = 0, 0
		r.pause()
		n, err := r.socket.Read(r.buffer)
		if n == 0 {
			return 0, err
		}
		r.to = n
	}
	n := copy(p, r.buffer[r.from:r.to])
	r.from += n
	return n, nil
}

// buffered is how much has come and is not read.
func (r *reader) buffered() int { return r.to - r.from }
