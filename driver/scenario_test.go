package driver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// TestScenarios runs the stories in testdata. Commands:
//
//	cluster nodes=N [retain=N] [seed=N] [paxos=1] [started=N]   a new cluster; waits until somebody leads
//	run 500ms                             lets the time pass
//	put NODE key value                    asks, does not wait; NODE is a number, "leader", or "old" (the leader before)
//	get NODE key                          a linearizable read
//	answers                               what was answered since the last time
//	crash | restart | cut | heal | pause NODE [from=NODE]
//	delay NODE 150ms                      what it sends from now on takes so long
//	slow NODE                             its disk does not finish a sync until "fast"
//	wipe | lose NODE                      crashes and has empty disks from now on; lose: and knows that it had something
//	cut-log NODE N                        takes the last entries from the log of a node that is down
//	lose-log NODE                         empties the log of a node that is down, and leaves its state
//	transfer NODE                         the leader hands over to it; "answers" says how that ended
//	hand-over NODE                        it is about to stop, and hands over what it leads
//	image NODE                            remembers its disks as they are; put-back NODE: crashes and has them so from now on
//	members                               the membership as the leader knows it
//	standing                              what every node says of its own part
//	witnesses                             whose disk is confirmed by others
//	stops                                 waits until every node has stopped, and says why
//	await                                 until all nodes are up to date and everybody is answered
//	status                                who leads, by whom it is known, where the logs begin
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &scenario{t: t}
		datadriven.RunTest(t, path, s.run)
	})
}

type scenario struct {
	t       *testing.T
	w       *world
	old     *simNode
	answers []string
}

func (s *scenario) node(name string) *simNode {
	switch name {
	case "leader":
		return s.w.leader()
	case "old":
		return s.old
	}
	var i int
	if _, err := fmt.Sscan(name, &i); err != nil || i < 1 || i > len(s.w.nodes) {
		s.t.Fatalf("no node %q", name)
	}
	return s.w.nodes[i-1]
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd == "cluster" {
		o, started := worldOptions{seed: 1, nodes: 3}, uint64(9)
		for _, a := range d.CmdArgs {
			var v uint64
			a.Scan(t, 0, &v)
			switch a.Key {
			case "nodes":
				o.nodes = int(v)
			case "retain":
				o.retain = v
			case "seed":
				o.seed = v
			case "paxos":
				if v == 1 {
					o.paxos = &paxosQuorums{}
				}
			case "started":
				started = v
			}
		}
		s.w = newWorld(t, o)
		for _, n := range s.w.nodes[:min(len(s.w.nodes), int(started))] {
			if err := n.start(); err != nil {
				t.Fatal(err)
			}
		}
		s.w.run(6*time.Second, func() bool {
			leader := s.w.leader()
			return leader != nil && leader.replica.LeaseValid() && (!leader.replica.membership.WantsRepair() || started < 9)
		})
		s.old = s.w.leader()
		return s.check("")
	}
	var args []string
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			args = append(args, a.Key)
		}
	}
	switch d.Cmd {
	case "run":
		duration, err := time.ParseDuration(args[0])
		if err != nil {
			t.Fatal(err)
		}
		s.w.run(duration, nil)
	case "put":
		n := s.node(args[0])
		for i := range 1 + strings.Count(args[2], "*")*39 { // "v*" writes forty keys
			value := strings.Replace(args[2], "*", fmt.Sprint(i), 1)
			key := args[1]
			if value != args[2] {
				key += fmt.Sprint(i)
			}
			op := &operation{name: "put " + key + " " + value, key: key, value: value, node: n}
			s.w.oracle.begin(op)
			n.replica.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value)}}, nil, func(resp *kv.Response, _ uint64, err error) {
				s.w.oracle.answered(op, resp, err)
				if i == 0 {
					s.answer(op.name, resp, err)
				}
			})
		}
	case "get":
		n := s.node(args[0])
		op := &operation{name: "get " + args[1], key: args[1], node: n}
		s.w.oracle.begin(op)
		finish := func(how string) {
			resp, err := n.replica.Read(rangeRequest(args[1]))
			s.w.oracle.answered(op, resp, err)
			value := "nothing"
			if err == nil && len(resp.Range.KVs) > 0 {
				value = string(resp.Range.KVs[0].Value)
			}
			s.answers = append(s.answers, fmt.Sprintf("%s: %s, %s", op.name, value, how))
		}
		if n.replica.IsLeader() && n.replica.LeaseValid() {
			finish("under the lease")
			break
		}
		s.w.leader().replica.ReadIndex(func(index uint64, err error) {
			if err != nil {
				s.w.oracle.answered(op, nil, err)
				s.answer(op.name, nil, err)
				return
			}
			n.replica.WaitApplied(index, func(error) { finish("after a barrier") })
		})
	case "answers":
		text := strings.Join(s.answers, "\n")
		s.answers = nil
		return s.check(text + "\n")
	case "crash":
		n := s.node(args[0])
		s.old = n
		n.crash()
	case "wipe", "lose":
		n := s.node(args[0])
		s.old = n
		n.wipe(d.Cmd == "lose")
	case "cut-log":
		var count uint64
		if _, err := fmt.Sscan(args[1], &count); err != nil {
			t.Fatal(err)
		}
		s.node(args[0]).disks.(*memoryDisks).cut(t, consensus.Index(count))
	case "lose-log":
		s.node(args[0]).disks.(*memoryDisks).log = storage.NewMemoryLog()
	case "members":
		r := s.w.leader().replica
		text := r.machine.Config().String() + "\n"
		for _, p := range r.machine.Placements() {
			text += fmt.Sprintf("replica %d on disk %d of node %v\n", p.Replica, p.Disk, p.Node)
		}
		return s.check(text)
	case "standing":
		var text strings.Builder
		for _, n := range s.w.nodes {
			if !n.up {
				fmt.Fprintf(&text, "node %d: down\n", n.id)
				continue
			}
			fmt.Fprintf(&text, "node %d: %s\n", n.id, n.replica.Standing())
		}
		return s.check(text.String())
	case "witnesses":
		text := ""
		for _, n := range s.w.nodes {
			switch {
			case !n.up:
				text += fmt.Sprintf("node %d: down\n", n.id)
			case len(n.driver.Unwitnessed()) > 0:
				text += fmt.Sprintf("node %d: not confirmed, %v might know better\n", n.id, n.driver.Unwitnessed())
			default:
				text += fmt.Sprintf("node %d: confirmed\n", n.id)
			}
		}
		return s.check(text)
	case "stops":
		text := ""
		for end := s.w.now + 5*time.Second; s.w.now < end; {
			s.w.run(10*time.Millisecond, nil)
			for _, n := range s.w.nodes {
				if n.up && n.failedWith != nil {
					text += fmt.Sprintf("node %d: %v\n", n.id, n.failedWith)
					s.w.err = nil
					n.crash()
				}
			}
		}
		return s.check(text)
	case "transfer":
		to := kv.NodeID(s.number(args[0]))
		s.w.leader().replica.Transfer(to, func(err error) { s.outcome(fmt.Sprintf("transfer to %d", to), err) })
	case "hand-over":
		s.node(args[0]).driver.HandOver(func(err error) { s.outcome("hand-over by "+args[0], err) })
	case "image":
		n := s.node(args[0])
		disks := n.disks.(*memoryDisks)
		n.image = &memoryDisks{n, disks.log.Image(), disks.engine.Image(diskFiles{})}
	case "put-back":
		n := s.node(args[0])
		n.crash()
		n.disks = n.image
	case "restart":
		if err := s.node(args[0]).start(); err != nil {
			return err.Error()
		}
	case "cut", "heal":
		n := s.node(args[0])
		s.old = n
		for i := range s.w.nodes {
			if i != n.index {
				s.w.net.block(n.index, i, d.Cmd == "cut")
				s.w.net.block(i, n.index, d.Cmd == "cut")
			}
		}
	case "pause":
		n := s.node(args[0])
		s.old = n
		duration, err := time.ParseDuration(args[1])
		if err != nil {
			t.Fatal(err)
		}
		n.pausedUntil = s.w.now + duration
	case "delay":
		duration, err := time.ParseDuration(args[1])
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.w.nodes {
			s.w.net.links[s.node(args[0]).index][i].delay = duration
		}
	case "slow", "fast":
		n := s.node(args[0])
		n.driver.slowUntil = n.clock() + time.Hour
		spawn := func(run func()) { n.jobs = append(n.jobs, job{due: s.w.now, run: run}) }
		if d.Cmd == "slow" {
			spawn = func(run func()) { n.jobs = append(n.jobs, job{due: s.w.now + time.Hour, run: run}) }
		} else {
			for i := range n.jobs {
				n.jobs[i].due = 0
			}
		}
		n.driver.spawn = spawn
	case "await":
		if err := s.w.recover(); err != nil {
			return s.check(err.Error() + "\n")
		}
	case "status":
		var text strings.Builder
		for _, n := range s.w.nodes {
			if !n.up {
				fmt.Fprintf(&text, "node %d: down\n", n.id)
				continue
			}
			leader, _ := n.replica.Leader()
			fmt.Fprintf(&text, "node %d: leader %d, serves %v, lease %v, applied %d\n", n.id, uint64(leader), n.replica.IsLeader(), n.replica.LeaseValid(), n.replica.Applied())
		}
		return s.check(text.String())
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	return s.check("")
}

// number is that of a node, which need not exist.
func (s *scenario) number(name string) (n uint64) {
	if _, err := fmt.Sscan(name, &n); err != nil {
		s.t.Fatalf("no node %q", name)
	}
	return n
}

func (s *scenario) outcome(of string, err error) {
	text := "done"
	if err != nil {
		text = err.Error()
	}
	s.answers = append(s.answers, of+": "+text)
}

func (s *scenario) answer(name string, resp *kv.Response, err error) {
	if err != nil {
		s.answers = append(s.answers, fmt.Sprintf("%s: %v", name, err))
		return
	}
	s.answers = append(s.answers, fmt.Sprintf("%s: revision %d", name, resp.Revision))
}

// check ends every command: the observer must be content.
func (s *scenario) check(text string) string {
	if s.w.err != nil {
		return text + "WRONG: " + s.w.err.Error() + "\n"
	}
	return text
}
