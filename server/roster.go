package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
)

// roster is what the node knows at present of who the members are. The newest list counts, wherever it comes from: the replica of the system shard here, or
// another node. It implements transport.Lists. Safe for concurrent use.
type roster struct {
	self     kv.NodeID
	founders []kv.NodeRecord
	changed  chan struct{} // has room for one; something below is another than before

	mu        sync.Mutex
	list      *members.List          // never nil
	told      []byte                 // what others are told: founders and list
	needed    []kv.NodeID            // that the driver has to do with
	addresses map[kv.NodeID][]string // of the members of the list, and of those needed that were in one before
	connected map[kv.NodeID]connection
}

// connection is one that this node has made to another.
type connection struct {
	since  time.Time
	format uint16 // of the frames
}

func newRoster(f *foundation) *roster {
	r := &roster{self: f.self, founders: f.founders, changed: make(chan struct{}, 1), needed: f.nodes(),
		addresses: map[kv.NodeID][]string{}, connected: map[kv.NodeID]connection{}}
	r.take(f.list)
	return r
}

// take makes the list the newest. Under mu, or before anybody else knows of r.
func (r *roster) take(list *members.List) {
	r.list = list
	r.told = appendTold(nil, r.founders, list)
	for i := range list.Members {
		if m := &list.Members[i]; m.ID != r.self {
			if addresses := addressesOf(m); len(addresses) > 0 {
				r.addresses[m.ID] = addresses
			}
		}
	}
	select {
	case r.changed <- struct{}{}:
	default: // whoever follows has not looked yet
	}
}

// addressesOf are host and port of the URLs of a member, without those that nobody could connect to.
func addressesOf(m *members.Member) (addresses []string) {
	for _, text := range m.PeerURLs {
		if u, err := ParseURL(text); err == nil && u.check(false) == nil && u.Path == "" {
			addresses = append(addresses, u.HostPort())
		}
	}
	return addresses
}

// newest is the newest list.
func (r *roster) newest() *members.List {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list
}

// Newest implements transport.Lists.
func (r *roster) Newest() (version uint64, told []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list.Version, r.told
}

// Told implements transport.Lists.
func (r *roster) Told(from kv.NodeID, told []byte, prove func(hosts []string) error) error {
	_, list, err := decodeTold(told)
	if err != nil {
		return err
	}
	if prove != nil {
		m := list.Member(from)
		if m == nil {
			return fmt.Errorf("node %s brings a list of members that it is not in", from)
		}
		var hosts []string
		for _, text := range m.PeerURLs {
			if u, err := ParseURL(text); err == nil {
				hosts = append(hosts, u.Host)
			}
		}
		if err := prove(hosts); err != nil {
			return fmt.Errorf("node %s does not prove who it is: %w", from, err)
		}
	}
	r.offer(list)
	return nil
}

// offer takes a list that is newer.
func (r *roster) offer(list *members.List) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if list.Supersedes(r.list, false) {
		r.take(list)
	}
}

// applied takes the list that the replica here has. Of the same version it may say more: what nodes have published of themselves.
func (r *roster) applied(list *members.List) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if list.Supersedes(r.list, true) {
		r.take(list)
	}
}

// need says which nodes the driver has to do with.
func (r *roster) need(nodes []kv.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.needed = nodes
	for id := range r.addresses {
		if r.list.Member(id) == nil && !slices.Contains(nodes, id) {
			delete(r.addresses, id)
		}
	}
	select {
	case r.changed <- struct{}{}:
	default: // whoever follows has not looked yet
	}
}

// peers are the addresses of all other nodes to talk to: the members, and those that are still needed.
func (r *roster) peers() map[kv.NodeID][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	peers := make(map[kv.NodeID][]string)
	for id, addresses := range r.addresses {
		if r.list.Member(id) != nil || slices.Contains(r.needed, id) {
			peers[id] = addresses
		}
	}
	return peers
}

func (r *roster) up(node kv.NodeID, format uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connected[node] = connection{time.Now(), format}
}

func (r *roster) down(node kv.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.connected, node)
}

// connection is the present one to a node.
func (r *roster) connection(node kv.NodeID) (connection, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.connected[node]
	return c, ok
}

// followMembers has everything in this node follow the list of members.
func (s *Server) followMembers() {
	for {
		select {
		case <-s.context.Done():
			return
		case <-s.roster.changed:
		}
		list := s.roster.newest()
		if list.Version == 0 {
			continue // all is as it began
		}
		if err := s.remember(list, false); err != nil {
			s.fail(err)
			return
		}
		s.driver.Follow(list.Roster())
		if err := s.transport.SetPeers(s.roster.peers(), list.Removed); err != nil && s.context.Err() == nil {
			s.logger.Error("the nodes to talk to could not be changed", "error", err)
		}
		s.tellVersion(list.Version)
	}
}

// remember makes durable what the node knows of the members, before it acts on it.
func (s *Server) remember(list *members.List, removed bool) error {
	s.remembering.Lock()
	defer s.remembering.Unlock()
	if s.remembered == list.Version && !removed {
		return nil
	}
	f := *s.options.foundation()
	f.list, f.removed = list, removed
	if err := s.dir.WriteMembers(f.members()); err != nil {
		return err
	}
	if removed || s.remembered == list.Version {
		return nil
	}
	s.remembered = list.Version
	s.logger.Info("the list of members changed", "version", list.Version, "members", membersText(list))
	return nil
}

// membersText names members, for the log.
func membersText(list *members.List) string {
	var texts []string
	for i := range list.Members {
		m := &list.Members[i]
		text := fmt.Sprintf("%s=%s", cmp.Or(m.Name, m.ID.String()), strings.Join(m.PeerURLs, ","))
		if m.Learner {
			text += " (learner)"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}

// removedPause is how long a node that was removed goes on: whoever asked it for that is to get the answer. etcd waits as long.
const removedPause = time.Second

// wasRemoved ends this node: the cluster does without it, and says so.
func (s *Server) wasRemoved() {
	if !s.outside.CompareAndSwap(false, true) {
		return
	}
	s.logger.Warn("this node was removed from the cluster, and stops")
	select {
	case <-s.context.Done():
	case <-time.After(removedPause):
	}
	if err := s.remember(s.roster.newest(), true); err != nil {
		s.logger.Error("that this node was removed could not be noted", "error", err)
	}
	s.fail(errRemoved)
}

// groupRemoved is told when a group does without this node. It is called from the driver's goroutine.
func (s *Server) groupRemoved(shard kv.ShardID) {
	s.leavers.Lock()
	defer s.leavers.Unlock()
	if s.left == nil {
		s.left = map[kv.ShardID]bool{}
	}
	s.left[shard] = true
	if len(s.left) == len(s.descriptors) {
		s.beside(s.wasRemoved)
	}
}

// channelMembers is that of what nodes tell each other about how they follow the list of members. docs/protocols/peer.md has the messages.
const channelMembers = 10

// tellVersion tells the nodes that this one is connected to which list it has.
func (s *Server) tellVersion(version uint64) {
	for _, peer := range s.transport.Metrics().Peers {
		if peer.Connected && peer.Info.FormatVersion >= driver.FormatMembers {
			s.sendMembers(peer.Node, membersMessage{kind: membersVersion, version: version})
		}
	}
}

func (s *Server) sendMembers(to kv.NodeID, m membersMessage) {
	if s.transport.Append(to, channelMembers, m.append) {
		s.transport.Kick(to)
	}
}

// handleMembers takes a message on that channel.
func (s *Server) handleMembers(from kv.NodeID, payload []byte) {
	m, err := decodeMembersMessage(payload)
	if err != nil {
		if s.quiet.allows("bad message", from.String(), s.clock()) {
			s.logger.Warn("bad message", "from", from, "error", err)
		}
		return
	}
	switch m.kind {
	case membersVersion:
		if m.version > s.roster.newest().Version {
			s.fetchList(from)
		}
	case membersQuestion:
		s.sendMembers(from, s.answerMembers(m))
	case membersAnswer:
		s.waiting.answered(from, m)
	}
}

// fetchList asks a node for its list, one node at a time.
func (s *Server) fetchList(from kv.NodeID) {
	if !s.fetching.CompareAndSwap(false, true) {
		return // whoever has a newer one says so again
	}
	begun := s.beside(func() {
		defer s.fetching.Store(false)
		ctx, cancel := context.WithTimeout(s.context, 5*time.Second)
		defer cancel()
		if err := s.transport.ExchangeLists(ctx, from); err != nil && !errors.Is(err, context.Canceled) {
			s.logger.Warn("the newer list of members of a node could not be fetched", "node", from, "error", err)
		}
	})
	if !begun {
		s.fetching.Store(false)
	}
}
