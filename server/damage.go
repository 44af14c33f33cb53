package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/storage"
)

// Damaged tells whether the error means that what the node stores cannot be relied upon.
func Damaged(err error) bool {
	return errors.Is(err, storage.ErrCorrupt) || errors.Is(err, driver.ErrLost) || errors.Is(err, datadir.ErrCorruptIdentity)
}

// repairs tells whether this node sets damaged data aside by itself. The only node of a cluster has nobody to get the data from.
func (o Options) repairs() bool { return !o.Node.RefuseDamaged && o.hasOthers() }

// hasOthers tells whether somebody but this node has the data, and a vote.
func (o Options) hasOthers() bool {
	f := o.foundation()
	return slices.ContainsFunc(f.list.Members, func(m members.Member) bool { return m.ID != f.self && !m.Learner })
}

// present are the options with the members that the cluster has now.
func (s *Server) present() Options {
	o, f := s.options, *s.options.foundation()
	f.list = s.roster.newest()
	o.Cluster.recalled = &f
	return o
}

// Repairs tells whether a node that ended with the error mends itself when it is started again.
func Repairs(options Options, err error) bool {
	if !Damaged(err) {
		return false
	}
	options, recallErr := options.WithDefaults().Recall() // the members may be others than when the node was started
	return recallErr == nil && options.repairs()
}

// noRepair adds to the error of a node that does not mend itself why not.
func (o Options) noRepair(err error) error {
	switch {
	case err == nil || !Damaged(err):
		return err
	case !o.hasOthers():
		return fmt.Errorf("%w; no other replica has a good copy: put the files back as they were, or restore from a backup", err)
	case strings.Contains(err.Error(), datadir.LostDataAdvice):
		return fmt.Errorf("%w; with --auto-repair=false nothing is done about it", err)
	default:
		return fmt.Errorf("%w; with --auto-repair=false nothing is done about it: see %s", err, datadir.LostDataAdvice)
	}
}

// noteDamage has the next start set the data aside if that is what the error calls for.
func (s *Server) noteDamage(err error) {
	if s.dir == nil || !Damaged(err) || !s.present().repairs() {
		return
	}
	s.logger.Error("the data of this node is damaged: it will be set aside, and the node gets the data from the others", "reason", err)
	if err := s.dir.NoteDamage(err, time.Now()); err != nil {
		s.logger.Error("the damaged data could not be marked to be set aside", "error", err)
	}
}

// unwitnessed says that nobody could confirm that this node's disk is as it was, and when somebody has.
func (s *Server) unwitnessed(missing []kv.NodeID) {
	if len(missing) == 0 {
		s.logger.Info("the data of this node is confirmed by the others")
		return
	}
	s.logger.Error("nobody could confirm that the data of this node is what it was: all nodes that are there have restarted as well. "+
		"If data was put back from a copy, or deleted, on most of the nodes, acknowledged writes may be missing: stop them, and start those first that have their data. "+
		"After a failure of power nothing is to be done", "might_know_better", fmt.Sprint(missing))
}

// noRepair completes an error that this node does nothing about by itself.
func (s *Server) noRepair(err error) error {
	if o := s.present(); !o.repairs() {
		return o.noRepair(err)
	}
	return err
}
