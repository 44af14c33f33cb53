package calendar

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
)

// TestCoverage asks a store with points at 10 s and 20 s, that has gone on since or not.
func TestCoverage(t *testing.T) {
	s := timeline.SeriesOf([]timeline.Point{{Revision: 5, Time: 10_000}, {Revision: 9, Time: 20_000}})
	for _, c := range []struct {
		at, now timeline.Time
		newest  kv.Revision
		want    kv.Revision // 0: not covered
		says    string
	}{
		{9_999, 30_000, 9, 0, "from 1970-01-01T00:00:10Z (revision 5) to 1970-01-01T00:00:30Z (revision 9)"},
		{10_000, 30_000, 9, 5, ""},
		{19_999, 30_000, 9, 5, ""},
		{20_000, 30_000, 9, 9, ""},
		{30_000, 30_000, 9, 9, ""}, // nothing was written since
		{30_001, 30_000, 9, 0, "(revision 9) are"},
		{22_000, 30_000, 12, 9, ""}, // the next point may not be there yet
		{22_001, 30_000, 12, 0, "to 1970-01-01T00:00:20Z (revision 9)"},
		{20_000, 15_000, 9, 9, ""}, // the clock of who answers is behind
		{20_001, 15_000, 9, 0, "to 1970-01-01T00:00:20Z (revision 9)"},
	} {
		got, err := Revision(s.Known(c.at, c.newest, c.now), c.at)
		if got != c.want || (err != nil) != (c.want == 0) || err != nil && (!errors.Is(err, ErrNotCovered) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("at %d of %d, revision %d: %d, %v", c.at, c.now, c.newest, got, err)
		}
	}
	if _, err := Revision((timeline.Series{}).Known(1, 5, 9), 1); !errors.Is(err, ErrNotCovered) || !strings.Contains(err.Error(), "no times are known yet") {
		t.Error(err)
	}
	if at := Millis(time.Date(2026, 11, 30, 12, 0, 0, 5_999_999, time.UTC)); Of(at) != time.Date(2026, 11, 30, 12, 0, 0, 5_000_000, time.UTC) {
		t.Error(Of(at))
	}
}
