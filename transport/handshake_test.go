package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Both sides learn why they do not talk, in words for the operator.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options) // of the caller, node 1
		want   Refusal
		words  []string
	}{
		"foreign cluster": {func(o *Options) { o.Cluster = 0xbad }, RefusalCluster, []string{"cluster c1", "cluster bad", "--initial-cluster-token", `"n1"`, `"n2"`}},
		"unknown node":    {func(o *Options) { o.Self = 7 }, RefusalUnknownNode, []string{"node 7", "--initial-cluster"}},
		"old version":     {func(o *Options) { o.MinFormatVersion, o.MaxFormatVersion = 3, 4 }, RefusalVersion, []string{"1 to 1", "3 to 4", "upgrade"}},
		"metadata":        {func(o *Options) { o.Metadata = []byte("other") }, RefusalMetadata, []string{`"n1"`, `"n2"`, "not other"}},
		"wrong node": {func(o *Options) {
			o.Peers = map[kv.NodeID][]string{3: o.Peers[2]}
		}, RefusalWrongNode, []string{"looks for node 3", "here lives node 2"}},
		"own name": {func(o *Options) {
			o.Self, o.Peers = 2, map[kv.NodeID][]string{2: o.Peers[2]}
		}, RefusalDuplicate, []string{"two nodes were started with one name"}},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 2)
			b := cl.open(t, 2, 12, func(o *Options) { o.JudgeMetadata = isNot("other") })
			cl.expose(t, b)
			if name == "own name" {
				options := cl.options(1, 11, newRecorder())
				c.change(&options)
				conn, answer := call(t, b, options, 2, purposeFrames)
				conn.Close()
				if answer.Refusal != c.want {
					t.Fatalf("got %d %s", answer.Refusal, answer.Text)
				}
				b.awaitEvent(t, c.words...)
				return
			}
			a := cl.open(t, 1, 11, c.change)
			told := a.awaitEvent(t, "refused by")
			b.awaitEvent(t, append(c.words, "refused ")...)
			for _, w := range c.words {
				if !strings.Contains(told, w) {
					t.Errorf("the caller is not told %q but: %s", w, told)
				}
			}
			a.recorder.mu.Lock()
			defer a.recorder.mu.Unlock()
			if a.refused[0].Refusal != c.want || len(a.refused) != 1 {
				t.Fatalf("refused with %v", a.refused)
			}
		})
	}
}

// Versions that overlap agree on the highest common one.
func TestVersionsOverlap(t *testing.T) {
	c := newCluster(t, 2)
	a := c.open(t, 1, 11, func(o *Options) { o.MinFormatVersion, o.MaxFormatVersion = 2, 5 })
	b := c.open(t, 2, 12, func(o *Options) { o.MinFormatVersion, o.MaxFormatVersion = 1, 3 })
	c.expose(t, a)
	c.expose(t, b)
	if v := a.awaitUp(t, 2, 1).FormatVersion; v != 3 {
		t.Fatalf("node 1 speaks version %d", v)
	}
	if v := b.awaitUp(t, 1, 1).FormatVersion; v != 3 {
		t.Fatalf("node 2 speaks version %d", v)
	}
}

// Two live processes with one node id: the second is refused, and the first stays connected.
func TestTwoNodesWithOneName(t *testing.T) {
	c, _, b := pair(t)
	twin := c.open(t, 1, 66)
	told := twin.awaitEvent(t, "refused by 2", "two nodes were started with one name")
	if !strings.Contains(told, "another live process") {
		t.Fatalf("told: %s", told)
	}
	b.awaitEvent(t, "refused 1 (5)")
	b.recorder.mu.Lock()
	for _, e := range b.events {
		if strings.HasPrefix(e, "disconnected") || strings.HasPrefix(e, "receive failed") {
			t.Errorf("the first one suffered: %s", e)
		}
	}
	b.recorder.mu.Unlock()
	// Its streams are refused, too.
	b.stream = func(kv.NodeID, string, io.Reader) error { return nil }
	_, err := twin.OpenStream(context.Background(), 2, "s")
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Refusal != RefusalDuplicate {
		t.Fatalf("got %v", err)
	}
}

// A restarted node replaces the connection of its earlier process, which is dead and did not say so.
func TestRestartReplacesSilentConnection(t *testing.T) {
	c := newCluster(t, 2)
	b := c.open(t, 2, 12, func(o *Options) { o.IdentityProbe = 50 * time.Millisecond })
	c.expose(t, b)
	conn, answer := call(t, b, c.options(1, 11, newRecorder()), 2, purposeFrames)
	defer conn.Close() // open all the time, like that of a machine without power
	if answer.Refusal != RefusalNone {
		t.Fatalf("refused: %s", answer.Text)
	}
	again := c.open(t, 1, 77)
	again.awaitUp(t, 2, 1)
	again.Append(2, ChannelRequest, text("new"))
	again.Flush()
	b.await(t, "a frame of the new process", func() bool { return len(b.payloads(1)) == 1 })
}

// isNot judges metadata: all are good but one.
func isNot(bad string) func([]byte) string {
	return func(metadata []byte) string {
		if string(metadata) == bad {
			return "not " + bad
		}
		return ""
	}
}

// A caller looks at the metadata of whom it called, too.
func TestCallerJudgesMetadata(t *testing.T) {
	c := newCluster(t, 2)
	b := c.open(t, 2, 12, func(o *Options) { o.Metadata = []byte("other") })
	c.expose(t, b)
	a := c.open(t, 1, 11, func(o *Options) { o.JudgeMetadata = isNot("other") })
	a.awaitEvent(t, "refused by", "not other")
}

// The same process may come again at any time, without a probe.
func TestReconnectOfSameProcess(t *testing.T) {
	c := newCluster(t, 2)
	b := c.open(t, 2, 12, func(o *Options) { o.IdentityProbe, o.HandshakeTimeout = 20*time.Second, 30*time.Second })
	options := c.options(1, 11, newRecorder())
	start := time.Now()
	for range 3 {
		conn, answer := call(t, b, options, 2, purposeFrames)
		defer conn.Close()
		if answer.Refusal != RefusalNone {
			t.Fatalf("refused: %s", answer.Text)
		}
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Fatalf("it took %v: the process was probed", took)
	}
}

// Whatever a stranger sends, the connection ends and others go on.
func TestMalformedHandshakes(t *testing.T) {
	c, a, b := pair(t, func(o *Options) { o.HandshakeTimeout, o.IdentityProbe = 600*time.Millisecond, 300*time.Millisecond })
	options := c.options(1, 11, newRecorder())
	options = options.WithDefaults()
	good := appendEnvelope(nil, options.hello(2, purposeFrames, "").encode())
	damaged := bytes.Clone(good)
	damaged[len(damaged)-1] ^= 1
	for name, data := range map[string][]byte{
		"nothing":   nil,
		"http":      []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"huge":      append([]byte(magic), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0),
		"short":     good[:20],
		"checksum":  damaged,
		"empty":     appendEnvelope(nil, nil),
		"purpose 9": appendEnvelope(nil, options.hello(2, 9, "").encode()),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", b.Addrs()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(data); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			// An explanation or nothing, and then the end.
			if _, err := io.ReadAll(conn); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatalf("the connection was not closed: %v", err)
			}
		})
	}
	b.awaitEvent(t, "refused 0", "does not speak the protocol between nodes")
	a.Append(2, ChannelRequest, text("as ever"))
	a.Flush()
	b.await(t, "a frame", func() bool { return len(b.payloads(1)) == 1 })
}

// The caller, too, must not trust who answers.
func TestMalformedAnswers(t *testing.T) {
	for name, answer := range map[string][]byte{
		"not a node":    []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"other node":    appendEnvelope(nil, (&reply{Version: 1, Cluster: testCluster, Node: 5}).encode()),
		"other version": appendEnvelope(nil, (&reply{Version: 9, Cluster: testCluster, Node: 2}).encode()),
		"garbage":       appendEnvelope(nil, []byte("garbage")),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan struct{})
			go func() {
				defer close(served)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = readEnvelope(conn)
					_, _ = conn.Write(answer)
					_ = conn.Close()
				}
			}()
			a := newCluster(t, 1).open(t, 1, 11, func(o *Options) { o.Peers = map[kv.NodeID][]string{2: {l.Addr().String()}} })
			a.awaitEvent(t, "dial failed 2", ErrMalformed.Error())
			_ = l.Close()
			<-served
			_ = a.Close()
		})
	}
}

// The second address is used when the first does not answer.
func TestSecondAddress(t *testing.T) {
	c := newCluster(t, 3)
	b := c.open(t, 2, 12)
	a := c.open(t, 1, 11, func(o *Options) {
		o.Peers[2] = []string{c.proxies[3].Addr(), b.Addrs()[0].String()}
	})
	a.awaitUp(t, 2, 1)
}

func TestOptionsAreChecked(t *testing.T) {
	good := newCluster(t, 2).options(1, 11, newRecorder())
	if err := good.WithDefaults().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"no handler":        func(o *Options) { o.Handler = nil },
		"no instance":       func(o *Options) { o.Instance = 0 },
		"no address":        func(o *Options) { o.ListenAddrs = nil },
		"itself":            func(o *Options) { o.Peers = map[kv.NodeID][]string{1: {"a:1"}} },
		"peer without":      func(o *Options) { o.Peers = map[kv.NodeID][]string{2: {}} },
		"peer without port": func(o *Options) { o.Peers = map[kv.NodeID][]string{2: {"host"}} },
		"versions":          func(o *Options) { o.MinFormatVersion, o.MaxFormatVersion = 3, 2 },
		"small buffer":      func(o *Options) { o.MaxFrameBytes, o.MaxBufferBytes = 100, 100 },
		"long name":         func(o *Options) { o.Name = strings.Repeat("n", 2000) },
		"large metadata":    func(o *Options) { o.Metadata = make([]byte, 40<<10) },
		"long probe":        func(o *Options) { o.IdentityProbe = time.Minute },
	} {
		bad := good
		change(&bad)
		if _, err := Open(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
