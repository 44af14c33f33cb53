package native

import (
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/timeline"
)

func TestTimes(t *testing.T) {
	r := TimesRequest{At: 5000, All: true}
	if got, err := DecodeTimesRequest(r.Append(nil)); err != nil || got != r {
		t.Errorf("%+v, %v", got, err)
	}
	point := timeline.Point{Revision: 7, Time: 1 << 40}
	p := TimesPart{Known: timeline.Known{At: point, First: timeline.Point{Revision: 2, Time: 9}, Last: point, Newest: 9, Now: 1 << 41}, Compacted: 3,
		Points: []timeline.Point{{Revision: 2, Time: 9}, point}}
	if got, err := DecodeTimesPart(p.Append(nil)); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := DecodeTimesPart(new(TimesPart).Append(nil)); err != nil || !reflect.DeepEqual(got, TimesPart{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzTimesPart(f *testing.F) {
	point := timeline.Point{Revision: 7, Time: 1 << 40}
	f.Add((&TimesPart{Known: timeline.Known{At: point, Newest: 9}, Points: []timeline.Point{point}}).Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := DecodeTimesPart(in)
		if err != nil {
			return
		}
		if again, err := DecodeTimesPart(p.Append(nil)); err != nil || !reflect.DeepEqual(again.Known, p.Known) || len(again.Points) != len(p.Points) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
	})
}

func FuzzTimesRequest(f *testing.F) {
	f.Add((&TimesRequest{At: 5, All: true}).Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := DecodeTimesRequest(in); err == nil {
			if again, err := DecodeTimesRequest(r.Append(nil)); err != nil || again != r {
				t.Fatalf("%+v became %+v, %v", r, again, err)
			}
		}
	})
}
