package backup

import (
	"bytes"
	"context"
	"errors"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// Difference is what a key is in two states of a store. The Key is valid until the function returns that is given it. Of a key that is not in one of them,
// that Side is zero.
type Difference struct {
	Key  []byte
	A, B Side
}

// Side is a key in a state.
type Side struct {
	Revision kv.Revision // that changed it last; 0: it is not there
	Version  int64
	Bytes    int64 // of the value
}

// Differences are how many keys there are in two states, and the bytes of the keys and their values. Of keys that have changed, the bytes are those in B.
type Differences struct {
	A, B, Added, Removed, Changed, Same Amount
}

// Amount is a number of keys, and what they and their values take.
type Amount struct {
	Keys  int64 `json:"keys"`
	Bytes int64 `json:"bytes"`
}

func (a *Amount) add(key []byte, i *latestInfo) {
	a.Keys++
	a.Bytes += int64(len(key)) + i.valueBytes
}

// Diff compares the newest states that two sources have, and gives each key that differs to fn, in the order of keys; nil: nobody wants them. A key differs
// if it was written in between, even with what it had. The scratch engine is empty, and takes about as much as the keys of both. Its rows are left there.
func Diff(ctx context.Context, a, b *Source, scratch storage.Engine, fn func(*Difference) error) (d Differences, err error) {
	var cursors [2]*latestCursor
	for i, source := range []*Source{a, b} {
		states := newLatest(scratch, byte(i))
		defer states.close()
		err := source.Versions(ctx, func(v *Version, _ int64) error { return states.put(v.Key, infoOf(v)) })
		if err != nil {
			return d, err
		}
		if cursors[i], err = states.cursor(); cursors[i] != nil {
			defer cursors[i].close()
		}
		if err != nil {
			return d, err
		}
	}
	return d, d.merge(ctx, cursors[0], cursors[1], fn)
}

// merge goes through both in the order of keys.
func (d *Differences) merge(ctx context.Context, a, b *latestCursor, fn func(*Difference) error) error {
	for steps := 0; a.key != nil || b.key != nil; steps++ {
		if steps%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		order := bytes.Compare(a.key, b.key)
		switch {
		case a.key == nil:
			order = 1
		case b.key == nil:
			order = -1
		}
		one := Difference{Key: a.key}
		if order <= 0 {
			one.A = a.side()
			d.A.add(a.key, a.info)
		}
		if order >= 0 {
			one.Key, one.B = b.key, b.side()
			d.B.add(b.key, b.info)
		}
		differs := true
		switch {
		case order < 0:
			d.Removed.add(a.key, a.info)
		case order > 0:
			d.Added.add(b.key, b.info)
		case *a.info == *b.info:
			differs = false
			d.Same.add(b.key, b.info)
		default:
			d.Changed.add(b.key, b.info)
		}
		if differs && fn != nil {
			if err := fn(&one); err != nil {
				return err
			}
		}
		var err error
		if order <= 0 {
			err = a.next()
		}
		if order >= 0 {
			err = errors.Join(err, b.next())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *latestCursor) side() Side {
	return Side{Revision: c.info.mod, Version: c.info.number, Bytes: c.info.valueBytes}
}
