package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/server"
	"github.com/quoratedb/quorate/sim/history"
)

// Members come and go while clients work: one node becomes three, five, and three others, the one that began not among them. What clients saw has to fit
// together all the same.
func TestChaosMembers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 s; left out with -short")
	}
	if *mix != "" || *shards > 1 {
		t.Skip("-chaos.mix or -chaos.shards was given")
	}
	t.Run("raft", func(t *testing.T) { t.Parallel(); changeMembers(t, "raft", 1) })
	t.Run("paxos, 3 shards", func(t *testing.T) { t.Parallel(); changeMembers(t, "paxos", 3) })
}

// The nodes that are left in the end are the first ones, so that what looks at all nodes then needs to know nothing of the others.
const (
	founder = 3
	last    = 4 // to be added
	stay    = 3 // nodes
)

func changeMembers(t *testing.T, protocol string, shards int) {
	chosen := *seed
	if chosen == 0 {
		chosen = rand.Uint64()
	}
	keys := newKeyspace(t, shards, "hash", "2pc")
	c := planCluster(t, program(t), 5, append(keys.flags(), "--snapshot-count=50", "--consensus="+protocol, "--strict-reconfig-check=false")...)
	for i, n := range c.nodes {
		n.began = fmt.Sprintf("%s=http://%s", n.name, c.network.fronts[i].address)
		n.id.Store(uint64(i) + 1) // nobody's: it is known when it is added
	}
	m := &changes{cluster: c, t: t}
	first := c.nodes[founder]
	members, err := server.ParseMembers(first.began)
	if err != nil {
		t.Fatal(err)
	}
	first.id.Store(uint64(members[0].ID(server.DefaultToken)))
	c.start(first)
	m.serves(first)

	r := &recording{recorder: &recorder{began: time.Now(), cluster: c, keys: keys}}
	watchingTime, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	working, stopWorking := context.WithCancel(context.Background())
	defer stopWorking()
	var watchers, clients sync.WaitGroup
	r.openAccounts(t, chosen)
	for node := range stay {
		w := &watching{Watcher: history.Watcher{Name: fmt.Sprint("staying, all, ", node), Span: kv.Everything(), Start: 2, PrevKV: true}, recorder: r.recorder, node: node}
		final := make(chan kv.Revision, 1)
		r.watchers, r.finals, r.positions = append(r.watchers, w), append(r.finals, final), append(r.positions, &w.position)
		watchers.Go(func() { w.run(watchingTime, final) })
	}
	for i := range *workers {
		w, err := newWorker(r.recorder, i, chosen, *think)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		clients.Go(func() { w.run(working) })
	}

	m.add(founder, 0, true)
	m.promote(founder, 0)
	m.add(0, 1, false)
	t.Logf("%8.3fs three members", r.now().Seconds())
	m.add(1, 2, false)
	m.add(0, last, true)
	m.promote(1, last)
	t.Logf("%8.3fs five members", r.now().Seconds())
	c.kill(c.nodes[1])
	m.remove(2, founder) // one of five is away, and one, which may lead, goes
	c.start(c.nodes[1])
	m.serves(c.nodes[1])
	m.remove(1, last)
	t.Logf("%8.3fs three members again", r.now().Seconds())
	m.gone(founder)
	m.gone(last)
	m.serves(c.nodes[:stay]...)

	time.Sleep(time.Second) // of work
	stopWorking()
	clients.Wait()
	c.nodes = c.nodes[:stay]
	if shards > 1 {
		c.waitDecided()
	}
	h := r.collect(t, c, &watchers, stopWatching)
	c.checkHashes(h.Final, keys.many())
	judge(t, h)
	for _, n := range c.nodes {
		list, err := n.client.MemberList(m.context())
		if err != nil || len(list.Members) != stay {
			t.Errorf("%s knows the members %v: %v", n.name, list, err)
		}
	}
	t.Logf("%d snapshots were installed", c.logged("installed a snapshot"))
}

// changes changes the members of a cluster.
type changes struct {
	*cluster
	t *testing.T
}

func (m *changes) context() context.Context {
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	m.t.Cleanup(cancel)
	return ctx
}

// until does something until there is no error.
func (m *changes) until(what string, do func() error) {
	m.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; {
		err := do()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (m *changes) serves(nodes ...*node) {
	m.t.Helper()
	for _, n := range nodes {
		m.until(n.name+" serves", func() error {
			ctx, cancel := context.WithTimeout(m.t.Context(), time.Second)
			defer cancel()
			_, err := n.client.Get(ctx, "serving")
			return err
		})
	}
}

// add has one node add another, and starts that one.
func (m *changes) add(by, number int, learner bool) {
	m.t.Helper()
	n := m.nodes[number]
	urls := []string{"http://" + m.network.fronts[number].address}
	do := m.nodes[by].client.MemberAdd
	if learner {
		do = m.nodes[by].client.MemberAddAsLearner
	}
	m.until("add "+n.name, func() error {
		r, err := do(m.context(), urls)
		if err == nil {
			n.id.Store(r.Member.ID)
			n.began += fmt.Sprintf(",%s=http://%s", m.nodes[by].name, m.network.fronts[by].address) // one to ask is enough
			n.joins = true
		}
		return err
	})
	m.start(n)
	if !learner { // a learner answers no linearizable reads
		m.serves(n)
	}
}

func (m *changes) promote(by, number int) {
	m.t.Helper()
	n := m.nodes[number]
	m.until("promote "+n.name, func() error {
		_, err := m.nodes[by].client.MemberPromote(m.context(), n.id.Load())
		return err
	})
	m.serves(n)
}

func (m *changes) remove(by, number int) {
	m.t.Helper()
	n := m.nodes[number]
	n.mu.Lock()
	n.wantedDead = true
	n.mu.Unlock()
	m.until("remove "+n.name, func() error {
		_, err := m.nodes[by].client.MemberRemove(m.context(), n.id.Load())
		return err
	})
}

// gone: a node that was removed has ended by itself, and says why.
func (m *changes) gone(number int) {
	m.t.Helper()
	n := m.nodes[number]
	select {
	case <-n.exited:
	case <-time.After(30 * time.Second):
		m.t.Fatalf("%s, which was removed, goes on", n.name)
	}
	if code := n.command.ProcessState.ExitCode(); code != 5 {
		m.t.Errorf("%s ended with exit code %d", n.name, code)
	}
	if log, err := os.ReadFile(n.dir + ".log"); err != nil || !strings.Contains(string(log), "this node was removed from the cluster") {
		m.t.Errorf("%s does not say that it was removed: %v", n.name, err)
	}
}
