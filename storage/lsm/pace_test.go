package lsm

import (
	"testing"
	"time"
)

func TestCompactionsRest(t *testing.T) {
	began := time.Now()
	for _, c := range []struct {
		name    string
		hurried bool
		worked  time.Duration
		idle    time.Duration
		want    time.Duration
	}{
		{"not worth it", false, minWork - 1, 0, 0},
		{"in proportion", false, 2 * time.Millisecond, 0, restPerWork * 2 * time.Millisecond},
		{"it waited itself", false, time.Second, idleAfter, maxRest},
		{"too far behind", true, time.Second, 0, 0},
		{"nobody is in the way", false, time.Second, idleAfter + 1, 0},
	} {
		p := pacer{since: began, hurried: c.hurried}
		now := began.Add(c.worked)
		if got := p.rest(now, now.Add(-c.idle)); got != c.want {
			t.Errorf("%s: rests %v after %v of work, want %v", c.name, got, c.worked, c.want)
		}
	}
}
