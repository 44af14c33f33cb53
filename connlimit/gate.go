package connlimit

import (
	"container/list"
	"time"
)

// Gate counts the connections that are held, and knows those that have not said yet what they want: they are silent. A silent one may stay
// for a bounded time, and makes room for a newcomer when all places are taken: whoever means it speaks within a round trip. So a
// newcomer is refused only when every place is held by a connection that has spoken. Pure: the caller closes what it is told to.
//
// Invariant: silent holds, in the order in which they came, those of held whose element is not nil.
type Gate[T comparable] struct {
	limit    int
	patience time.Duration // with silent connections
	held     map[T]*list.Element
	silent   list.List
}

type silence[T comparable] struct {
	conn  T
	until time.Duration
}

// NewGate returns an empty gate.
func NewGate[T comparable](limit int, patience time.Duration) *Gate[T] {
	return &Gate[T]{limit: limit, patience: patience, held: make(map[T]*list.Element)}
}

// Held is the number of connections.
func (g *Gate[T]) Held() int { return len(g.held) }

// Enter asks for a place. It tells whether the connection has one, and, if another one had to make room, which.
func (g *Gate[T]) Enter(conn T, now time.Duration) (entered bool, out T, dropped bool) {
	if len(g.held) >= g.limit {
		oldest := g.silent.Front()
		if oldest == nil {
			return false, out, false
		}
		out, dropped = oldest.Value.(silence[T]).conn, true
		g.Leave(out)
	}
	g.held[conn] = g.silent.PushBack(silence[T]{conn, now + g.patience})
	return true, out, dropped
}

// Spoke tells that the connection has said what it wants.
func (g *Gate[T]) Spoke(conn T) {
	if element := g.held[conn]; element != nil {
		g.silent.Remove(element)
		g.held[conn] = nil
	}
}

// Leave gives a place back. It may be called again.
func (g *Gate[T]) Leave(conn T) {
	g.Spoke(conn)
	delete(g.held, conn)
}

// Expired takes out those that were silent for too long. next is when to ask again; 0: when somebody has entered.
func (g *Gate[T]) Expired(now time.Duration) (out []T, next time.Duration) {
	for oldest := g.silent.Front(); oldest != nil; oldest = g.silent.Front() {
		s := oldest.Value.(silence[T])
		if s.until > now {
			return out, s.until
		}
		g.Leave(s.conn)
		out = append(out, s.conn)
	}
	return out, 0
}
