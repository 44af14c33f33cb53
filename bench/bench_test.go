package main

import (
	"bytes"
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

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"--rounds", "0"}, {"--loads", "nonsense"}, {"extra"}, {"--no-such"}, {"--systems", "zab"}, {"--systems", "quorate,quorate-raft"}} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
