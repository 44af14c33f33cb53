package groups

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
)

var (
	duration = flag.Duration("groups.duration", 3*time.Second, "how long processes are killed, with each protocol")
	seed     = flag.Uint64("groups.seed", 0, "seed of the clients and the kills; 0: random")
)

const (
	manyGroups      = 16
	clientsPerGroup = 3
)

// TestGroupsUnderKills: three processes with 16 groups each, on real disks, are killed at random while clients work on every group. Then the
// history of each group is judged alone; all replicas of a group hold the same, and nothing of another group.
func TestGroupsUnderKills(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds; left out with -short")
	}
	for _, protocol := range []string{"raft", "paxos"} {
		t.Run(protocol, func(t *testing.T) { testGroupsUnderKills(t, protocol == "paxos") })
	}
}

func testGroupsUnderKills(t *testing.T, paxos bool) {
	t.Parallel()
	chosen := *seed
	if chosen == 0 {
		chosen = rand.Uint64()
	}
	t.Logf("reproduce the schedule with -groups.seed=%d -groups.duration=%v", chosen, *duration)
	c := newCluster(t, manyGroups, func(config *nodeConfig) { config.Paxos, config.RetainEntries = paxos, 40 })
	c.startAll()
	r := newRecorder(c)
	stopClients := r.startClients(chosen)
	kills := r.disturb(t, rand.New(rand.NewPCG(chosen, 0)))
	stopClients()
	if t.Failed() {
		return
	}
	for _, p := range c.processes { // what was acknowledged is on the disks, or nowhere
		p.kill()
	}
	c.startAll()
	all := 0
	for _, group := range c.processes[0].config.Groups {
		h := c.settled(group)
		h.Operations = r.operations[group]
		judge(t, c, group, h)
		all += len(h.Operations)
	}
	installed := 0
	for _, p := range c.processes {
		installed += p.logged("installed a snapshot")
	}
	t.Logf("%d kills, %d operations on %d groups, %d snapshots were installed", kills, all, manyGroups, installed)
}

// startAll starts all processes that do not run, at the same time: none of them serves alone.
func (c *cluster) startAll() {
	var starting sync.WaitGroup
	for _, p := range c.processes {
		starting.Go(p.start)
	}
	starting.Wait()
}

// startClients lets clients of all groups work until stop is called, which returns when they have ended.
func (r *recorder) startClients(seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	for _, group := range r.cluster.processes[0].config.Groups {
		var leases atomic.Int64
		for i := range clientsPerGroup {
			random := rand.New(rand.NewPCG(seed, uint64(group)<<8|uint64(i)+1))
			one := &client{recorder: r, group: group, number: i, random: random, leases: &leases, seen: make(map[string]kv.KeyValue), node: random.IntN(size)}
			working.Go(func() { one.run(ctx) })
		}
	}
	return func() {
		cancel()
		working.Wait()
	}
}

// disturb kills processes and starts them again, and counts the kills. A single one stays away until all groups have answered without it; two or three come
// back at once, for nothing can be answered meanwhile. In the end all run, and every group has answered.
func (r *recorder) disturb(t *testing.T, random *rand.Rand) (kills int) {
	progress := func(what string, answers int) {
		ctx, cancel := context.WithTimeout(r.cluster.sound, soon)
		defer cancel()
		if err := r.progress(ctx, answers); err != nil {
			t.Errorf("%s: not within %v, or a node has failed: %v", what, soon, err)
		}
	}
	progress("at the start", 5)
	for end := time.Now().Add(*duration); time.Now().Before(end) && !t.Failed(); {
		victims := random.Perm(size)[:[...]int{1, 1, 1, 1, 2, 3}[random.IntN(6)]]
		for _, victim := range victims {
			r.cluster.processes[victim].kill()
		}
		kills += len(victims)
		if len(victims) == 1 && random.IntN(4) > 0 {
			progress(fmt.Sprintf("without node %d", victims[0]+1), 1+random.IntN(60))
		}
		r.cluster.startAll()
		if random.IntN(4) > 0 && !t.Failed() {
			progress(fmt.Sprintf("after a kill of %d nodes", len(victims)), 1+random.IntN(20))
		}
	}
	if !t.Failed() {
		progress("in the end", 5)
	}
	return kills
}

// settled waits until all nodes answer linearizable reads of a group, and holds their states against each other.
func (c *cluster) settled(group consensus.GroupID) *history.History {
	newest := c.newest(group)
	var first State
	for i, p := range c.processes {
		var state State
		c.eventually(fmt.Sprintf("group %d on node %d has applied everything", group, i+1), func(ctx context.Context) (err error) {
			if state, err = call[State](ctx, p.client.Load(), "State", group); err == nil && state.Revision < newest {
				err = fmt.Errorf("it is at revision %d of %d", state.Revision, newest)
			}
			return err
		})
		if i == 0 {
			first = state
		}
		if state.Revision != first.Revision || state.Hash != first.Hash || len(state.Events) != len(first.Events) {
			c.t.Errorf("group %d: node %d is at revision %d with hash %x and %d events, node 1 at revision %d with hash %x and %d events",
				group, i+1, state.Revision, state.Hash, len(state.Events), first.Revision, first.Hash, len(first.Events))
		}
	}
	return &history.History{Full: first.Events, Final: first.Revision}
}

// newest is the revision of a linearizable read.
func (c *cluster) newest(group consensus.GroupID) kv.Revision {
	return c.answer(c.processes[0], group, rangeOf("k0")).Revision
}

func rangeOf(key string) *kv.Request {
	return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(key)}}}
}

// answer waits until a node has answered a request.
func (c *cluster) answer(p *process, group consensus.GroupID, request *kv.Request) (response *kv.Response) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("group %d answers at node %d", group, p.config.Number), func(ctx context.Context) (err error) {
		response, err = p.do(ctx, group, request)
		return err
	})
	return response
}

// do asks a node once. What the node answers instead of a response is a sentinel of package kv, if it is one.
func (p *process) do(ctx context.Context, group consensus.GroupID, request *kv.Request) (*kv.Response, error) {
	request.Principal = strconv.FormatUint(uint64(group), 10)
	answer, err := call[Answer](ctx, p.client.Load(), "Do", &Ask{request, patience})
	switch sentinel := kv.ErrorOf(answer.Code); {
	case err != nil:
		return nil, err
	case sentinel != nil:
		return nil, sentinel
	case answer.Text != "":
		return nil, errors.New(answer.Text)
	}
	return answer.Response, nil
}

// judge checks the history of one group.
func judge(t *testing.T, c *cluster, group consensus.GroupID, h *history.History) {
	own := fmt.Appendf(nil, "g%d-", group)
	for i := range h.Full {
		if e := &h.Full[i]; e.Type == kv.EventPut && !strings.HasPrefix(string(e.KV.Value), string(own)) {
			t.Errorf("group %d: %q has the value %q of another group", group, e.KV.Key, e.KV.Value)
		}
	}
	report := history.Check(h)
	keys := []string{"x"}
	for i := range keysPerGroup {
		keys = append(keys, fmt.Sprint("k", i))
	}
	problems, undecided := history.Registers(h, keys, 2*time.Second)
	for _, p := range slices.Concat(report.Problems, problems) {
		t.Errorf("group %d: %s", group, p)
	}
	if report.Writes < 10 || report.Reads < 10 {
		t.Errorf("group %d: %d writes and %d reads were checked: that is no test", group, report.Writes, report.Reads)
	}
	if undecided > 0 { // of long histories
		t.Logf("group %d: porcupine left %d of %d keys undecided", group, undecided, len(keys))
	}
	if t.Failed() {
		if f, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("history-%d.txt", group))); err == nil {
			history.Dump(f, h)
			_ = f.Close() // for people
		}
	}
}

// logged counts lines in the log of a node.
func (p *process) logged(text string) int {
	log, err := os.ReadFile(p.config.Dir + ".log")
	if err != nil {
		p.t.Error(err)
	}
	return strings.Count(string(log), text)
}
