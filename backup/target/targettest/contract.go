// Package targettest has the tests that every target passes.
package targettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quoratedb/quorate/backup/target"
	"github.com/quoratedb/quorate/backup/target/memory"
)

// Contract runs all tests of the contract of targets. open gives an empty target each time; several targets that it gave are in use at once.
func Contract(t *testing.T, open func(t *testing.T) target.Target) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, at target.Target)
	}{
		{"Objects", testObjects},
		{"Reads", testReads},
		{"NewObjects", testNewObjects},
		{"OneOfManyWritersWins", testOneWriterWins},
		{"Lists", testLists},
		{"Names", testNames},
		{"LargeObject", testLargeObject},
		{"EndedContext", testEndedContext},
		{"RandomCalls", testRandomCalls},
	} {
		t.Run(test.name, func(t *testing.T) {
			at := open(t)
			test.run(t, at)
			if err := at.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect fails unless an object has these bytes.
func expect(t *testing.T, at target.Target, name string, want []byte) {
	t.Helper()
	size, err := at.Size(t.Context(), name)
	must(t, err)
	got := make([]byte, len(want)+1)
	n, err := at.ReadAt(t.Context(), name, got, 0)
	if !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want) || size != int64(len(want)) {
		t.Fatalf("%s has %d bytes, of which one reads %.80q (%v); want %.80q", name, size, got[:n], err, want)
	}
}

func expectNone(t *testing.T, at target.Target, name string) {
	t.Helper()
	if _, err := at.Size(t.Context(), name); !errors.Is(err, target.ErrNotFound) {
		t.Fatalf("size of %s, which is not there: %v", name, err)
	}
	if n, err := at.ReadAt(t.Context(), name, make([]byte, 1), 0); n != 0 || !errors.Is(err, target.ErrNotFound) {
		t.Fatalf("read of %s, which is not there: %d bytes, %v", name, n, err)
	}
}

func testObjects(t *testing.T, at target.Target) {
	ctx := t.Context()
	const name = "folder/of-a/object_1.bin"
	expectNone(t, at, name)
	must(t, at.Delete(ctx, name))
	must(t, at.Put(ctx, name, []byte("first")))
	expect(t, at, name, []byte("first"))
	must(t, at.Put(ctx, name, []byte("second, longer")))
	expect(t, at, name, []byte("second, longer"))
	must(t, at.Put(ctx, name, []byte("3rd")))
	expect(t, at, name, []byte("3rd"))
	expectNone(t, at, "folder")
	expectNone(t, at, "folder/of-a")
	expectNone(t, at, name+"/below")
	must(t, at.Delete(ctx, "folder"))
	must(t, at.Delete(ctx, name+"/below"))
	expect(t, at, name, []byte("3rd"))
	must(t, at.Put(ctx, "empty", nil))
	expect(t, at, "empty", nil)
	must(t, at.Delete(ctx, name))
	expectNone(t, at, name)
	must(t, at.Delete(ctx, name))
	must(t, at.Put(ctx, name, []byte("again")))
	expect(t, at, name, []byte("again"))
	if at.String() == "" {
		t.Error("the target has no name")
	}
}

func testReads(t *testing.T, at target.Target) {
	const name, content = "object", "0123456789"
	must(t, at.Put(t.Context(), name, []byte(content)))
	must(t, at.Put(t.Context(), "empty", nil))
	twin := strings.NewReader(content)
	for offset := range int64(len(content) + 3) {
		for length := range len(content) + 4 {
			got, want := make([]byte, length), make([]byte, length)
			n, err := at.ReadAt(t.Context(), name, got, offset)
			m, wanted := twin.ReadAt(want, offset)
			if length == 0 {
				wanted = nil // where nothing is to be read, nothing is missing
			}
			if n != m || !errors.Is(err, wanted) || (err == nil) != (wanted == nil) || !bytes.Equal(got, want) {
				t.Fatalf("read of %d bytes from %d on: %q, %d, %v; want %q, %d, %v", length, offset, got, n, err, want, m, wanted)
			}
		}
	}
	if n, err := at.ReadAt(t.Context(), "empty", make([]byte, 3), 0); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read of an empty object: %d, %v", n, err)
	}
	if _, err := at.ReadAt(t.Context(), name, make([]byte, 1), -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read from -1 on: %v", err)
	}
	if _, err := at.ReadAt(t.Context(), "missing", nil, 0); !errors.Is(err, target.ErrNotFound) {
		t.Errorf("read of no bytes of a missing object: %v", err)
	}
}

func testNewObjects(t *testing.T, at target.Target) {
	ctx := t.Context()
	must(t, at.PutNew(ctx, "folder/new", []byte("one")))
	for _, data := range []string{"two", "one"} { // the same bytes are an object, too
		if err := at.PutNew(ctx, "folder/new", []byte(data)); !errors.Is(err, target.ErrExists) || errors.Is(err, target.ErrUnavailable) {
			t.Fatalf("a second new object: %v", err)
		}
	}
	expect(t, at, "folder/new", []byte("one"))
	must(t, at.Put(ctx, "folder/put", []byte("three")))
	if err := at.PutNew(ctx, "folder/put", []byte("four")); !errors.Is(err, target.ErrExists) {
		t.Fatalf("a new object in place of one: %v", err)
	}
	expect(t, at, "folder/put", []byte("three"))
	must(t, at.Delete(ctx, "folder/new"))
	must(t, at.PutNew(ctx, "folder/new", []byte("five")))
	expect(t, at, "folder/new", []byte("five"))
}

func testOneWriterWins(t *testing.T, at target.Target) {
	for round := range 5 {
		name := fmt.Sprintf("race/%d", round)
		answers := make([]error, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() { answers[i] = at.PutNew(t.Context(), name, []byte{byte(i)}) })
		}
		all.Wait()
		winner := -1
		for i, err := range answers {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("%s: both %d and %d have written it", name, winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, target.ErrExists):
				t.Fatal(err)
			}
		}
		if winner < 0 {
			t.Fatalf("%s: nobody has written it", name)
		}
		expect(t, at, name, []byte{byte(winner)})
	}
}

// listed gives what a list gives, as text.
func listed(t *testing.T, at target.Target, prefix string) (found []string) {
	t.Helper()
	must(t, at.List(t.Context(), prefix, func(name string, size int64) error {
		found = append(found, fmt.Sprint(name, " ", size))
		return nil
	}))
	return found
}

func testLists(t *testing.T, at target.Target) {
	if found := listed(t, at, ""); len(found) != 0 {
		t.Fatalf("an empty target has %q", found)
	}
	// The order of names is not that of a walk through folders: '-' and '.' come before the slash, digits and letters after it.
	names := []string{"a-b", "a.b", "a/x", "a/x-y", "a/y/z", "a0", "aa/b", "A/Z", "b", "z/..."}
	for i, name := range names {
		must(t, at.Put(t.Context(), name, make([]byte, i)))
	}
	for _, prefix := range []string{"", "a", "a/", "a/x", "a/x/", "a/y", "a/y/", "a.", "A", "b/", "zz", "nothing/here", ".", "..", "z/..", "a/y/z"} {
		var want []string
		for i, name := range names {
			if strings.HasPrefix(name, prefix) {
				want = append(want, fmt.Sprint(name, " ", i))
			}
		}
		slices.SortFunc(want, func(a, b string) int {
			return strings.Compare(a[:strings.IndexByte(a, ' ')], b[:strings.IndexByte(b, ' ')])
		})
		if found := listed(t, at, prefix); !slices.Equal(found, want) {
			t.Errorf("list of %q:\n%q, want\n%q", prefix, found, want)
		}
	}
	enough := fmt.Errorf("that is enough: %w", target.ErrUnavailable) // an error of the caller's, whatever it looks like
	calls := 0
	if err := at.List(t.Context(), "a", func(string, int64) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("an error of the caller's: %v after %d calls", err, calls)
	}
}

func testNames(t *testing.T, at target.Target) {
	ctx := t.Context()
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/../b", "a/..", "a/./b", "a b", "a~b", "ä", "a\\b", "a\x00b", "a\nb", "C:a", "a%2Fb",
		strings.Repeat("x", 201), strings.Repeat("x/", 300) + "x",
	} {
		_, size := at.Size(ctx, name)
		_, read := at.ReadAt(ctx, name, make([]byte, 1), 0)
		for what, err := range map[string]error{"put": at.Put(ctx, name, nil), "put new": at.PutNew(ctx, name, nil), "size": size, "read": read, "delete": at.Delete(ctx, name)} {
			if !errors.Is(err, target.ErrName) {
				t.Errorf("%s of %q: %v", what, name, err)
			}
		}
	}
	for _, prefix := range []string{"/", "../", "a/../", "a//", "~", "a b", "./"} {
		if err := at.List(ctx, prefix, func(string, int64) error { return nil }); !errors.Is(err, target.ErrName) {
			t.Errorf("list of %q: %v", prefix, err)
		}
	}
	longest := strings.Repeat(strings.Repeat("x", 101)+"/", 5) + "xx"
	for _, name := range []string{"...", "a..b", ".hidden", "-", "_", "0", strings.Repeat("y", 200), longest} {
		must(t, at.PutNew(ctx, name, []byte(name)))
		expect(t, at, name, []byte(name))
	}
	if found := listed(t, at, ""); len(found) != 8 {
		t.Errorf("listed: %q", found)
	}
}

func testLargeObject(t *testing.T, at target.Target) {
	large := make([]byte, 18<<20+1) // more than libraries send as one part
	random := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(large); i += 8 {
		large[i] = byte(random.Uint32())
	}
	must(t, at.PutNew(t.Context(), "large", large))
	got := make([]byte, len(large))
	if n, err := at.ReadAt(t.Context(), "large", got, 0); n != len(large) || unlessEnd(err) != nil || !bytes.Equal(got, large) {
		t.Fatalf("%d bytes of %d, or others: %v", n, len(large), err)
	}
	if n, err := at.ReadAt(t.Context(), "large", got[:1000], 17<<20); n != 1000 || err != nil || !bytes.Equal(got[:n], large[17<<20:][:n]) {
		t.Fatalf("a part of it: %d bytes, or others: %v", n, err)
	}
	tooLarge := make([]byte, target.MaxObjectBytes+1)
	_, read := at.ReadAt(t.Context(), "large", tooLarge, 0)
	for _, err := range []error{at.Put(t.Context(), "larger", tooLarge), at.PutNew(t.Context(), "larger", tooLarge), read} {
		if !errors.Is(err, target.ErrTooLarge) {
			t.Errorf("more than the bound: %v", err)
		}
	}
}

func unlessEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func testEndedContext(t *testing.T, at target.Target) {
	must(t, at.Put(t.Context(), "there", []byte("1")))
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("nobody waits any more")
	cancel(reason)
	_, size := at.Size(ctx, "there")
	_, read := at.ReadAt(ctx, "there", make([]byte, 1), 0)
	list := at.List(ctx, "", func(string, int64) error { return nil })
	for what, err := range map[string]error{
		"put": at.Put(ctx, "new", nil), "put new": at.PutNew(ctx, "new", nil), "size": size, "read": read, "list": list, "delete": at.Delete(ctx, "there"),
	} {
		if !errors.Is(err, reason) {
			t.Errorf("%s: %v", what, err)
		}
	}
	expectNone(t, at, "new")
	expect(t, at, "there", []byte("1"))
}

// testRandomCalls compares a target with one in memory.
func testRandomCalls(t *testing.T, at target.Target) {
	random, twin, ctx := rand.New(rand.NewPCG(3, 4)), memory.New(), t.Context()
	names := []string{"a", "b/c", "b/d.e", "b-c", "f/g/h"}
	for range 150 {
		name := names[random.IntN(len(names))]
		data := []byte(fmt.Sprint(random.Uint64N(1 << random.IntN(64))))
		var got, want error
		what := random.IntN(4)
		switch what {
		case 0:
			got, want = at.Put(ctx, name, data), twin.Put(ctx, name, data)
		case 1:
			got, want = at.PutNew(ctx, name, data), twin.PutNew(ctx, name, data)
		case 2:
			got, want = at.Delete(ctx, name), twin.Delete(ctx, name)
		case 3:
			p, q, offset := make([]byte, random.IntN(20)), make([]byte, 20), random.Int64N(20)
			q = q[:len(p)]
			_, got = at.ReadAt(ctx, name, p, offset)
			_, want = twin.ReadAt(ctx, name, q, offset)
			if !bytes.Equal(p, q) {
				t.Fatalf("read of %s from %d on: %q, want %q", name, offset, p, q)
			}
		}
		for _, kind := range []error{target.ErrExists, target.ErrNotFound, io.EOF} {
			if errors.Is(got, kind) != errors.Is(want, kind) || (got == nil) != (want == nil) {
				t.Fatalf("operation %d on %s: %v, want %v", what, name, got, want)
			}
		}
	}
	if found, want := listed(t, at, ""), listed(t, twin, ""); !slices.Equal(found, want) {
		t.Errorf("in the end there are\n%q, want\n%q", found, want)
	}
}
