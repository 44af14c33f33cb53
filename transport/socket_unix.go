//go:build unix

package transport

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket writes to a TCP connection without blocking. One caller at a time.
type socket struct {
	raw   syscall.RawConn
	write func(fd uintptr) bool // made once: a closure for each write would be garbage

	// Argument and results of write.
	buffer []byte
	n      int
	err    error
}

// newSocket returns nil if the connection is not plain TCP; then only blocking writes work.
func newSocket(conn net.Conn) *socket {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.write = func(fd uintptr) bool {
		for {
			s.n, s.err = unix.Write(int(fd), s.buffer)
			if s.err != unix.EINTR {
				return true // in any case: true means not to wait for the socket
			}
		}
	}
	return s
}

// tryWrite writes as much as the socket takes at once.
func (s *socket) tryWrite(buffer []byte) (int, error) {
	s.buffer = buffer
	err := s.raw.Write(s.write)
	s.buffer = nil
	switch {
	case err != nil:
		return 0, err
	case s.err == unix.EAGAIN:
		return 0, nil
	case s.err != nil:
		return 0, s.err
	}
	return s.n, nil
}
