package rpc

import (
	"sync"

	"github.com/quoratedb/quorate/budget"
)

// callMemory is what a call has reserved for its evaluation and its answer. It is given back when the last of the answer was sent.
type callMemory struct {
	account *budget.Account

	mu     sync.Mutex
	bytes  int64
	closed bool
}

// take notes what was reserved, or gives it back if the call is over: nobody needs what is evaluated now.
func (m *callMemory) take(n int64, reserved bool) bool {
	if !reserved {
		return false
	}
	m.mu.Lock()
	closed := m.closed
	if !closed {
		m.bytes += n
	}
	m.mu.Unlock()
	if closed {
		m.account.Release(n)
	}
	return !closed
}

func (m *callMemory) give(n int64) {
	m.mu.Lock()
	n = min(n, m.bytes) // what is left after close is nothing
	m.bytes -= n
	m.mu.Unlock()
	m.account.Release(n)
}

func (m *callMemory) close() {
	m.mu.Lock()
	n := m.bytes
	m.bytes, m.closed = 0, true
	m.mu.Unlock()
	m.account.Release(n)
}

// Reserve takes memory for what the call holds besides its request. It is given back when the answer has been sent. False: there is none, or the call is over.
func (call *Call) Reserve(n int64) bool { return call.memory.take(n, call.memory.account.Reserve(n)) }

// ReserveAmply is Reserve for what is only wanted to be faster.
func (call *Call) ReserveAmply(n int64) bool {
	return call.memory.take(n, call.memory.account.ReserveAmply(n))
}

// ReservedBytes is what the call has reserved besides its request.
func (call *Call) ReservedBytes() int64 {
	call.memory.mu.Lock()
	defer call.memory.mu.Unlock()
	return call.memory.bytes
}

// Release gives back a part of what was reserved.
func (call *Call) Release(n int64) { call.memory.give(n) }

// ReleaseAll gives back everything that was reserved: the answer that is sent is another copy.
func (call *Call) ReleaseAll() {
	call.memory.mu.Lock()
	n := call.memory.bytes
	call.memory.bytes = 0
	call.memory.mu.Unlock()
	call.memory.account.Release(n)
}
