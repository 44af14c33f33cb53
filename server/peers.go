package server

import (
	"context"
	"fmt"
	"io"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/transport"
)

// frames lets the driver and the gateway use the transport.
type frames struct{ *transport.Transport }

func (f frames) Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool {
	return f.Transport.Append(to, transport.Channel(channel), encode)
}

func (f frames) OpenStream(ctx context.Context, to kv.NodeID, name string) (driver.Stream, error) {
	return f.Transport.OpenStream(ctx, to, name)
}

// peerHandler hands what other nodes send to whom it is for.
type peerHandler struct {
	server *Server
	opened chan struct{} // closed when the driver and the gateway exist
}

func (h *peerHandler) Receive(from kv.NodeID, channel transport.Channel, payload []byte) {
	if !h.wait() {
		return
	}
	switch byte(channel) {
	case gateway.ChannelRequest, gateway.ChannelResponse:
		h.server.gateway.HandleMessage(from, byte(channel), payload)
	case issuer.Channel:
		if h.server.issuer != nil {
			h.server.issuer.HandleMessage(from, payload)
		}
	case byte(channelHashes):
		h.server.handleHashes(from, payload)
	case channelMembers:
		h.server.handleMembers(from, payload)
	default:
		h.server.driver.Receive(from, byte(channel), payload)
	}
}

// wait holds frames back that come while the node still starts.
func (h *peerHandler) wait() bool {
	select {
	case <-h.opened:
		return true
	default:
	}
	select {
	case <-h.opened:
		return true
	case <-h.server.context.Done():
		return false
	}
}

func (h *peerHandler) ReceiveDone(kv.NodeID) {
	if h.wait() {
		h.server.driver.ReceiveDone()
	}
}

func (h *peerHandler) PeerUp(node kv.NodeID, info transport.PeerInfo) {
	if h.wait() {
		h.server.roster.up(node, info.FormatVersion)
		h.server.driver.PeerUp(node, info.FormatVersion)
		if h.server.issuer != nil {
			h.server.issuer.PeerUp(node)
		}
		if version := h.server.roster.newest().Version; version > 0 && info.FormatVersion >= driver.FormatMembers {
			h.server.sendMembers(node, membersMessage{kind: membersVersion, version: version}) // it may have come after the greeting
		}
		h.server.gateway.PeerUp(node, gateway.Dialect{
			Deadlines: info.FormatVersion >= driver.FormatDeadlines, Shards: info.FormatVersion >= driver.FormatShards,
			Revisions: h.server.many(), // whoever holds shards of one store knows what that takes
		})
	}
}

func (h *peerHandler) PeerDown(node kv.NodeID, refused bool) {
	if h.wait() {
		h.server.roster.down(node)
		h.server.driver.PeerDown(node, refused)
		if h.server.issuer != nil {
			h.server.issuer.PeerDown(node)
		}
		h.server.gateway.PeerDown(node)
		h.server.comparisons.lost(node)
	}
}

func (h *peerHandler) PeerReturned(node kv.NodeID) {
	if h.wait() {
		if h.server.issuer != nil {
			h.server.issuer.PeerDown(node)
		}
		h.server.gateway.PeerReturned(node)
		h.server.comparisons.lost(node)
	}
}

func (h *peerHandler) ReceiveStream(from kv.NodeID, name string, stream io.Reader) error {
	if !h.wait() {
		return kv.ErrStopped
	}
	return h.server.driver.ReceiveStream(from, name, stream)
}

// nodeRecords describes the members of the cluster, as far as this node knows, by ID.
func (s *Server) nodeRecords() []kv.NodeRecord { return s.roster.newest().Records() }

// peerURLs are those that this node has for others: its own word, or what the list of members says.
func (s *Server) peerURLs() []string {
	if list := s.roster.newest(); list.Version > 0 && list.Member(s.options.NodeID()) != nil {
		return list.Member(s.options.NodeID()).PeerURLs
	}
	return urlStrings(s.options.Node.AdvertisePeerURLs)
}

func hostPorts(urls []URL) []string {
	var out []string
	for _, u := range urls {
		out = append(out, u.HostPort())
	}
	return out
}

func urlStrings(urls []URL) []string {
	var out []string
	for _, u := range urls {
		out = append(out, u.String())
	}
	return out
}

func (s *Server) transportListener() transport.Listener {
	return transport.Listener{
		Connected: func(node kv.NodeID, address string, info transport.PeerInfo) {
			s.logger.Info("connected", "node", node, "name", info.Name, "address", address)
		},
		Disconnected: func(node kv.NodeID, address string, reason error, dropped int) {
			s.logger.Warn("disconnected", "node", node, "address", address, "reason", reason, "dropped_bytes", dropped)
		},
		DialFailed: func(node kv.NodeID, reason error) {
			s.logger.Warn("cannot reach a node", "node", node, "reason", reason)
		},
		RefusedBy: func(refused *transport.RefusedError) {
			if s.quiet.allows("refused by", refusalKey(refused), s.clock()) {
				s.logger.Error("another node refuses this one", "reason", refused)
			}
			if refused.Refusal == transport.RefusalRemoved {
				s.beside(s.wasRemoved)
			}
		},
		Refused: func(refused *transport.RefusedError) {
			if s.quiet.allows("refused", refusalKey(refused), s.clock()) {
				s.logger.Error("refused a node", "reason", refused)
			}
		},
		ReceiveFailed: func(node kv.NodeID, address string, reason error) {
			if s.quiet.allows("receiving", node.String(), s.clock()) {
				s.logger.Warn("receiving failed", "node", node, "address", address, "reason", reason)
			}
		},
		FrameTooLarge: func(node kv.NodeID, channel transport.Channel, bytes int) {
			s.logger.Error("a frame is too large to be sent", "node", node, "channel", channel, "bytes", bytes)
		},
		CallerDropped: func(address string, dropped int64) {
			if s.quiet.allows("callers", "", s.clock()) {
				s.logger.Warn("too many callers on the port for nodes that say nothing: the one that waited longest was cut off", "address", address, "dropped_since_start", dropped)
			}
		},
		AcceptFailed: func(reason error) { s.logger.Error("accepting connections of nodes failed", "reason", reason) },
	}
}

// refusalKey leaves out what differs from one attempt to the next.
func refusalKey(r *transport.RefusedError) string { return fmt.Sprintf("%s %d", r.Node, r.Refusal) }
