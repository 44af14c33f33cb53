package readpath

import "fmt"

// Check returns an error if the path contradicts itself.
func (p *Path) Check() error {
	if p.asked.length > 0 && !p.flying {
		return fmt.Errorf("readpath: %d reads wait for the answer to question %d, which nobody was asked", p.asked.length, p.question)
	}
	for what, l := range map[string]*list{"wait": &p.waiting, "share a question": &p.asked} {
		if err := l.check(); err != nil {
			return fmt.Errorf("readpath: of the reads that %s: %w", what, err)
		}
	}
	for shard, a := range p.arrivals {
		if err := a.reads.check(); err != nil {
			return fmt.Errorf("readpath: of the reads that wait for shard %d: %w", shard, err)
		}
		for r := a.reads.first; r != nil; r = r.next {
			if r.arriving != a || r.next != nil && r.next.until < r.until {
				return fmt.Errorf("readpath: a read waits for revision %d of shard %d, the next one for another place or an earlier one", r.until, shard)
			}
		}
		switch {
		case a.place != 0 && p.order[a.place-1] != a, a.place == 0 && a.reads.length > 0:
			return fmt.Errorf("readpath: shard %d, for which %d reads wait, believes to be at %d", shard, a.reads.length, a.place)
		case a.reads.length > 0 && a.armed > a.reads.first.until:
			return fmt.Errorf("readpath: shard %d is waited for until %d, and a read needs %d", shard, a.armed, a.reads.first.until)
		}
	}
	return nil
}

func (l *list) check() error {
	n := 0
	for r := l.first; r != nil; r = r.next {
		if n++; r.in != l || r.next == nil && r != l.last || r.next != nil && r.next.prev != r {
			return fmt.Errorf("read %d is not linked", n)
		}
	}
	if n != l.length {
		return fmt.Errorf("there are %d, and %d are counted", n, l.length)
	}
	return nil
}
