package partition

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseKeys(t *testing.T) {
	for text, want := range map[string][][]byte{
		"/b,/c":         keys("/b", "/c"),
		"b":             keys("b"),
		" b, c":         keys(" b", " c"),
		"a%2Cb,%25,%00": keys("a,b", "%", "\x00"),
		"%ff%FE":        keys("\xff\xfe"),
		"ä":             keys("ä"),
		"b,":            keys("b", ""), // which Validate refuses
	} {
		got, err := ParseKeys(text)
		if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "%", "a%2", "%zz", "a,%+1", "%-1", "% 1", "%0"} {
		if got, err := ParseKeys(text); err == nil {
			t.Errorf("%q was read as %q", text, got)
		} else if text != "" && !strings.Contains(err.Error(), "%2C") {
			t.Errorf("%q: %v does not say what to write", text, err)
		}
	}
}

func TestParseKind(t *testing.T) {
	for _, kind := range []Kind{Range, Hash} {
		if got, err := ParseKind(kind.String()); err != nil || got != kind {
			t.Errorf("%v: %v, %v", kind, got, err)
		}
	}
	if _, err := ParseKind("list"); err == nil || !strings.Contains(err.Error(), "range or hash") {
		t.Error(err)
	}
}

func TestFlags(t *testing.T) {
	for want, scheme := range map[string]Scheme{
		"--initial-shards=1": Single(),
		"--initial-shards=3 --initial-partition=range --initial-split-keys=b%2C,c%00%20": {Kind: Range, Shards: 3, SplitKeys: keys("b,", "c\x00 ")},
		"--initial-shards=16 --initial-partition=hash":                                   {Kind: Hash, Shards: 16},
		"--initial-shards=16 --initial-partition=hash --hash-prefix=2":                   {Kind: Hash, Shards: 16, HashPrefix: 2},
	} {
		if got := scheme.Flags(); got != want {
			t.Errorf("%v: %s, want %s", scheme, got, want)
		}
		if read, err := ParseFlags(want); err != nil || !reflect.DeepEqual(read, scheme) {
			t.Errorf("%s is read as %v: %v", want, read, err)
		}
	}
	for _, wrong := range []string{"", "--initial-shards=0", "--initial-shards=x", "--initial-shards=2 --initial-partition=tree", "--initial-shards=2 --leaders=spread",
		"--initial-shards=3 --initial-partition=range --initial-split-keys=b", "--initial-shards=2 --initial-partition=hash --hash-prefix=-1"} {
		if read, err := ParseFlags(wrong); err == nil {
			t.Errorf("%q is read as %v", wrong, read)
		}
	}
	// All schemes with one shard have the same keys in it.
	if hashed := (Scheme{Kind: Hash, Shards: 1, HashPrefix: 3}); hashed.Flags() != Single().Flags() {
		t.Error(hashed.Flags())
	}
}

// FuzzKeys: what is written is read as the same, and what is read can be written.
func FuzzKeys(f *testing.F) {
	f.Add("/b,/c")
	f.Add("%00,%2C,ä\xff")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := ParseKeys(text)
		if err != nil {
			return
		}
		written := FormatKeys(parsed)
		again, err := ParseKeys(written)
		if len(parsed) == 1 && len(parsed[0]) == 0 {
			return // no key at all
		}
		if err != nil || !slices.EqualFunc(parsed, again, bytes.Equal) || FormatKeys(again) != written {
			t.Fatalf("%q: %q was written as %q and read as %q, %v", text, parsed, written, again, err)
		}
		for _, c := range []byte(written) {
			if c <= ' ' || c > '~' {
				t.Fatalf("%q has byte %x", written, c)
			}
		}
	})
}
