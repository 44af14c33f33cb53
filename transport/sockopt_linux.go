package transport

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setDeadAfter lets the kernel break the connection when sent bytes stay unacknowledged for that long.
// Without it a connection through a healed partition waits for a retransmission that may be minutes away.
func setDeadAfter(conn net.Conn, after time.Duration) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return // the connection is closed, and its user will find out
	}
	_ = raw.Control(func(fd uintptr) {
		// A kernel that does not know the option is slower to notice, nothing worse.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
	})
}
