package packed

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

func TestFields(t *testing.T) {
	b := AppendBool(AppendBool([]byte{7}, true), false)
	b = binary.AppendUvarint(b, math.MaxUint64)
	b = binary.LittleEndian.AppendUint64(b, 1<<63+1)
	b = AppendString(AppendString(b, "text"), []byte(nil))
	b = AppendStrings(b, []string{"a", "", "bc"})
	read := func(in []byte) (ok bool) {
		r := NewReader(in)
		ok = r.Byte() == 7 && r.Bool() && !r.Bool() && r.Uvarint() == math.MaxUint64 && r.Fixed64() == 1<<63+1
		ok = ok && r.String() == "text" && r.Bytes() == nil && slices.Equal(r.Strings(), []string{"a", "", "bc"})
		return ok && r.Done()
	}
	if !read(b) {
		t.Error("what was appended reads otherwise")
	}
	for n := range b {
		if read(b[:n]) {
			t.Errorf("the first %d bytes of %d are whole", n, len(b))
		}
	}
	if read(append(b, 0)) {
		t.Error("a byte too many is not seen")
	}
}

func TestAfterAFailure(t *testing.T) {
	for name, fail := range map[string]func(r *Reader){
		"no bool":            func(r *Reader) { r.Bool() },
		"above the limit":    func(r *Reader) { r.UpTo(1) },
		"more than there is": func(r *Reader) { r.Bytes() },
		"not eight bytes":    func(r *Reader) { r.Fixed64() },
		"told so":            (*Reader).Fail,
	} {
		r := NewReader([]byte{9, 1, 1})
		fail(&r)
		if !r.Failed() || r.More() || r.Done() {
			t.Errorf("%s: it has not failed, or something is left", name)
		}
		if r.Byte() != 0 || r.Bool() || r.Uvarint() != 0 || r.Fixed64() != 0 || r.Count() != 0 || r.Bytes() != nil || r.String() != "" || r.Strings() != nil {
			t.Errorf("%s: something reads as other than zero", name)
		}
	}
}

// FuzzReader takes fields, as the first bytes say, off the others. It must not panic, and no field may be longer than what is there.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5}, []byte{1, 1, 3, 2, 'a', 'b', 2, 1, 'c', 0})
	f.Fuzz(func(t *testing.T, kinds, in []byte) {
		r := NewReader(bytes.Clone(in))
		for _, kind := range kinds {
			before := len(r.rest)
			switch kind % 6 {
			case 0:
				r.Byte()
			case 1:
				r.Bool()
			case 2:
				r.Uvarint()
			case 3:
				r.Fixed64()
			case 4:
				if b := r.Bytes(); len(b) > before {
					t.Fatalf("%d bytes out of %d", len(b), before)
				}
			case 5:
				if all := r.Strings(); len(all) > before {
					t.Fatalf("%d strings out of %d bytes", len(all), before)
				}
			}
			if r.failed && len(r.rest) > 0 || len(r.rest) > before {
				t.Fatalf("%d bytes are left of %d", len(r.rest), before)
			}
		}
		if !bytes.HasSuffix(in, r.rest) {
			t.Fatal("what is left is not the end of what there was")
		}
	})
}
