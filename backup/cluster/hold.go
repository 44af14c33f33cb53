package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/proto/native"
)

// holdAgain is how long to wait before a node is asked again that does not hold its history.
const holdAgain = time.Second

// Hold implements backup.Holder: all nodes hold their history, until release is called. It returns when each has said that it does, or could not be asked. A node
// that goes away is asked again; one that has held it for as long as it may is not, and neither is one that does not know the call.
func (o *Origin) Hold(ctx context.Context, notice func(string)) (release func() backup.HoldEnd) {
	ctx, cancel := context.WithCancel(ctx)
	h := &hold{origin: o, notice: notice}
	var asked sync.WaitGroup
	for _, node := range o.nodes {
		asked.Add(1)
		h.holders.Go(func() { h.keep(ctx, node, sync.OnceFunc(asked.Done)) })
	}
	asked.Wait()
	return func() backup.HoldEnd {
		cancel()
		h.holders.Wait()
		return h.end
	}
}

// hold is what nodes hold for one backup.
type hold struct {
	origin  *Origin
	notice  func(string)
	holders sync.WaitGroup
	mu      sync.Mutex
	end     backup.HoldEnd
}

// keep has a node hold its history as long as the context lasts. asked is called when it has said that it does, or could not be asked.
func (h *hold) keep(ctx context.Context, node Node, asked func()) {
	defer asked()
	for {
		over := false
		err := h.origin.call(ctx, node, native.HoldHistory, nil, func(message []byte) error {
			part, err := native.DecodeHoldPart(message)
			if err == nil && part.Over {
				over = true
				h.ended(node, time.Duration(part.LimitSeconds)*time.Second)
			}
			asked()
			return err
		})
		switch {
		case ctx.Err() != nil || over:
			return
		case errors.Is(err, ErrNotQuorate):
			h.notice(fmt.Sprintf("%s cannot hold back the deletion of compacted history: its version does not know how", node.Name))
			return
		}
		asked()
		select {
		case <-ctx.Done():
			return
		case <-time.After(holdAgain):
		}
	}
}

// ended: the node has held its history for as long as it may.
func (h *hold) ended(node Node, limit time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end = backup.HoldEnd{Over: true, Limit: max(h.end.Limit, limit)}
	if limit == 0 {
		h.notice(fmt.Sprintf("%s does not hold back the deletion of compacted history (--backup-hold-limit=0)", node.Name))
		return
	}
	h.notice(fmt.Sprintf("%s has held back the deletion of compacted history for as long as it may, %v: what is compacted now is gone", node.Name, limit))
}
