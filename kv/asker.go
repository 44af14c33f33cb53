package kv

import "time"

// Asker is who waits for the answer to a write, as far as whoever evaluates it should know. Its methods are quick
// and may be called from any goroutine.
type Asker interface {
	// Waits tells whether somebody still does. It is asked just before the evaluation.
	Waits() bool
	// Alone is asked before the request is handed on: the caller has nothing else to do until it is answered. Otherwise it may bring more at once.
	Alone() bool
	// Left is for how long somebody still waits, at most.
	Left() time.Duration
	// Elsewhere: on another node, which gives the answer to its client when its own state contains what the answer tells.
	Elsewhere() bool
}
