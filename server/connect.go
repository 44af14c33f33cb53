package server

import (
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/transport"
)

// maxFrameBytes bounds a frame between nodes. What can be proposed must fit: an entry that cannot be sent is never committed, nor anything
// after it. One entry is the effects of one request on top of a round of 1 MiB, in a frame that had 4 MiB before it. A request that is evaluated in a
// round has 40 MiB of effects at most (shard.Options.RoundEffectBytes); larger ones come in parts (PartBytes).
const maxFrameBytes = 48 << 20

// openPeers starts what talks with the other nodes: connections, driver and gateway.
func (s *Server) openPeers() error {
	handler := &peerHandler{server: s, opened: make(chan struct{})}
	instance := s.instance
	if err := s.openTransport(handler, instance); err != nil {
		return err
	}
	if err := s.openDriver(instance); err != nil {
		return err
	}
	if err := s.openGateway(instance); err != nil {
		return err
	}
	close(handler.opened)
	s.driver.Start()
	return nil
}

// openTransport starts to connect to the other nodes. What they say waits until the handler is opened.
func (s *Server) openTransport(handler *peerHandler, instance uint64) (err error) {
	cluster := s.options.Cluster
	options := transport.Options{
		MaxFrameBytes: maxFrameBytes, MaxBufferBytes: 2 * maxFrameBytes, MaxCallers: s.plan.Peers,
		Cluster: cluster.ID(), Self: s.options.NodeID(), Name: s.options.Node.Name, Instance: instance,
		MinFormatVersion: driver.FormatOldest, MaxFormatVersion: driver.FormatNewest,
		Metadata: cluster.metadata(), JudgeMetadata: cluster.judgePeer,
		ListenAddrs: hostPorts(s.options.Node.ListenPeerURLs), Peers: s.roster.peers(), Removed: s.roster.newest().Removed, Lists: s.roster,
		Handler: handler, Listener: s.transportListener(), Seed: int64(instance >> 1),
	}
	if s.security.peers != nil {
		options.Security = s.security.peers
	}
	s.transport, err = patiently(func() (*transport.Transport, error) { return transport.Open(options) })
	return err
}
