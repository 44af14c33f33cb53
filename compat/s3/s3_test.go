package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/backup/target"
	"github.com/quoratedb/quorate/backup/target/targettest"
)

const bucket = "backups"

// quick are options for a network in which nothing takes long.
var quick = target.Options{Patience: 10 * time.Second, StallTimeout: 500 * time.Millisecond}

func open(t *testing.T, endpoint, prefix string, options target.Options) target.Target {
	t.Helper()
	at, err := target.Open(t.Context(), fmt.Sprintf("s3://%s/%s?endpoint=%s&region=%s", bucket, prefix, endpoint, region), options)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// prefixes gives each test a part of the bucket of its own.
func prefixes(name string) func() string {
	n := 0
	return func() string { n++; return fmt.Sprintf("%s/%d", name, n) }
}

// TestS3 runs the contract and what belongs to S3 alone on one server.
func TestS3(t *testing.T) {
	s := start(t, bucket)
	t.Run("Together", func(t *testing.T) { // they wait most of the time
		t.Run("Contract", func(t *testing.T) {
			t.Parallel()
			next := prefixes("direct")
			targettest.Contract(t, func(t *testing.T) target.Target { return open(t, "http://"+s.address, next(), target.Options{}) })
		})
		t.Run("ContractWithFaults", func(t *testing.T) {
			t.Parallel()
			p, next := newProxy(t, s.address), prefixes("faults")
			p.often(rand.New(rand.NewPCG(7, 8)), 25)
			targettest.Contract(t, func(t *testing.T) target.Target { return open(t, p.URL, next(), quick) })
			for _, f := range faults {
				if p.seen[f] == 0 {
					t.Errorf("there was no fault %q", f)
				}
			}
		})
		for _, f := range faults {
			t.Run("Each/"+string(f), func(t *testing.T) { t.Parallel(); testFault(t, s, f) })
		}
		t.Run("GivesUp", func(t *testing.T) { t.Parallel(); testGivesUp(t, s) })
		t.Run("Pages", func(t *testing.T) { t.Parallel(); testPages(t, s) })
	})
	t.Run("NoBucket", func(t *testing.T) { testNoBucket(t, s) })
	t.Run("ServerIsKilled", func(t *testing.T) { testServerIsKilled(t, s) })
}

// testFault does each thing with a fault.
func testFault(t *testing.T, s *server, f fault) {
	p := newProxy(t, s.address)
	at, ctx := open(t, p.URL, "each/"+string(f), quick), t.Context()
	content := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	must(t, at.Put(ctx, "there", content))
	for _, in := range [][]fault{{f}, {none, f}} { // a new object takes two requests
		p.next(in...)
		must(t, at.PutNew(ctx, "new", []byte(f)))
		p.next()
		if err := at.PutNew(ctx, "new", []byte(f)); !errors.Is(err, target.ErrExists) {
			t.Errorf("%q: the second new object: %v", in, err)
		}
		must(t, at.Delete(ctx, "new"))
	}
	p.next(f)
	must(t, at.Put(ctx, "put", []byte(f)))
	got := make([]byte, len(content))
	for _, offset := range []int64{0, 100_000} {
		p.next(f)
		if n, err := at.ReadAt(ctx, "there", got, offset); n != len(content)-int(offset) || err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], content[offset:]) {
			t.Errorf("%q: read from %d on: %d bytes, or others: %v", f, offset, n, err)
		}
	}
	p.next(f)
	if size, err := at.Size(ctx, "put"); size != int64(len(f)) || err != nil {
		t.Errorf("%q: %d bytes, %v", f, size, err)
	}
	p.next(f)
	var names []string
	must(t, at.List(ctx, "", func(name string, _ int64) error { names = append(names, name); return nil }))
	if !slices.Equal(names, []string{"put", "there"}) {
		t.Errorf("%q: listed %q", f, names)
	}
	p.next(f)
	must(t, at.Delete(ctx, "put"))
}

// testGivesUp: a server that never does is given up in time, with what it said last and without secrets.
func testGivesUp(t *testing.T, s *server) {
	p := newProxy(t, s.address)
	at := open(t, p.URL, "never", target.Options{Patience: 300 * time.Millisecond, StallTimeout: 100 * time.Millisecond})
	for _, f := range []fault{error503, reset, truncated, stalled} {
		p.next(slices.Repeat([]fault{f}, 1000)...)
		_, err := at.Size(t.Context(), "missing")
		if f == truncated { // a HEAD has no body that could be
			err = at.List(t.Context(), "", func(string, int64) error { return nil })
		}
		if !errors.Is(err, target.ErrUnavailable) || !strings.Contains(err.Error(), "given up after") || strings.Contains(err.Error(), secretKey) {
			t.Errorf("%q: %v", f, err)
		}
	}
}

// testPages: lists go on over pages, through faults, and leave out what others have there.
func testPages(t *testing.T, s *server) {
	p := newProxy(t, s.address)
	at, ctx := open(t, p.URL, "pages", quick), t.Context()
	outer := open(t, p.URL, "", quick)
	var want []string
	for i := range 1003 {
		want = append(want, fmt.Sprintf("%c/n%04d", 'a'+i%3, i))
	}
	slices.Sort(want)
	for _, name := range want {
		must(t, s.plant("pages/"+name))
	}
	for _, name := range []string{"pages/a/with space", "pages/a~0", "pagesandmore", "page"} {
		must(t, s.plant(name))
	}
	p.next(none, truncated, error503, lost, truncated)
	var names []string
	must(t, at.List(ctx, "", func(name string, size int64) error {
		if size != 1 {
			return fmt.Errorf("%s has %d bytes", name, size)
		}
		names = append(names, name)
		return nil
	}))
	if !slices.Equal(names, want) {
		t.Errorf("listed %d names of %d: %.300q", len(names), len(want), names)
	}
	names = nil
	must(t, outer.List(ctx, "pages", func(name string, _ int64) error { names = append(names, name); return nil }))
	if len(names) != len(want)+1 {
		t.Errorf("without a prefix there are %d names", len(names))
	}
}

func testNoBucket(t *testing.T, s *server) {
	at, err := target.Open(t.Context(), fmt.Sprintf("s3://no-such-bucket/a?endpoint=http://%s&region=%s", s.address, region), quick)
	must(t, err)
	_, read := at.ReadAt(t.Context(), "x", make([]byte, 1), 0)
	for what, err := range map[string]error{
		"put": at.Put(t.Context(), "x", nil), "put new": at.PutNew(t.Context(), "x", nil), "read": read, "list": at.List(t.Context(), "", nil),
	} {
		if err == nil || errors.Is(err, target.ErrUnavailable) || !strings.Contains(err.Error(), "there is no such bucket") {
			t.Errorf("%s: %v", what, err)
		}
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "another-secret-key")
	other := open(t, "http://"+s.address, "x", quick)
	err = other.Put(t.Context(), "x", []byte("1"))
	if err == nil || errors.Is(err, target.ErrUnavailable) || !strings.Contains(err.Error(), "the server refuses these credentials") || strings.Contains(err.Error(), "another-secret") {
		t.Errorf("with a wrong secret: %v", err)
	}
}

// testServerIsKilled: calls wait until the server is there again; what they said is written is there.
func testServerIsKilled(t *testing.T, s *server) {
	at := open(t, "http://"+s.address, "killed", target.Options{Patience: 20 * time.Second, StallTimeout: 5 * time.Second})
	must(t, at.Put(t.Context(), "before", []byte("1")))
	s.kill()
	done := make(chan error)
	go func() { done <- at.PutNew(t.Context(), "during", []byte("2")) }()
	s.run(t)
	must(t, <-done)
	var names []string
	must(t, at.List(t.Context(), "", func(name string, _ int64) error { names = append(names, name); return nil }))
	if !slices.Equal(names, []string{"before", "during"}) {
		t.Errorf("there are %q", names)
	}
}
