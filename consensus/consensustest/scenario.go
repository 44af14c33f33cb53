package consensustest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/consensus"
)

// RunScenarios runs every text of the directory.
func RunScenarios(t *testing.T, dir string, opts Options) {
	datadriven.Walk(t, dir, func(t *testing.T, path string) {
		s := &scenario{opts: opts}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.run(d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

// Replay runs commands, given as lines, and returns what they print. An error says which command broke an invariant.
func Replay(opts Options, commands []string) (string, error) {
	s := &scenario{opts: opts}
	var b strings.Builder
	for _, line := range commands {
		command, args, err := datadriven.ParseLine(line)
		if err != nil {
			return b.String(), fmt.Errorf("%s: %w", line, err)
		}
		out, err := s.run(&datadriven.TestData{Cmd: command, CmdArgs: args})
		if err != nil {
			return b.String(), fmt.Errorf("%s: %w", line, err)
		}
		b.WriteString(out)
	}
	return b.String(), nil
}

// scenario is one text being run.
type scenario struct {
	opts    Options
	cluster *Cluster
	shown   map[consensus.ReplicaID]shown
}

// shown is what was last printed of a replica.
type shown struct {
	role   string
	config string
	values int
}

// verbs maps a command to what it does. What it returns is printed before what changed.
var verbs = map[string]func(*scenario, *datadriven.TestData) (string, error){
	"add":         (*scenario).add,
	"campaign":    coreVerb(func(core consensus.Core, _ *datadriven.TestData) error { core.Campaign(); return nil }),
	"leader-lost": coreVerb(func(core consensus.Core, _ *datadriven.TestData) error { core.LeaderLost(); return nil }),
	"unreachable": coreVerb(unreachable),
	"tick":        (*scenario).tick,
	"propose":     coreVerb(propose),
	"config":      coreVerb(proposeConfig),
	"transfer":    coreVerb(transfer),
	"handover":    coreVerb(handOver),
	"read":        (*scenario).read,
	"deliver":     flightVerb(func(c *Cluster, e *envelope) { c.deliver(e) }),
	"drop":        flightVerb(func(c *Cluster, e *envelope) { c.lose(e) }),
	"duplicate":   flightVerb(func(c *Cluster, e *envelope) { c.network.flight = append(c.network.flight, e, e) }),
	"copy":        (*scenario).copy,
	"forge":       (*scenario).forge,
	"raise":       (*scenario).raise,
	"reorder":     (*scenario).reorder,
	"stabilize":   func(s *scenario, _ *datadriven.TestData) (string, error) { s.cluster.stabilize(); return "", nil },
	"cut":         (*scenario).cut,
	"isolate":     nodeVerb(func(c *Cluster, n *node, _ *datadriven.TestData) { c.isolate(n.id) }),
	"heal": func(s *scenario, _ *datadriven.TestData) (string, error) {
		clear(s.cluster.network.cut)
		return "", nil
	},
	"hold-sync":    nodeVerb(func(_ *Cluster, n *node, _ *datadriven.TestData) { n.holdSync = true }),
	"release-sync": nodeVerb(func(c *Cluster, n *node, _ *datadriven.TestData) { n.holdSync = false; c.settle(n) }),
	"sync": nodeVerb(func(c *Cluster, n *node, d *datadriven.TestData) {
		c.sync(n, number(d, "n", len(n.unsynced)))
		c.settle(n)
	}),
	"hold-apply":    nodeVerb(func(_ *Cluster, n *node, _ *datadriven.TestData) { n.holdApply = true }),
	"release-apply": nodeVerb(func(c *Cluster, n *node, _ *datadriven.TestData) { n.holdApply = false; c.settle(n) }),
	"apply": nodeVerb(func(c *Cluster, n *node, d *datadriven.TestData) {
		c.apply(n, number(d, "n", len(n.toApply)))
		c.settle(n)
	}),
	"crash":      nodeVerb(crash),
	"restart":    nodeVerb(func(c *Cluster, n *node, _ *datadriven.TestData) { c.Restart(n.id) }),
	"checkpoint": nodeVerb(func(c *Cluster, n *node, _ *datadriven.TestData) { c.Checkpoint(n.id, false) }),
	"compact":    nodeVerb(func(c *Cluster, n *node, _ *datadriven.TestData) { c.Checkpoint(n.id, true) }),
	"values":     func(s *scenario, _ *datadriven.TestData) (string, error) { return s.values(), nil },
	"status":     func(s *scenario, _ *datadriven.TestData) (string, error) { return s.status(), nil },
	"flight":     func(s *scenario, _ *datadriven.TestData) (string, error) { return s.flight(), nil },
	"quiet":      (*scenario).quiet,
	"check":      func(s *scenario, _ *datadriven.TestData) (string, error) { return s.check(), nil },
}

func (s *scenario) run(d *datadriven.TestData) (string, error) {
	var out string
	var err error
	verb := verbs[d.Cmd]
	switch {
	case d.Cmd == "cluster":
		err = s.start(d)
	case verb == nil:
		err = fmt.Errorf("unknown command %q", d.Cmd)
	case s.cluster == nil:
		err = errors.New("the scenario must begin with a cluster")
	default:
		out, err = verb(s, d)
	}
	if err == nil {
		err = s.cluster.violation
	}
	if err != nil {
		return "", err
	}
	if out += s.changes(); out == "" {
		return "ok\n", nil
	}
	return out, nil
}

func (s *scenario) start(d *datadriven.TestData) error {
	opts := s.opts
	opts.Limits.ElectionTicks = number(d, "election", opts.Limits.ElectionTicks)
	opts.Limits.HeartbeatTicks = number(d, "heartbeat", opts.Limits.HeartbeatTicks)
	opts.Limits.MaxMessageBytes = number(d, "message-bytes", opts.Limits.MaxMessageBytes)
	opts.Limits.MaxApplyBytes = number(d, "apply-bytes", opts.Limits.MaxApplyBytes)
	opts.Limits.MaxInflightMessages = number(d, "inflight", opts.Limits.MaxInflightMessages)
	s.cluster = NewCluster(opts, number(d, "n", 3))
	s.shown = make(map[consensus.ReplicaID]shown)
	for _, id := range s.cluster.ids {
		s.shown[id] = s.look(s.cluster.nodes[id])
	}
	return nil
}

// coreVerb makes a command of something done to the core of the replica that the first argument names.
func coreVerb(f func(consensus.Core, *datadriven.TestData) error) func(*scenario, *datadriven.TestData) (string, error) {
	return func(s *scenario, d *datadriven.TestData) (string, error) {
		n, err := s.node(d)
		if err != nil {
			return "", err
		}
		return describe(s.cluster.act(n.id, func(core consensus.Core) error { return f(core, d) })), nil
	}
}

func nodeVerb(f func(*Cluster, *node, *datadriven.TestData)) func(*scenario, *datadriven.TestData) (string, error) {
	return func(s *scenario, d *datadriven.TestData) (string, error) {
		n, err := s.node(d)
		if err != nil {
			return "", err
		}
		if n.core == nil && d.Cmd != "restart" {
			return "", fmt.Errorf("replica %d is down", n.id)
		}
		f(s.cluster, n, d)
		return "", nil
	}
}

// flightVerb makes a command of something done to each of the messages in flight at its beginning.
func flightVerb(f func(*Cluster, *envelope)) func(*scenario, *datadriven.TestData) (string, error) {
	return func(s *scenario, d *datadriven.TestData) (string, error) {
		taken := s.cluster.network.take(linkOf(d), number(d, "at", 0), number(d, "n", 0))
		if d.HasArg("at") && len(taken) == 0 {
			return "", fmt.Errorf("there is no message %d", number(d, "at", 0))
		}
		for _, e := range taken {
			f(s.cluster, e)
		}
		return "", nil
	}
}

// copy puts a second copy of each message at the end of what is in flight; the first one stays where it is.
func (s *scenario) copy(d *datadriven.TestData) (string, error) {
	flight := s.cluster.network.flight
	taken := (&network{flight: slices.Clone(flight)}).take(linkOf(d), number(d, "at", 0), number(d, "n", 0))
	s.cluster.network.flight = append(flight, taken...)
	return "", nil
}

func crash(c *Cluster, n *node, d *datadriven.TestData) {
	synced := d.HasArg("synced")
	if synced {
		n.log.Sync(len(n.unsynced))
	}
	c.Crash(n.id, synced || d.HasArg("state-first"))
}

// describe turns an error into a line that is the same for every protocol.
func describe(err error) string {
	for _, known := range []error{consensus.ErrNotLeader, consensus.ErrNotReady, consensus.ErrTransferring,
		consensus.ErrOverloaded, consensus.ErrConfigPending, errDown} {
		if errors.Is(err, known) {
			return "refused: " + strings.TrimPrefix(known.Error(), "consensus: ") + "\n"
		}
	}
	if err != nil {
		return "refused\n"
	}
	return ""
}

func (s *scenario) add(d *datadriven.TestData) (string, error) {
	id, err := strconv.ParseUint(d.CmdArgs[0].Key, 10, 64)
	if err == nil {
		s.cluster.Add(consensus.ReplicaID(id))
		s.shown[consensus.ReplicaID(id)] = s.look(s.cluster.nodes[consensus.ReplicaID(id)])
	}
	return "", err
}

func (s *scenario) tick(d *datadriven.TestData) (string, error) {
	n, err := s.node(d)
	if err != nil {
		return "", err
	}
	for range number(d, "n", 1) {
		if err := s.cluster.act(n.id, func(core consensus.Core) error { core.Tick(); return nil }); err != nil {
			return describe(err), nil
		}
	}
	return "", nil
}

func propose(core consensus.Core, d *datadriven.TestData) error {
	var data [][]byte
	for _, arg := range d.CmdArgs[1:] {
		data = append(data, []byte(arg.Key))
	}
	return core.Propose(data)
}

func proposeConfig(core consensus.Core, d *datadriven.TestData) error {
	return core.ProposeConfig(consensus.Config{Voters: replicas(d, "voters"), Learners: replicas(d, "learners")})
}

func transfer(core consensus.Core, d *datadriven.TestData) error {
	return core.TransferLeader(consensus.ReplicaID(number(d, "to", 0)))
}

func handOver(core consensus.Core, d *datadriven.TestData) error {
	return core.HandOver(consensus.ReplicaID(number(d, "to", 0)))
}

func unreachable(core consensus.Core, d *datadriven.TestData) error {
	core.Unreachable(consensus.ReplicaID(number(d, "peer", 0)))
	return nil
}

func (s *scenario) read(d *datadriven.TestData) (string, error) {
	n, err := s.node(d)
	if err != nil {
		return "", err
	}
	return describe(s.cluster.askRead(n.id, consensus.ReadID(number(d, "id", 0)))), nil
}

func (s *scenario) raise(d *datadriven.TestData) (string, error) {
	for _, e := range s.cluster.network.flight {
		if sender := s.cluster.nodes[e.from]; e.matches(linkOf(d)) && e.snapshot != nil && sender.core != nil {
			e.raise(sender.machine)
		}
	}
	return "", nil
}

func (s *scenario) reorder(d *datadriven.TestData) (string, error) {
	s.cluster.network.reorder(linkOf(d))
	return "", nil
}

func (s *scenario) cut(d *datadriven.TestData) (string, error) {
	s.cluster.network.cut[linkOf(d)] = true
	return "", nil
}

func (s *scenario) values() string {
	var b strings.Builder
	for _, id := range s.cluster.ids {
		if n := s.cluster.nodes[id]; n.core != nil {
			fmt.Fprintf(&b, "%d: %s\n", id, strings.Join(n.machine.values, " "))
		}
	}
	return b.String()
}

func (s *scenario) status() string {
	var b strings.Builder
	for _, id := range s.cluster.ids {
		fmt.Fprintf(&b, "%d: %s\n", id, s.look(s.cluster.nodes[id]).role)
	}
	return b.String()
}

func (s *scenario) flight() string {
	var b strings.Builder
	for _, e := range s.cluster.network.flight {
		if m, err := consensus.DecodeMessage(e.encoded); err == nil && s.opts.Describe != nil {
			fmt.Fprintln(&b, s.opts.Describe(&m))
		}
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func (s *scenario) quiet(d *datadriven.TestData) (string, error) {
	n, err := s.node(d)
	if err != nil || n.core == nil {
		return "", err
	}
	return fmt.Sprintf("quiet: %v\n", n.core.Status().Quiet), nil
}

// check prints whether all running members have applied the same; the invariants hold after every command anyway.
func (s *scenario) check() string {
	var first *node
	for _, id := range s.cluster.ids {
		n := s.cluster.nodes[id]
		if n.core == nil || !n.machine.config.Contains(id) {
			continue
		}
		if first == nil {
			first = n
		}
		if !slices.Equal(first.machine.values, n.machine.values) {
			return fmt.Sprintf("%d and %d differ\n", first.id, id)
		}
	}
	return "all members agree\n"
}

// look returns what is to be printed of a replica.
func (s *scenario) look(n *node) shown {
	if n.core == nil {
		return shown{role: "down", config: s.shown[n.id].config, values: s.shown[n.id].values}
	}
	now := shown{role: n.role.Role.String(), config: n.machine.config.String(), values: len(n.machine.values)}
	if n.role.Leader != 0 && n.role.Leader != n.id {
		now.role += fmt.Sprintf(" of %d", n.role.Leader)
	}
	return now
}

// changes prints what is different from what was printed before.
func (s *scenario) changes() string {
	var b strings.Builder
	for _, event := range s.cluster.events {
		fmt.Fprintln(&b, event)
	}
	s.cluster.events = nil
	for _, id := range s.cluster.ids {
		n := s.cluster.nodes[id]
		before, now := s.shown[id], s.look(n)
		if now.role != before.role {
			fmt.Fprintf(&b, "%d: %s\n", id, now.role)
		}
		if now.config != before.config {
			fmt.Fprintf(&b, "%d: members %s\n", id, now.config)
		}
		if now.values > before.values {
			fmt.Fprintf(&b, "%d: applied %s\n", id, strings.Join(n.machine.values[before.values:], " "))
		}
		if now.values < before.values {
			fmt.Fprintf(&b, "%d: back to %d values\n", id, now.values)
		}
		s.shown[id] = now
	}
	return b.String()
}

// node returns the replica that the first argument names.
func (s *scenario) node(d *datadriven.TestData) (*node, error) {
	if len(d.CmdArgs) > 0 {
		if id, err := strconv.ParseUint(d.CmdArgs[0].Key, 10, 64); err == nil {
			if n := s.cluster.nodes[consensus.ReplicaID(id)]; n != nil {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: the first argument must name a replica", d.Cmd)
}

func number(d *datadriven.TestData, key string, otherwise int) int {
	for _, arg := range d.CmdArgs {
		if arg.Key == key && len(arg.Vals) == 1 {
			if n, err := strconv.Atoi(arg.Vals[0]); err == nil {
				return n
			}
		}
	}
	return otherwise
}

func linkOf(d *datadriven.TestData) link {
	return link{consensus.ReplicaID(number(d, "from", 0)), consensus.ReplicaID(number(d, "to", 0))}
}

func replicas(d *datadriven.TestData, key string) (ids []consensus.ReplicaID) {
	for _, arg := range d.CmdArgs {
		if arg.Key != key {
			continue
		}
		for _, val := range arg.Vals {
			if id, err := strconv.ParseUint(val, 10, 64); err == nil {
				ids = append(ids, consensus.ReplicaID(id))
			}
		}
	}
	return ids
}
