package driver

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// installing is a node whose goroutine is about to install a snapshot: work lets it. key is what it has written of before.
func installing(t *testing.T) (n *clusterNode, key string, work func()) {
	c := servingCluster(t, 3, false, time.Millisecond, func(o *Options) { o.FlushLogEntries, o.RetainLogEntries = 20, 1 })
	leader := c.leader()
	n = c.nodes[(leader.index+1)%3]
	key = "key"
	put := func(value string) {
		c.do(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value)}})
	}
	put("before")
	c.await("the write", func() bool { return n.replica.machine.AppliedIndex() == leader.replica.machine.AppliedIndex() })
	n.replica.flush.asked = true // only the engine has it then
	n.driver.needsMaintenance(n.replica)
	c.await("the flush", func() bool { return n.replica.machine.DirtyRows() == 0 && n.replica.flush.syncing == 0 })
	n.cut = true
	for i := range 100 {
		put(fmt.Sprint("meanwhile ", i))
	}
	c.do(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: leader.replica.machine.Closed(), Physical: true}})
	n.cut = false
	c.await("a snapshot", func() bool { return n.replica.installing != nil })
	if len(n.jobs) != 1 {
		t.Fatalf("%d goroutines are at work", len(n.jobs))
	}
	work, n.jobs = n.jobs[0], nil
	return n, key, work
}

// TestEndWhileInstalling: a node, or a replica, that ends while a snapshot is installed shows the state before for as long as it shows any. The goroutine goes
// on, and replaces the rows under it.
func TestEndWhileInstalling(t *testing.T) {
	for name, end := range map[string]func(*clusterNode){
		"node fails":  func(n *clusterNode) { n.driver.fail(errors.New("the disk is full")) },
		"group fails": func(n *clusterNode) { n.replica.fail(errors.New("an assertion")) },
	} {
		t.Run(name, func(t *testing.T) {
			n, key, work := installing(t)
			want := n.read(key)
			end(n)
			n.replica.standing.outsider.Store(false) // a read has been let in before
			for _, when := range []string{"before", "after"} {
				view := n.replica.View()
				listed, found, err := view.Get([]byte(key), 0)
				if err = errors.Join(err, view.Close()); err != nil {
					t.Fatal(err)
				}
				if single := n.read(key); single != want || !found || string(listed.Value) != "before" {
					t.Errorf("%s the rows are replaced: %s, in a list %q; it was %s", when, single, listed.Value, want)
				}
				work()
				work = func() {}
			}
			n.driver.Round()
			n.driver.Close()
			if n.replica.replaced != nil {
				t.Error("the state before is kept after the end")
			}
		})
	}
}

// TestRemoveWhileInstalling: the removal waits for the goroutine, and lets the state before go.
func TestRemoveWhileInstalling(t *testing.T) {
	n, _, work := installing(t)
	removed := errOpen
	n.driver.Remove(1, func(err error) { removed = err })
	n.c.run(time.Second, nil)
	if removed != errOpen || n.replica.replaced == nil {
		t.Fatalf("removed with %v while a snapshot is installed", removed)
	}
	work()
	n.c.run(time.Second, nil)
	if removed != nil || n.replica.replaced != nil {
		t.Errorf("removed with %v; the state before is kept: %v", removed, n.replica.replaced != nil)
	}
}
