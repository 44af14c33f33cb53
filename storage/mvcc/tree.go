package mvcc

import "unsafe"

// nodeMax is the most entries a tree node holds. It must be odd: a full node splits
// into two equal halves around its middle entry.
const nodeMax = 31

// tree is an ordered map with weights: the sum of the weights of any interval of keys
// costs one descent per bound. A clone costs O(1); afterwards the writer copies a
// node before it changes it, if a clone may still read it. One writer; any number of
// readers of clones.
type tree[V any] struct {
	root  *node[V]
	count int
	sum   int64
	// generation is what a node must carry to be changed in place. Clones freeze
	// every node of the generations before.
	generation uint64
	// shares: new keys are not copied, since whoever gives them never changes their memory.
	shares bool
}

type entry[V any] struct {
	key    string
	weight int64
	value  V
}

// node: a leaf has no children; any other node has one child more than entries, and
// children[i] holds the keys before entries[i].
type node[V any] struct {
	generation uint64
	entries    []entry[V]
	children   []child[V]
}

type child[V any] struct {
	*node[V]
	sum int64 // of all weights below; kept beside the pointer, so that rank touches one node a level
}

// text views bytes as a string for a lookup; it must not outlive the bytes.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// clone returns a map that never changes again.
func (t *tree[V]) clone() tree[V] {
	frozen := *t
	t.generation++
	return frozen
}

func (n *node[V]) search(key string) (int, bool) {
	low, high := 0, len(n.entries)
	for low < high {
		middle := int(uint(low+high) >> 1)
		if n.entries[middle].key < key {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, low < len(n.entries) && n.entries[low].key == key
}

func (t *tree[V]) get(key string) (entry[V], bool) {
	for n := t.root; n != nil; {
		i, found := n.search(key)
		if found {
			return n.entries[i], true
		}
		if n.children == nil {
			break
		}
		n = n.children[i].node
	}
	return entry[V]{}, false
}

// floor returns the last entry whose key is at or before the given one.
func (t *tree[V]) floor(key string) (best entry[V], ok bool) {
	for n := t.root; n != nil; {
		i, found := n.search(key)
		if found {
			return n.entries[i], true
		}
		if i > 0 {
			best, ok = n.entries[i-1], true
		}
		if n.children == nil {
			break
		}
		n = n.children[i].node
	}
	return best, ok
}

// rank returns the sum of the weights of all keys before the given one.
func (t *tree[V]) rank(key string) (sum int64) {
	for n := t.root; n != nil; {
		i, found := n.search(key)
		for j := range i {
			sum += n.entries[j].weight
		}
		if n.children == nil {
			break
		}
		for j := range i {
			sum += n.children[j].sum
		}
		if found {
			return sum + n.children[i].sum
		}
		n = n.children[i].node
	}
	return sum
}

// set gives key a value and adds delta to its weight. fresh is called with the old
// value and whether there was one, and returns the new value. The key is copied only
// when it is new, if at all; what is stored is returned.
func (t *tree[V]) set(key []byte, delta int64, change func(old V, exists bool) V) string {
	if t.root == nil {
		t.root = &node[V]{generation: t.generation}
	}
	n := t.own(t.root)
	t.root = n
	if len(n.entries) == nodeMax {
		n = &node[V]{generation: t.generation, children: []child[V]{{n, t.sum}}}
		t.root = n
		t.split(n, 0)
	}
	t.sum += delta
	for {
		i, found := n.search(text(key))
		if !found && n.children != nil {
			if next := t.ownChild(n, i); len(next.entries) == nodeMax {
				t.split(n, i)
				continue // the middle entry moved up: search again
			}
			n.children[i].sum += delta
			n = n.children[i].node
			continue
		}
		if found {
			e := &n.entries[i]
			e.value, e.weight = change(e.value, true), e.weight+delta
			return e.key
		}
		var none V
		e := entry[V]{key: text(key), weight: delta, value: change(none, false)}
		if !t.shares {
			e.key = string(key)
		}
		n.entries = append(n.entries, entry[V]{})
		copy(n.entries[i+1:], n.entries[i:])
		n.entries[i] = e
		t.count++
		return e.key
	}
}

// own returns n, or a copy of it if a clone may read it.
func (t *tree[V]) own(n *node[V]) *node[V] {
	if n.generation == t.generation {
		return n
	}
	c := &node[V]{generation: t.generation, entries: make([]entry[V], len(n.entries), nodeMax)}
	copy(c.entries, n.entries)
	if n.children != nil {
		c.children = make([]child[V], len(n.children), nodeMax+1)
		copy(c.children, n.children)
	}
	return c
}

func (t *tree[V]) ownChild(n *node[V], i int) *node[V] {
	c := t.own(n.children[i].node)
	n.children[i].node = c
	return c
}

// split divides the full child i of n, which both belong to the writer, in two.
func (t *tree[V]) split(n *node[V], i int) {
	left, whole := n.children[i].node, n.children[i].sum
	middle := nodeMax / 2
	up := left.entries[middle]
	right := &node[V]{generation: t.generation, entries: make([]entry[V], nodeMax-middle-1, nodeMax)}
	copy(right.entries, left.entries[middle+1:])
	clear(left.entries[middle:])
	left.entries = left.entries[:middle]
	if left.children != nil {
		right.children = make([]child[V], nodeMax-middle, nodeMax+1)
		copy(right.children, left.children[middle+1:])
		clear(left.children[middle+1:])
		left.children = left.children[:middle+1]
	}
	sum := right.weigh()
	n.entries = append(n.entries, entry[V]{})
	copy(n.entries[i+1:], n.entries[i:])
	n.entries[i] = up
	n.children = append(n.children, child[V]{})
	copy(n.children[i+2:], n.children[i+1:])
	n.children[i].sum = whole - sum - up.weight
	n.children[i+1] = child[V]{right, sum}
}

func (n *node[V]) weigh() (sum int64) {
	for i := range n.entries {
		sum += n.entries[i].weight
	}
	for i := range n.children {
		sum += n.children[i].sum
	}
	return sum
}

// cursor walks a tree that does not change meanwhile.
type cursor[V any] struct{ path []step[V] }

type step[V any] struct {
	n *node[V]
	i int // the entry to give next
}

// seek returns a cursor at the first key at or after the given one.
func (t *tree[V]) seek(key string) cursor[V] {
	c := cursor[V]{}
	for n := t.root; n != nil; {
		i, found := n.search(key)
		c.path = append(c.path, step[V]{n, i})
		if found || n.children == nil {
			break
		}
		n = n.children[i].node
	}
	c.settle()
	return c
}

// settle pops nodes that are used up, so that the top names the next entry.
func (c *cursor[V]) settle() {
	for len(c.path) > 0 {
		if top := &c.path[len(c.path)-1]; top.i < len(top.n.entries) {
			return
		}
		c.path = c.path[:len(c.path)-1]
	}
}

func (c *cursor[V]) valid() bool { return len(c.path) > 0 }

func (c *cursor[V]) entry() *entry[V] {
	top := &c.path[len(c.path)-1]
	return &top.n.entries[top.i]
}

func (c *cursor[V]) next() {
	top := &c.path[len(c.path)-1]
	top.i++
	if top.n.children != nil {
		for n := top.n.children[top.i].node; ; n = n.children[0].node {
			c.path = append(c.path, step[V]{n, 0})
			if n.children == nil {
				break
			}
		}
	}
	c.settle()
}
