package sim

import (
	"context"
	"errors"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// dawdle lets time pass now and then in work beside the rounds: while a read goes from one row to the next, others write.
func (n *node) dawdle(longest time.Duration) {
	if n.current == nil || n.inRound() || !n.up || n.chance.IntN(4) != 0 {
		return
	}
	n.w.mark("time passed within a read")
	n.sleep(time.Duration(n.chance.Int64N(int64(longest))))
}

// pause is how long a part of the installation of a snapshot takes: meanwhile the engine holds the state before, or the one after.
func (n *node) pause() {
	if n.up && !n.inRound() {
		n.sleep(time.Duration(n.chance.Int64N(int64(60 * time.Millisecond))))
	}
}

// slowSnapshot is a state of the engine at which work beside the rounds reads slowly. Whoever reads it in place holds nobody up.
type slowSnapshot struct {
	storage.Snapshot
	node *node
}

func (s *slowSnapshot) NewIterator(lower, upper []byte) storage.Iterator {
	s.node.dawdle(3 * time.Millisecond)
	return s.Snapshot.NewIterator(lower, upper)
}

// list answers a range as the API layer does for large ones: portion by portion, from one state, while its client takes its time.
func (p *part) list(req *kv.Request, portionBytes int64) (*kv.Response, error) {
	l, err := p.gateway.OpenRange(errNoWait, req)
	if err != nil {
		return nil, unanswered(err)
	}
	defer l.Close()
	body := &kv.RangeResponse{}
	for {
		kvs, err := l.Next(portionBytes, nil)
		if err != nil {
			return nil, err
		}
		if kvs == nil {
			break
		}
		body.KVs = append(body.KVs, kvs...)
		p.node.dawdle(20 * time.Millisecond)
	}
	body.More = l.More()
	body.Count, err = l.Count(nil)
	return &kv.Response{Kind: kv.KindRange, Revision: l.Revision(), Range: body}, err
}

// stream is the same by RangeStream.
func (p *part) stream(req *kv.Request) (*kv.Response, error) {
	body := &kv.RangeResponse{}
	answer := &kv.Response{Kind: kv.KindRange, Range: body}
	err := p.gateway.RangeStream(errNoWait, req, func(r *kv.Response, last bool) error {
		body.KVs = append(body.KVs, r.Range.KVs...)
		answer.Revision, body.More, body.Count = r.Revision, r.Range.More, r.Range.Count
		p.node.dawdle(20 * time.Millisecond)
		return nil
	})
	if err != nil {
		return nil, unanswered(err)
	}
	return answer, nil
}

// unanswered is the error of a read that would have had to wait.
func unanswered(err error) error {
	if errors.Is(err, context.Canceled) {
		return kv.ErrCanceled
	}
	return err
}

// answerSlowly lets the node answer a range beside its rounds, and calls done unless the process has ended by then.
func (p *part) answerSlowly(req *kv.Request, portionBytes int64, done func(*kv.Response, error)) {
	p.node.spawn(func() {
		if portionBytes > 0 {
			done(p.list(req, portionBytes))
		} else {
			done(p.stream(req))
		}
	})
}
