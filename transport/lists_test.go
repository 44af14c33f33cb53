package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// keeper keeps a list, whose encoding begins with its version.
type keeper struct {
	mu    sync.Mutex
	list  []byte
	told  int
	from  kv.NodeID
	hosts []string // that the other side has to speak for
	seen  func(version uint64)
}

func listOf(version uint64, text string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, version), text...)
}

func newKeeper(version uint64) *keeper {
	return &keeper{list: listOf(version, "nodes"), seen: func(uint64) {}}
}

func (k *keeper) Newest() (uint64, []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return binary.LittleEndian.Uint64(k.list), k.list
}

func (k *keeper) Told(from kv.NodeID, encoded []byte, prove func([]string) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if prove != nil {
		if err := prove(k.hosts); err != nil {
			return err
		}
	}
	k.list, k.from = encoded, from
	k.told++
	k.seen(binary.LittleEndian.Uint64(encoded))
	return nil
}

func (k *keeper) keep(o *Options) {
	o.Lists = k
	k.seen = func(version uint64) { o.Handler.(*recorder).note(func() {}) } // wakes who waits
}

func (k *keeper) version() uint64 {
	version, _ := k.Newest()
	return version
}

// A node that has an older list gets the newer one, whoever of the two connects first; and it costs nothing once both have it.
func TestOlderListIsReplaced(t *testing.T) {
	old, recent := newKeeper(3), newKeeper(5)
	c := newCluster(t, 2)
	a, b := c.open(t, 1, 11, old.keep), c.open(t, 2, 12, recent.keep)
	c.expose(t, a)
	c.expose(t, b)
	a.await(t, "the newer list", func() bool { return old.version() == 5 })
	a.awaitUp(t, 2, 1)
	b.awaitUp(t, 1, 1)
	if old.told != 1 || old.from != 2 || recent.told != 0 {
		t.Fatalf("node 1 was told %d times, last by node %s, and node 2 %d times", old.told, old.from, recent.told)
	}
	// While both are connected whoever knows that there is a newer one asks for it.
	recent.mu.Lock()
	recent.list = listOf(6, "others")
	recent.mu.Unlock()
	if err := a.ExchangeLists(context.Background(), 2); err != nil || old.version() != 6 {
		t.Fatalf("version %d: %v", old.version(), err)
	}
	// And whoever has the newer one tells it.
	recent.mu.Lock()
	recent.list = listOf(7, "others")
	recent.mu.Unlock()
	if err := b.ExchangeLists(context.Background(), 1); err != nil || old.version() != 7 {
		t.Fatalf("version %d: %v", old.version(), err)
	}
	if err := b.ExchangeLists(context.Background(), 9); !errors.Is(err, ErrUnknownNode) {
		t.Fatal(err)
	}
}

// A node that was away while all the others were replaced is called by nodes that it has never heard of. They tell it.
func TestStrangerTellsTheList(t *testing.T) {
	old, recent := newKeeper(3), newKeeper(5)
	c := newCluster(t, 2)
	a := c.open(t, 1, 11, old.keep, alone)
	b := c.open(t, 2, 12, recent.keep)
	c.expose(t, a)
	c.expose(t, b)
	a.await(t, "the newer list", func() bool { return old.version() == 5 })
	c.set(t, a, nil, 2) // as that list says
	a.awaitUp(t, 2, 1)
	b.awaitUp(t, 1, 1)
	if old.from != 2 || recent.told != 0 {
		t.Fatalf("told by node %s; node 2 was told %d times", old.from, recent.told)
	}
}

// With TLS a stranger has to be what the list says of it.
func TestStrangerProvesWhoItIs(t *testing.T) {
	authority := newAuthority(t)
	old, recent := newKeeper(3), newKeeper(5)
	old.hosts = []string{"elsewhere.invalid"}
	c := newCluster(t, 2)
	a := c.open(t, 1, 11, secureBy(t, authority, "127.0.0.1"), old.keep, alone)
	b := c.open(t, 2, 12, secureBy(t, authority, "127.0.0.1"), recent.keep, func(o *Options) { o.Peers = map[kv.NodeID][]string{1: {a.Addrs()[0].String()}} })
	err := b.ExchangeLists(context.Background(), 1)
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Text, "elsewhere.invalid") || old.version() != 3 {
		t.Fatalf("version %d: %v", old.version(), err)
	}
	old.mu.Lock()
	old.hosts = []string{"127.0.0.1"}
	old.mu.Unlock()
	a.await(t, "the newer list", func() bool { return old.version() == 5 })
}

func TestAsk(t *testing.T) {
	k := newKeeper(5)
	c := newCluster(t, 2)
	a := c.open(t, 1, 11, k.keep)
	address := a.Addrs()[0].String()
	answer, err := Ask(context.Background(), AskOptions{Address: address, Name: "new"})
	if err != nil || answer.Cluster != testCluster || answer.Node != 1 || string(answer.Metadata) != "metadata of 1" || !slices.Equal(answer.List, listOf(5, "nodes")) {
		t.Fatalf("%+v %v", answer, err)
	}
	authority := newAuthority(t)
	secure := secureBy(t, authority, "127.0.0.1")
	var o Options
	secure(&o)
	s := newCluster(t, 1).open(t, 1, 11, secure, k.keep)
	if answer, err := Ask(context.Background(), AskOptions{Address: s.Addrs()[0].String(), Security: o.Security}); err != nil || answer.Node != 1 || answer.List == nil {
		t.Fatalf("with TLS: %+v %v", answer, err)
	}
	if answer, err := Ask(context.Background(), AskOptions{Address: s.Addrs()[0].String()}); err == nil {
		t.Fatalf("without TLS where there is: %+v", answer)
	}
	// One without a list, as all are of versions before, says at least who it is.
	b := c.open(t, 2, 12)
	var refused *RefusedError
	if _, err := Ask(context.Background(), AskOptions{Address: b.Addrs()[0].String()}); !errors.As(err, &refused) || refused.Node != 2 {
		t.Fatal(err)
	}
	if _, err := Ask(context.Background(), AskOptions{Address: "127.0.0.1:1"}); err == nil {
		t.Fatal("nobody answered")
	}
	// Somebody who listens and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := Ask(context.Background(), AskOptions{Address: silent.Addr().String(), Timeout: 20 * time.Millisecond}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// A version before takes the question for a greeting of another cluster. Its answer says at least who it is.
func TestAskAnOlderVersion(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if h, err := readHello(conn); err == nil {
			o := Options{Cluster: testCluster, Self: 1, Name: "n1", MinFormatVersion: 1, MaxFormatVersion: 1}
			refusal, text := o.judge(h, standingUnknown)
			_, _ = conn.Write(appendEnvelope(nil, o.reply(h, refusal, text).encode()))
			hangUp(conn, time.Second)
		}
	}()
	answer, err := Ask(context.Background(), AskOptions{Address: l.Addr().String()})
	if err != nil || answer.Cluster != testCluster || answer.Node != 1 || answer.Name != "n1" || answer.List != nil {
		t.Fatalf("%+v %v", answer, err)
	}
}

// What a caller may send for a list is bounded, and a question that is for another node is refused.
func TestQuestionsForTheList(t *testing.T) {
	k := newKeeper(5)
	a := newCluster(t, 1).open(t, 1, 11, k.keep)
	ask := func(h *hello, list []byte) *reply {
		t.Helper()
		conn, err := net.Dial("tcp", a.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		h.Purpose, h.Instance = purposeLists, 9
		answer, _, err := exchange(conn, "x:1", h.encode(), list)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	if a := ask(&hello{Cluster: testCluster, From: 7, To: 2, List: 9}, listOf(9, "")); a.Refusal != RefusalCluster {
		t.Errorf("for another node: %+v", a)
	}
	if a := ask(&hello{List: 9}, listOf(9, "")); a.Refusal != RefusalCluster {
		t.Errorf("from nobody, with a list: %+v", a)
	}
	if a := ask(&hello{Cluster: testCluster, From: 7, To: 1, List: 4}, listOf(4, "")); a.Refusal != RefusalNone || k.version() != 5 {
		t.Errorf("with an older list: %+v", a)
	}
	if a := ask(&hello{Cluster: testCluster, From: 7, To: 1, List: 9}, make([]byte, MaxListBytes+1)); a.Refusal != RefusalInvalidRequest || k.version() != 5 {
		t.Errorf("with a list that is too long: %+v", a)
	}
}
