package sim

import (
	"fmt"
	"strings"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
)

// ask asks a driver for something.
func (s *scenario) ask(what string, args []string) {
	n := s.node(args[0])
	switch name := what + " " + strings.Join(args[1:], " "); {
	case what == "hand-over":
		n.enter(func() { n.store.HandOver(s.outcome("hand-over by " + args[0])) })
	case what == "get":
		s.get(n, name, args[1])
	case strings.HasSuffix(args[2], "*"):
		for i := range 40 {
			key, value := fmt.Sprint(args[1], i), strings.Replace(args[2], "*", fmt.Sprint(i), 1)
			s.put(n, fmt.Sprintf("put %s %s", key, value), key, value, i == 0)
		}
	default:
		s.put(n, name, args[1], args[2], true)
	}
}

// transfer has the leader hand over to a node, which need not exist.
func (s *scenario) transfer(to string) {
	leader := s.w.groups[0].leader()
	leader.node.enter(func() { leader.replica.Transfer(kv.NodeID(s.number(to)), s.outcome("transfer to "+to)) })
}

// outcome is what tells how something ended.
func (s *scenario) outcome(of string) func(error) {
	return func(err error) {
		text := "done"
		if err != nil {
			text = err.Error()
		}
		s.answers = append(s.answers, of+": "+text)
	}
}

// begun takes an operation down, and returns what its answer is to be given to.
func (s *scenario) begun(n *node, req *kv.Request) (answered func(*kv.Response, error)) {
	s.asked++
	number := s.asked
	s.open[number] = history.Operation{Client: number, Node: n.number(), Process: int(n.life), Request: req, Invoke: s.w.now}
	return func(resp *kv.Response, err error) {
		o, open := s.open[number]
		if !open {
			s.t.Errorf("request %d was answered twice", number)
		}
		delete(s.open, number)
		s.note(o, resp, err)
	}
}

func (s *scenario) note(o history.Operation, resp *kv.Response, err error) {
	o.Response, o.Err, o.Outcome, o.Return = resp, err, history.OutcomeOf(err), s.w.now
	s.w.groups[0].history.Operations = append(s.w.groups[0].history.Operations, o)
}

func (s *scenario) put(n *node, name, key, value string, told bool) {
	req := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value)}}
	answered := s.begun(n, req)
	n.enter(func() {
		n.parts[0].replica.Propose(req, nil, func(resp *kv.Response, _ uint64, err error) {
			answered(resp, err)
			if text := fmt.Sprintf("%s: %v", name, err); err != nil {
				s.answers = append(s.answers, text)
			} else if told {
				s.answers = append(s.answers, fmt.Sprintf("%s: revision %d", name, resp.Revision))
			}
		})
	})
}

// get is a linearizable read as a gateway does it: under the lease, or after a barrier.
func (s *scenario) get(n *node, name, key string) {
	req := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(key)}}}
	answered := s.begun(n, req)
	finish := func(how string) {
		resp, err := n.parts[0].replica.Read(req)
		answered(resp, err)
		value := "nothing"
		if err == nil && len(resp.Range.KVs) > 0 {
			value = string(resp.Range.KVs[0].Value)
		}
		s.answers = append(s.answers, fmt.Sprintf("%s: %s, %s", name, value, how))
	}
	if n.parts[0].replica.IsLeader() && n.parts[0].replica.LeaseValid() {
		finish("under the lease")
		return
	}
	leader, life := s.w.groups[0].leader(), n.life
	leader.node.enter(func() {
		leader.replica.ReadIndex(func(index uint64, err error) {
			if err != nil {
				answered(nil, err)
				s.answers = append(s.answers, fmt.Sprintf("%s: %v", name, err))
				return
			}
			if n.up && n.life == life {
				n.enter(func() { n.parts[0].replica.WaitApplied(index, func(error) { finish("after a barrier") }) })
			}
		})
	})
}
