package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/quoratedb/quorate/cmd/quorate/fakeetcd"
	"github.com/quoratedb/quorate/proto/native"
)

// shardLists are what fakes may know of shards.
func shardLists() map[string]*native.ShardList {
	hash := &native.ShardList{Member: 0xa, Protocol: "raft", Partition: "--initial-shards=2 --initial-partition=hash", Shards: []native.Shard{
		{ID: 1, EndSlot: 8192, Leader: 0xb, Term: 3, Applied: 17, Keys: 4, Bytes: 5 << 20, Reads: 9.96, Writes: 1234.5, Closed: 9, State: "member"},
		{ID: 2, FirstSlot: 8192, EndSlot: 16384, Leader: 0xa, Term: 2, Applied: 12, Closed: 8, State: "joining"},
	}}
	byRange := &native.ShardList{Member: 0xa, Protocol: "paxos", Partition: "--initial-shards=3 --initial-partition=range --initial-split-keys=/b,/c%2C", Shards: []native.Shard{
		{ID: 1, Upper: []byte("/b"), Leader: 0xc, Term: 1, State: "member"},
		{ID: 2, Lower: []byte("/b"), Upper: []byte("/c,"), Term: 1, State: "member"},
		{ID: 3, Lower: []byte("/c,"), State: "could not be opened"},
	}}
	one := &native.ShardList{Member: 0xa, Protocol: "raft", Partition: "--initial-shards=1", Shards: []native.Shard{{ID: 1, Leader: 0xa, Term: 7, State: "member"}}}
	return map[string]*native.ShardList{"hash": hash, "range": byRange, "one": one, "none": nil}
}

// TestShards plays testdata/shards: node=KIND is what the node, which is n1 of n1 and n2, knows of shards.
func TestShards(t *testing.T) {
	datadriven.Walk(t, "testdata/shards", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			kind := ""
			d.ScanArgs(t, "node", &kind)
			fake := startFake(t, fakeetcd.Options{MemberID: 0xa, LeaderID: 0xa, Protocol: "raft", Shards: shardLists()[kind]})
			fake.SetMembers([]*pb.Member{{ID: 0xa, Name: "n1", ClientURLs: []string{"http://" + fake.Address()}}, {ID: 0xb, Name: "n2"}})
			stdout, stderr, code := invoke(t, []string{"QUORATE_ENDPOINTS=" + fake.Address()}, "", strings.Split(d.Input, "\n")...)
			return shownAs(stdout, stderr, code, fake.Address())
		})
	})
}

// shownAs is what a command has shown, without what differs from run to run.
func shownAs(stdout, stderr string, code int, address string) string {
	if stderr != "" {
		stdout += "stderr: " + stderr
	}
	if code != 0 {
		stdout += "exit " + string(rune('0'+code)) + "\n"
	}
	lines := strings.Split(strings.ReplaceAll(stdout, address, "ADDRESS"), "\n")
	for i, line := range lines { // addresses have different lengths
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n")
}

// TestShardsOfNobody: nothing listens; and the first of two endpoints is dead.
func TestShardsOfNobody(t *testing.T) {
	dead := closedPort(t)
	if _, stderr, code := invoke(t, nil, "", "shards", "--endpoints", dead); code != exitUnavailable || !strings.Contains(stderr, "shards: no node answered") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	fake := startFake(t, fakeetcd.Options{MemberID: 0xa, LeaderID: 0xa, Shards: shardLists()["one"]})
	if stdout, stderr, code := invoke(t, nil, "", "shards", "--endpoints", dead+","+fake.Address()); code != exitOK || !strings.Contains(stdout, "all") {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
}

// TestWatchShards: they are shown until Ctrl-C, which is the regular end.
func TestWatchShards(t *testing.T) {
	fake := startFake(t, fakeetcd.Options{MemberID: 0xa, LeaderID: 0xa, Shards: shardLists()["hash"]})
	ctx, cancel := context.WithCancel(t.Context())
	out, stderr := &notifyingBuffer{wrote: make(chan struct{}, 64)}, &bytes.Buffer{}
	a := &app{stdout: out, stderr: stderr, environment: []string{"QUORATE_ENDPOINTS=" + fake.Address()}}
	ended := make(chan int, 1)
	go func() { ended <- a.run(ctx, []string{"shards", "--watch"}) }()
	for range 7 { // header, two shards; an empty line and the same again
		select {
		case <-out.wrote:
		case <-time.After(20 * time.Second):
			t.Fatal("it is not shown again")
		}
	}
	cancel()
	select {
	case code := <-ended:
		if code != exitOK || strings.Count(out.String(), "SHARD") != 2 || stderr.String() != "" {
			t.Errorf("exit %d: %s%s", code, out, stderr)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestDemoShards(t *testing.T) {
	for _, c := range []struct {
		shards int
		kind   string
		want   string // the flags, or a part of the error
	}{
		{1, "hash", ""}, {16, "hash", "--initial-shards=16 --initial-partition=hash"},
		{4, "range", "--initial-shards=4 --initial-partition=range --initial-split-keys=g,n,t"},
		{27, "range", "--partition hash has more"}, {0, "hash", "--shards=0: must be between 1 and 1024"}, {1025, "hash", "between 1 and 1024"},
		{2, "list", "--partition: \"list\" is no way to partition keys: it is range or hash"},
	} {
		flags, err := demoShards(c.shards, c.kind)
		got := strings.Join(flags, " ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want && !(err != nil && strings.Contains(got, c.want)) {
			t.Errorf("%d shards by %s: %s, want %s", c.shards, c.kind, got, c.want)
		}
	}
	if flags, err := demoShards(26, "range"); err != nil || !strings.HasSuffix(strings.Join(flags, " "), "=b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z") {
		t.Errorf("%s, %v", flags, err)
	}
	_, stderr, code := invoke(t, nil, "", "demo", "--shards", "0")
	if code != exitUsage || !strings.Contains(stderr, "--shards=0") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
