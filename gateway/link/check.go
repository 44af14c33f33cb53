package link

import "fmt"

// Check returns an error if the link contradicts itself.
func (l *Link) Check() error {
	if err := l.forward.check(); err != nil {
		return err
	}
	return l.barriers.check()
}

func (f *forwarder) check() error {
	waiting, sizeBytes := 0, 0
	for _, i := range f.queue {
		if i.state == queued {
			waiting++
			sizeBytes += i.SizeBytes
		}
	}
	for id, i := range f.sent {
		if i.state != sent || i.id != id || id > f.lastID || i.sentTo == 0 {
			return fmt.Errorf("link: call %d of %d, in state %d, was sent to node %v as call %d", id, f.lastID, i.state, i.sentTo, i.id)
		}
		sizeBytes += i.SizeBytes
	}
	if waiting != f.queued() || sizeBytes != f.sizeBytes {
		return fmt.Errorf("link: %d calls wait and all have %d bytes, %d and %d are counted", waiting, sizeBytes, f.queued(), f.sizeBytes)
	}
	return nil
}

func (b *barriers) check() error {
	for at, i := range b.waiting {
		if i.state != barrier || int(i.at) != at || i.asked {
			return fmt.Errorf("link: read %d of those that wait for the next barrier, in state %d, believes to be at %d", at, i.state, i.at)
		}
	}
	for at, i := range b.asked {
		if i.state != barrier || int(i.at) != at || !i.asked {
			return fmt.Errorf("link: read %d of those that wait for barrier %d, in state %d, believes to be at %d", at, b.id, i.state, i.at)
		}
	}
	if len(b.asked) > 0 && !b.flying {
		return fmt.Errorf("link: %d reads wait for barrier %d, which nobody was asked for", len(b.asked), b.id)
	}
	return nil
}
