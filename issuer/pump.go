package issuer

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

// pump moves the work out of both cores until there is none. The asker of this node talks with the sequencer here without the transport.
func (i *Issuer) pump() {
	sent := false
	for again := true; again; {
		left, hadWork := i.pumpSequencer()
		asked, asks := i.pumpAsker()
		sent = sent || left || asked
		again = hadWork || asks
	}
	i.unflushed = i.unflushed || sent
}

// pumpSequencer does what the sequencer wants done. again: this node's asker has got a frame.
func (i *Issuer) pumpSequencer() (sent, again bool) {
	s := &i.issuing
	if s.core == nil {
		return false, false
	}
	if sent, again = i.release(); len(s.frames) > 0 {
		return false, false
	}
	compacted, alarms := i.node.SystemNotice()
	r := s.core.Ready(sequencer.Notice{Compact: compacted, Alarms: alarms})
	i.publish()
	if r.Limit != 0 { // rules 3 and 8
		i.node.ProposeLimit(s.term, r.Limit)
	}
	if r.Transfer { // rule 6
		i.node.MayHandOver(s.term)
	}
	s.frames = append(s.frames, r.Frames...)
	s.made++
	left, hadWork := i.release()
	return sent || left, again || hadWork
}

// tellCompacted comes before the core issues anything to others.
func (i *Issuer) tellCompacted() {
	compacted, _ := i.node.SystemNotice()
	i.issuing.core.Compacted(compacted)
}

// publish lets Now see what was issued, before anybody else hears of it.
func (i *Issuer) publish() {
	now := i.issuing.core.Now()
	i.metrics.issued.Add(int64(now - i.issuing.counted))
	i.issuing.counted = now
	i.here.now.Store(int64(now))
	i.Hear(now)
}

// release lets the frames leave that were made, if nobody else can have led when they were (rule 4): the lease is looked at after that.
func (i *Issuer) release() (sent, again bool) {
	s := &i.issuing
	if len(s.frames) == 0 {
		return false, false
	}
	if !i.node.SystemLeaseHolds() {
		i.confirm()
		return false, false
	}
	return i.leave()
}

// leave sends the frames.
func (i *Issuer) leave() (sent, again bool) {
	frames := i.issuing.frames
	i.issuing.frames = nil
	for _, f := range frames {
		if f.To == i.options.Self {
			i.get(f.To, f.Reply)
			again = true
			continue
		}
		// If it is not sent, the asker there finds out, as with any frame that is lost (rule 9).
		sent = i.options.Sender.Append(f.To, Channel, func(b []byte) []byte { return sequencer.AppendReply(b, f.Reply) }) || sent
	}
	return sent, again
}

// confirm has a quorum asked whether this node still leads, for the frames that wait.
func (i *Issuer) confirm() {
	s := &i.issuing
	if s.confirming {
		return
	}
	s.confirming = true
	term, made := s.term, s.made
	i.node.ConfirmSystem(func(err error) {
		i.mu.Lock()
		if s.core != nil && s.term == term {
			s.confirming = false
			if err == nil && s.made == made {
				sent, _ := i.leave()
				i.unflushed = i.unflushed || sent
			}
			if err == nil {
				i.pump()
			} // otherwise the next tick tries again, or StepDown comes
		}
		i.unlock()
	})
}

// step gives the sequencer a frame; without one here, it is remembered who wants one.
func (i *Issuer) step(from kv.NodeID, q *sequencer.Request) {
	s := &i.issuing
	if s.core == nil {
		s.early[from] = q.Session
		return
	}
	i.tellCompacted()
	if err := s.core.Step(from, q); err != nil {
		i.refuse(from, err)
	}
	i.publish()
}

// get gives the asker a frame.
func (i *Issuer) get(from kv.NodeID, r *sequencer.Reply) {
	if err := i.asker.Step(from, r); err != nil {
		i.refuse(from, err)
	}
}

// pumpAsker does what the asker wants done. again: the sequencer here has got a frame, or the asker may want something more.
func (i *Issuer) pumpAsker() (sent, again bool) {
	if i.unreached {
		return false, false
	}
	r := i.asker.Ready()
	i.arrived(&r)
	frame := r.Frame // not all of r is captured below: it would be allocated each time
	if frame != nil && frame.Counter == 1 {
		i.metrics.sessions.Add(1)
	}
	switch {
	case frame == nil:
		return false, r.Told
	case r.To == i.options.Self:
		i.step(r.To, frame)
		return false, r.Told || i.issuing.core != nil
	case i.options.Sender.Append(r.To, Channel, func(b []byte) []byte { return sequencer.AppendRequest(b, frame) }):
		return true, r.Told
	}
	i.asker.Broken(r.To)
	i.unreached = true
	return false, false
}
