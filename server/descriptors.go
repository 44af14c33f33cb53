package server

import (
	"net"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/connlimit"
	"github.com/quoratedb/quorate/connlimit/listener"
	"github.com/quoratedb/quorate/storage/patientfs"
)

// Of connections that say nothing. An HTTP/2 client begins with a preface of so many bytes.
const (
	prefaceBytes   = 24
	prefaceTimeout = 5 * time.Second
)

// planDescriptors divides what the system allows this process, so that strangers cannot take what the log, the state and the peers need.
func (s *Server) planDescriptors() error {
	limit, err := raiseDescriptorLimit()
	if err != nil {
		return err
	}
	wanted := s.options.Node.MaxClientConnections
	s.plan, err = connlimit.NewPlan(connlimit.Request{
		Descriptors: limit, Nodes: s.options.foundation().size(), Metrics: len(s.options.Node.httpURLs()) > 0, MaxClients: wanted,
	})
	if err != nil {
		return err
	}
	if s.plan.Clients < wanted {
		s.logger.Info("the limit of open files allows fewer client connections than --max-client-connections", "open_files", limit, "client_connections", s.plan.Clients)
	}
	s.clients = s.newLimiter("client", s.plan.Clients, prefaceBytes)
	if s.plan.Metrics > 0 {
		s.scrapers = s.newLimiter("metrics", s.plan.Metrics, 1)
	}
	return nil
}

func (s *Server) newLimiter(port string, limit, helloBytes int) *listener.Limiter {
	return listener.New(listener.Options{
		Limit: limit, HelloBytes: helloBytes, HelloTimeout: prefaceTimeout,
		Refused: func(address net.Addr, total uint64) {
			if s.quiet.allows("refused a connection", port, s.clock()) {
				s.logger.Warn("refused a connection: there are as many as there may be", "port", port, "address", address, "limit", limit, "refused_so_far", total)
			}
		},
		AcceptFailed: func(err error) {
			if s.quiet.allows("accepting failed", port, s.clock()) {
				s.logger.Error("accepting connections failed; it is tried again", "port", port, "error", err)
			}
		},
	})
}

// files is the file system of log and state.
func (s *Server) files() vfs.FS {
	return patientfs.New(vfs.Default, patientfs.Options{Waiting: func(path string, err error) {
		if s.quiet.allows("no descriptor", "", s.clock()) {
			s.logger.Error("no file can be opened because the process has too many open; writes wait until others are closed", "path", path, "error", err)
		}
	}})
}
