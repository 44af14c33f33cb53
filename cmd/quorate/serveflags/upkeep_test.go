package serveflags

import (
	"testing"
	"time"

	"github.com/quoratedb/quorate/autocompact"
)

// TestCompactionFlags: what etcd takes means what it means there, but for what would never compact anything, or all the time.
func TestCompactionFlags(t *testing.T) {
	period := func(d time.Duration) autocompact.Policy {
		return autocompact.Policy{Mode: autocompact.Periodic, Period: d}
	}
	revisions := func(n int64) autocompact.Policy { return autocompact.Policy{Mode: autocompact.Revision, Revisions: n} }
	for _, c := range []struct {
		mode, retention string
		want            autocompact.Policy
		refused         string
	}{
		{"periodic", "0", period(0), ""},
		{"periodic", "1", period(time.Hour), ""},
		{"periodic", "90m", period(90 * time.Minute), ""},
		{"periodic", "-1", period(0), "--auto-compaction-retention=-1: in mode periodic it is a number of hours, or a duration such as 30m"},
		{"periodic", "a", period(0), "--auto-compaction-retention=a: in mode periodic it is a number of hours, or a duration such as 30m"},
		{"periodic", "9000000000", period(0), "--auto-compaction-retention=9000000000: in mode periodic it is a number of hours, or a duration such as 30m"},
		{"periodic", "-1h", period(0), "--auto-compaction-retention must be at least 10ms, or 0 to compact nothing"},
		{"periodic", "1ms", period(0), "--auto-compaction-retention must be at least 10ms, or 0 to compact nothing"},
		{"revision", "0", revisions(0), ""},
		{"revision", "1000", revisions(1000), ""},
		{"revision", "-1", revisions(0), "--auto-compaction-retention=-1: in mode revision it is a number of revisions from 0 on"},
		{"revision", "1h", revisions(0), "--auto-compaction-retention=1h: in mode revision it is a number of revisions from 0 on"},
		{"", "1", revisions(0), "--auto-compaction-mode is undefined: give periodic or revision"},
		{"weekly", "1", revisions(0), `unknown --auto-compaction-mode "weekly": give periodic or revision`},
	} {
		got, err := parseCompaction(c.mode, c.retention)
		switch {
		case c.refused != "" && (err == nil || err.Error() != c.refused):
			t.Errorf("%s, %s: got %v, want %s", c.mode, c.retention, err, c.refused)
		case c.refused == "" && (err != nil || got != c.want):
			t.Errorf("%s, %s: got %+v, %v", c.mode, c.retention, got, err)
		}
	}
}
