package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	r := newReport(config{Rounds: 3, Duration: time.Second})
	for _, rate := range []float64{100, 120, 80} {
		r.add("put-leader", "etcd", result{Ops: 1, Rate: rate, ServerCPU: 40, ClientCPU: 10})
		r.add("put-leader", "quorate", result{Ops: 1, Rate: 2 * rate, ServerCPU: 20, ClientCPU: 10})
	}
	r.Failover["quorate"] = []failoverResult{{GapMillis: 300}, {GapMillis: 500}, {GapMillis: 400}}
	var out bytes.Buffer
	r.print(&out)
	for _, want := range []string{"2.00", "median gap 400 ms (300-500)", "put, 256 clients, leader"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if svg := string(r.svg()); !strings.Contains(svg, ">2.00<") {
		t.Errorf("no bar of 2.00 in %s", svg)
	}
}

func TestGuardsReport(t *testing.T) {
	r := newReport(config{Rounds: 1, Duration: time.Second})
	r.Guards = map[string]map[string][]result{"put-leader": {guardNone: {{Rate: 100}}, guardAuth: {{Rate: 95, Errors: 3}}}}
	var out bytes.Buffer
	r.printGuards(&out)
	for _, want := range []string{"users log in", "0.95", "  3\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestFlexibleReport(t *testing.T) {
	r := newReport(config{Rounds: 3, Duration: time.Second})
	r.Flexible = []flexibleResult{
		{System: "raft", Waits: "3 of 5", Stage: "two slow", DelayMillis: 40, Rounds: []result{{Rate: 20, P50: 43, P99: 47}}},
		{System: "paxos, quorums 4 and 2", Waits: "2 of 5", Stage: "two slow", DelayMillis: 40, Rounds: []result{{P50: 3, P99: 7.5}, {P50: 99, P99: 99}, {P50: 1, P99: 1}}},
	}
	var out bytes.Buffer
	r.printFlexible(&out)
	for _, want := range []string{"43.00", "3.00", "7.50", "40 ms later"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if err := r.checkFlexible(); err != nil {
		t.Error(err)
	}
	r.Flexible[1].Rounds = r.Flexible[0].Rounds
	if err := r.checkFlexible(); err == nil {
		t.Error("a put that waited for a slow member was not noticed")
	}
}

// TestDelay: nothing is lost or reordered, later pieces do not wait for the time of earlier ones, and only one direction is late.
func TestDelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	d, err := newDelay(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	const by = 50 * time.Millisecond
	d.set(by)
	c, err := net.Dial("tcp", d.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	const pieces = 200
	for i := range pieces {
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	back := make([]byte, pieces)
	if _, err := io.ReadFull(c, back); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	for i := range back {
		if back[i] != byte(i) {
			t.Fatalf("piece %d is %d", i, back[i])
		}
	}
	if took < by || took > pieces*by/4 {
		t.Errorf("%d pieces, each %v late, took %v", pieces, by, took)
	}
}

// TestPlan: every system runs its own protocol, and the slow members are known by the addresses of their delays.
func TestPlan(t *testing.T) {
	for system, want := range map[string]string{systemRaft: "--consensus=raft", systemOther: "other serve --consensus=raft", systemPaxos: "--consensus=paxos", systemEtcd: ""} {
		c := &cluster{system: system, slow: 1, bin: binaries{other: "other"}, dir: t.TempDir()}
		if err := c.plan(3); err != nil {
			t.Fatal(err)
		}
		defer c.stop()
		for i, m := range c.members {
			line := strings.Join(m.args, " ")
			if want != "" && !strings.Contains(line, want) || want == "" && strings.Contains(line, "consensus") {
				t.Errorf("%s is started with %s", system, line)
			}
			if !strings.Contains(line, "m2=http://"+c.delays[0].address()) {
				t.Errorf("%s: member %d does not know the address of the slow one: %s", system, i, line)
			}
		}
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"--rounds", "0"}, {"--loads", "nonsense"}, {"extra"}, {"--no-such"}, {"--systems", "zab"}, {"--systems", "quorate,quorate-other"}, {"--systems", "quorate,quorate-raft"}, {"--flexible", "--delay", "1s"}} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
