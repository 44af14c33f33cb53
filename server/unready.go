package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quoratedb/quorate/kv"
)

// unreadyShard is a shard that this node does not serve, and why.
type unreadyShard struct {
	shard  kv.ShardID
	reason string
}

// unready lists the shards that this node does not serve now, by number. It asks nobody: what the node knows of leaders may be as old as an election timeout.
func (s *Server) unready() (list []unreadyShard) {
	waitsFor := s.waitsFor.Load()
	for _, d := range s.descriptors {
		reason := ""
		switch r := s.replica(d.Shard); {
		case r == nil:
			reason = "its replica here could not be opened"
		case s.failedShards.of(d.Shard) != nil:
			reason = "its replica here has stopped"
		case s.leaderOf(d.Shard) == 0:
			reason = "no leader is known"
		case waitsFor != nil && slices.Contains(*waitsFor, d.Shard):
			reason = "its replica here has to catch up"
		default:
			continue
		}
		list = append(list, unreadyShard{d.Shard, reason})
	}
	return list
}

// namedShards is how many shards that are not ready a probe names: they may be a thousand.
const namedShards = 32

// ManyShards implements probed.
func (n localNode) ManyShards() bool { return n.s.many() }

// Unready implements probed.
func (n localNode) Unready() error {
	list := n.s.unready()
	if len(list) == 0 {
		return nil
	}
	var texts []string
	for _, u := range list[:min(len(list), namedShards)] {
		texts = append(texts, fmt.Sprintf("shard %d: %s", u.shard, u.reason))
	}
	if more := len(list) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(texts, "; "))
}
