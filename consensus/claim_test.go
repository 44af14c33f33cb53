package consensus

import (
	"errors"
	"math"
	"testing"
)

// Every number of a message is judged, wherever it is, and nothing within a step of what is known is refused.
func TestJudge(t *testing.T) {
	known := Known{Term: 7, Last: 9}
	const term, index = Term(7 + MaxStep), Index(9 + MaxStep)
	claims := map[string]func(beyond uint64) Message{
		"term":           func(d uint64) Message { return Message{Term: term + Term(d)} },
		"log term":       func(d uint64) Message { return Message{LogTerm: term + Term(d)} },
		"index":          func(d uint64) Message { return Message{Index: index + Index(d)} },
		"commit":         func(d uint64) Message { return Message{Commit: index + Index(d)} },
		"hint":           func(d uint64) Message { return Message{Hint: index + Index(d)} },
		"snapshot":       func(d uint64) Message { return Message{Snapshot: &SnapshotMeta{Index: index + Index(d)}} },
		"snapshot's":     func(d uint64) Message { return Message{Snapshot: &SnapshotMeta{Term: term + Term(d)}} },
		"entry":          func(d uint64) Message { return Message{Entries: []Entry{{}, {Index: index + Index(d)}}} },
		"entry's term":   func(d uint64) Message { return Message{Entries: []Entry{{Term: term + Term(d)}, {}}} },
		"as high as can": func(d uint64) Message { return Message{Term: Term(d * (math.MaxUint64 / 2))} },
	}
	for what, claim := range claims {
		m := claim(0)
		if err := known.Judge(&m); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		m = claim(1)
		if err := known.Judge(&m); !errors.Is(err, ErrAbsurd) {
			t.Errorf("%s beyond: %v", what, err)
		}
	}
	if err := known.Judge(&Message{}); err != nil {
		t.Error(err)
	}
}
