package groups

import (
	"context"
	"errors"
	"net"
	"net/rpc"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Service is what the test may ask a node's process for.
type Service struct{ node *node }

// serve answers calls on the address, in the background.
func (n *node) serve(address string) error {
	server := rpc.NewServer()
	if err := server.RegisterName("Node", &Service{n}); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err == nil {
		go server.Accept(listener)
	}
	return err
}

// Ask is a request of a client. Its principal names the shard.
type Ask struct {
	Request  *kv.Request
	Patience time.Duration
}

// Answer has a response, or an error by its code and text.
type Answer struct {
	Response *kv.Response
	Code     kv.Code
	Text     string
}

// Do has a request answered as one of a client.
func (s *Service) Do(ask *Ask, answer *Answer) error {
	done := make(chan struct{})
	s.node.gateway.Submit(&gateway.Call{Req: ask.Request, Deadline: time.Now().Add(ask.Patience), Done: func(r *kv.Response, err error) {
		if answer.Response = r; err != nil {
			answer.Code, answer.Text = kv.CodeOf(err), err.Error()
		}
		close(done)
	}})
	<-done
	return nil
}

// GroupStatus is what a node says of its replica of a group.
type GroupStatus struct {
	Group    consensus.GroupID
	Leader   kv.NodeID
	Serving  bool // this node leads, and serves
	Standing string
}

// Groups tells about all groups of the node, in the order of its configuration.
func (s *Service) Groups(_ struct{}, all *[]GroupStatus) error {
	for _, group := range s.node.config.Groups {
		r := s.node.driver.Replica(group)
		leader, _ := r.Leader()
		*all = append(*all, GroupStatus{Group: group, Leader: leader, Serving: r.IsLeader(), Standing: r.Standing()})
	}
	return nil
}

// State is all that a node holds of the keys of a group.
type State struct {
	Revision kv.Revision
	Hash     uint32
	Events   []kv.Event
}

// State reads the whole history of a group from the state that is applied here.
func (s *Service) State(group consensus.GroupID, state *State) (err error) {
	view := s.node.driver.Replica(group).View()
	defer view.Close()
	state.Revision = view.Revision()
	if state.Hash, err = view.Hash(0); err != nil {
		return err
	}
	live := make(map[string]*kv.KeyValue)
	_, err = view.History(2, 0, 0, func(e *mvcc.Effect) error {
		event := kv.Event{Type: kv.EventPut, Prev: live[string(e.Key)], KV: kv.KeyValue{
			Key: e.Key, Value: e.Value, CreateRevision: e.Create, ModRevision: e.At.Rev, Version: e.Version, Lease: e.Lease}}
		live[string(e.Key)] = &event.KV
		if e.Version == 0 {
			event.Type, event.KV = kv.EventDelete, kv.KeyValue{Key: e.Key, ModRevision: e.At.Rev}
			delete(live, string(e.Key))
		}
		state.Events = append(state.Events, event)
		return nil
	})
	return err
}

// Handover names a group, and the node that is to lead it.
type Handover struct {
	Group consensus.GroupID
	To    kv.NodeID
}

// Transfer moves the leadership of a group that this node leads.
func (s *Service) Transfer(to Handover, _ *struct{}) error {
	done := make(chan error, 1)
	s.node.driver.Replica(to.Group).Transfer(to.To, func(err error) { done <- err })
	return <-done
}

// Unknown are groups that the node's log knows although its configuration does not have them.
func (s *Service) Unknown(_ struct{}, unknown *[]consensus.GroupID) error {
	held := make(map[consensus.GroupID]bool)
	for _, group := range s.node.config.Groups {
		held[group] = true
	}
	for _, group := range s.node.log.Groups() {
		if !held[group] {
			*unknown = append(*unknown, group)
		}
	}
	return nil
}

// Refused counts the messages of other nodes that the driver refused.
func (s *Service) Refused(_ struct{}, count *uint64) error {
	*count = s.node.driver.Metrics().MessagesRefused
	return nil
}

var errNotRunning = errors.New("the process does not run")

// call asks a node's process, until the context ends.
func call[Reply any](ctx context.Context, client *rpc.Client, method string, argument any) (reply Reply, err error) {
	if client == nil {
		return reply, errNotRunning
	}
	answer := new(Reply) // of its own: it may be filled in after the context has ended
	pending := client.Go("Node."+method, argument, answer, make(chan *rpc.Call, 1))
	select {
	case <-pending.Done:
		return *answer, pending.Error
	case <-ctx.Done():
		return reply, ctx.Err()
	}
}
