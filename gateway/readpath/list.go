package readpath

// list holds reads in the order in which they came. A read is in one at most, and is taken out whatever the length.
type list struct {
	first, last *Read
	length      int
}

func (l *list) push(r *Read) {
	r.in, r.prev, r.next = l, l.last, nil
	if l.last != nil {
		l.last.next = r
	} else {
		l.first = r
	}
	l.last = r
	l.length++
}

func (l *list) remove(r *Read) {
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		l.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		l.last = r.prev
	}
	r.in, r.prev, r.next = nil, nil, nil
	l.length--
}

// take empties the list.
func (l *list) take() []*Read {
	all := make([]*Read, 0, l.length)
	for l.first != nil {
		all = append(all, l.first)
		l.remove(l.first)
	}
	return all
}
