package driver

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// TestScrubPace lets passes over data of different sizes go by.
func TestScrubPace(t *testing.T) {
	const day, mebibyte, gibibyte = 24 * time.Hour, int64(1) << 20, int64(1) << 30
	for _, c := range []struct {
		name              string
		size              int64
		slow              bool
		shortest, longest time.Duration
	}{
		{"little", 10 * mebibyte, false, 8 * time.Second, 12 * time.Second},
		{"little on a slow disk", 10 * mebibyte, true, 150 * time.Second, 180 * time.Second},
		{"much", 100 * gibibyte, false, 11 * time.Hour, 13 * time.Hour},
		{"more than fits", 4096 * gibibyte, false, 36 * time.Hour, 38 * time.Hour},
	} {
		p := newScrubPace(day, mebibyte, 0, 12345)
		now, passes, read, began := time.Duration(0), 0, int64(0), time.Duration(0)
		const tick = 250 * time.Millisecond
		for ; passes < 2 && now < 8*day; now += tick {
			starts := !p.passing
			allowed := int64(p.allow(now, c.slow))
			if allowed > mostScrubBytes {
				t.Fatalf("%s: %d bytes at a time", c.name, allowed)
			}
			if allowed == 0 {
				continue
			}
			if starts {
				began, read, p.size = now, 0, c.size
			}
			if read += allowed; read < c.size {
				continue
			}
			if took := now - began; took < c.shortest || took > c.longest {
				t.Errorf("%s: a pass took %v", c.name, took)
			}
			p.ended(now)
			passes++
			if p.begins < began+day-tick || p.begins < now+day/16 {
				t.Errorf("%s: the pass that began at %v and ended at %v is followed by one at %v", c.name, began, now, p.begins)
			}
		}
		if passes != 2 {
			t.Errorf("%s: %d passes", c.name, passes)
		}
	}
}

func TestScrubPaceIsBounded(t *testing.T) {
	off := newScrubPace(0, 1<<20, 0, 7)
	if n := off.allow(100*time.Hour, false); n != 0 {
		t.Errorf("%d bytes without an interval", n)
	}
	p := newScrubPace(time.Hour, 1<<20, 0, 7)
	at := p.begins
	if p.allow(at-1, false) != 0 || p.allow(at, false) == 0 {
		t.Error("the first pass does not begin when it should")
	}
	if n := p.allow(at+time.Minute, false); n > 1<<20 {
		t.Errorf("after a minute in which nothing was read %d bytes are made up for", n)
	}
	p.read(1 << 20) // one large record
	if n := p.allow(at+time.Minute+500*time.Millisecond, false); n != 0 {
		t.Errorf("%d bytes although twice as much as allowed was read", n)
	}
	if n := p.allow(at+time.Minute+1500*time.Millisecond, false); n == 0 {
		t.Error("nothing after the excess was waited for")
	}
}

// scrubStub finds an error after some bytes.
type scrubStub struct {
	left   int
	err    error
	closed *int
}

func (s *scrubStub) SizeBytes() int64 { return int64(s.left) }
func (s *scrubStub) Close() error     { *s.closed++; return nil }
func (s *scrubStub) Next(maxBytes int) (int64, bool, error) {
	n := min(maxBytes, s.left)
	if s.left -= n; s.left == 0 {
		return int64(n), s.err == nil, s.err
	}
	return int64(n), false, nil
}

type scrubbedEngine struct {
	storage.Engine
	scrub func() storage.Scrub
}

func (e scrubbedEngine) NewScrub() storage.Scrub { return e.scrub() }

// scrubOf runs a node with an engine in which a scrub finds the error.
func scrubOf(t *testing.T, found error) (d *Driver, failed, told []error, passes []ScrubPass, closed *int) {
	c := servingCluster(t, 1, false, 0, nil)
	n := c.nodes[0]
	d, closed = n.driver, new(int)
	d.opts.Engine = scrubbedEngine{d.opts.Engine, func() storage.Scrub { return &scrubStub{300 << 10, found, closed} }}
	d.opts.Listener = Listener{
		Failed: func(err error) { failed = append(failed, err) }, ScrubFailed: func(err error) { told = append(told, err) },
		Scrubbed: func(p ScrubPass) { passes = append(passes, p) },
	}
	d.scrubber.pace = newScrubPace(time.Minute, 1<<20, n.clock(), 1)
	c.run(3*time.Minute-time.Second, func() bool { return d.Err() != nil })
	d.Close()
	return d, failed, told, passes, closed
}

func TestScrubPasses(t *testing.T) {
	d, failed, told, passes, closed := scrubOf(t, nil)
	if len(failed)+len(told) > 0 || len(passes) < 2 || len(passes) > 4 || passes[0].Bytes < 300<<10 || passes[0].Took <= 0 || *closed != len(passes) {
		t.Errorf("failed %v, told %v, passes %v, closed %d", failed, told, passes, *closed)
	}
	if m := d.Metrics(); m.ScrubPasses != uint64(len(passes)) || m.ScrubBytes < m.ScrubPasses*300<<10 || m.ScrubFailures != 0 {
		t.Errorf("%+v", m)
	}
}

// TestScrubDamage: damage ends the node as a read of it does; what the disk only refused to read is told, and tried again.
func TestScrubDamage(t *testing.T) {
	d, failed, told, passes, closed := scrubOf(t, fmt.Errorf("%w: somewhere", storage.ErrCorrupt))
	if len(failed) != 1 || !errors.Is(failed[0], storage.ErrCorrupt) || !strings.Contains(failed[0].Error(), "a scrub found damaged data") ||
		len(told)+len(passes) > 0 || *closed != 1 || d.Metrics().ScrubFailures != 1 {
		t.Errorf("failed %v, told %v, passes %v, closed %d", failed, told, passes, *closed)
	}
	_, failed, told, passes, closed = scrubOf(t, errors.New("input/output error"))
	if len(failed)+len(passes) > 0 || len(told) < 2 || *closed != len(told) {
		t.Errorf("failed %v, told %v, passes %v, closed %d", failed, told, passes, *closed)
	}
}

// TestUnread: a client that reads learns what lets it go to another node, whatever the disk said. Damage ends the node, and nothing else does.
func TestUnread(t *testing.T) {
	for _, c := range []struct {
		err  error
		want error
		ends bool
	}{
		{nil, nil, false},
		{kv.ErrCompacted, kv.ErrCompacted, false},
		{shard.ErrReadCompacted, shard.ErrReadCompacted, false},
		{errors.New("input/output error"), kv.ErrUnhealthy, false},
		{fmt.Errorf("%w: no power", storage.ErrUnusable), kv.ErrUnhealthy, false},
		{fmt.Errorf("%w: a row", storage.ErrCorrupt), kv.ErrUnhealthy, true},
	} {
		l := newLone(t, 2, nil)
		if got := l.Replica(1).Unread(c.err); !errors.Is(got, c.want) || !errors.Is(got, c.err) {
			t.Errorf("%v reads as %v", c.err, got)
		}
		l.rounds()
		if failed := l.Err(); (failed != nil) != c.ends || c.ends && !errors.Is(failed, storage.ErrCorrupt) {
			t.Errorf("after %v the node says %v", c.err, failed)
		}
	}
}
