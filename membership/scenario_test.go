package membership

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// The language of testdata. There is one process, of node 1, with groups, whose first replica i lives on node i. What a command is about is group 1, unless it
// says of=2. Its disk is 10 and its instance 100, if nothing
// else is said. All times are milliseconds on its clock, which begins at 0; heartbeats come every 100, the election timeout is 1,000.
//
//	node nodes=3 [disk=10] [process=100] [lost] [position=n] [marks]      a process begins; its log is at that position and holds those marks
//	group [empty] [founders=2] [row] [voters=(1,2,3)] [learners=(4)] [placed=(1/1/10,2/2/20)] [added]    added: the group began without this node; row: what was saved last is on the disk
//	connected node=2 [format=4]
//	beats node=2 process=200                 heartbeats of that process come; process=0: no more
//	question from=2 standing=new disk=20 [replica=2]
//	answer from=2 standing=member disk=10 replica=1 [bound=10] [new] [confirmed] [out]
//	message from=2 [replica=2] [to=1] [disk=20] [process=200] [position=5] [snapshot]      may it reach the consensus core?
//	marks from=2 marks
//	loss from=2 term=3                       a leader says that entries are lost here
//	placed 1/1/10 2/4/21                     the table of placements: node/replica/disk
//	config at=9 voters=(1,3,4) [learners=(5)]    an entry at the index changed the membership
//	list version=2 voters=(1,2) [learners=(4)]   this node has heard of that list of members: nodes
//	roster version=2 voters=(1,2) [learners=(4)] [leaving=(3)] [at=9]    an entry set the roster: nodes, of which those up to nodes= began with the group
//	following                                the version that is followed
//	installed voters=(1,3,4) placed=(...)        a snapshot did
//	flushed at=9
//	lead applied=5, step-down
//	replicas 3/9 4/8[/silent][/snapshot]     what the leader knows of the others, for the next ticks
//	give-up                                  the replica can not go on, and its node does
//	remove                                   the replica is removed; "group empty row" is the next one on this disk, "group row" finds rows of the one before
//	tick, saved, assigned, confirmed node=2 disk=20
//	write [marks], sync                      the position of the next write, and whether it takes marks along
//
// marks are node/disk/position/began:instance[+began:instance]. Every command may have now=ms. disk=20.1 is disk 20 after one
// replica of the group was removed from it.
type script struct {
	node     *Node
	group    *Group // that the command is about
	groups   map[uint64]*Group
	options  Options
	beats    map[kv.NodeID]uint64
	now      time.Duration
	row      []byte
	config   consensus.Config
	seats    kv.Roster
	table    []shard.Placement
	progress []consensus.Replication
}

func (s *script) Instance(node kv.NodeID) uint64 { return s.beats[node] }
func (s *script) Alive(node kv.NodeID) bool      { return s.beats[node] != 0 }

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s *script
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "node" {
				row := []byte(nil)
				if s != nil {
					row = s.row
				}
				s = &script{beats: map[kv.NodeID]uint64{}, row: row, groups: map[uint64]*Group{}}
			}
			s.now = max(s.now, time.Duration(number(t, d, "now"))*time.Millisecond)
			s.group = s.groups[number(t, d, "of", 1)]
			out := s.run(t, d) + s.carryOut()
			for _, err := range s.check() {
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
			}
			if out == "" {
				out = "ok\n"
			}
			return out
		})
	})
}

func (s *script) check() (errs []error) {
	errs = append(errs, s.node.Check())
	for _, g := range s.groups {
		errs = append(errs, g.Check())
	}
	return errs
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	from := kv.NodeID(number(t, d, "from"))
	switch d.Cmd {
	case "node":
		return s.beginNode(t, d)
	case "group":
		return s.openGroup(t, d)
	case "connected":
		s.node.Connected(kv.NodeID(number(t, d, "node")), uint16(number(t, d, "format", 4)))
	case "beats":
		s.beats[kv.NodeID(number(t, d, "node"))] = number(t, d, "process")
	case "question", "answer":
		if err := s.group.Receive(s.now, from, message(t, d)); err != nil {
			return "refused: " + err.Error() + "\n"
		}
	case "message":
		m := Arrival{Node: from, From: consensus.ReplicaID(number(t, d, "replica", uint64(from))), To: consensus.ReplicaID(number(t, d, "to", uint64(s.group.Self()))), Snapshot: d.HasArg("snapshot")}
		m.Sender = Sender{Instance: number(t, d, "process"), Disk: site(t, d, "disk").Disk, Position: number(t, d, "position")}
		m.Life = site(t, d, "disk").Life
		s.node.BeginRound()
		if err := s.group.Admit(s.now, m); err != nil {
			return "refused: " + err.Error() + "\n"
		}
		return fmt.Sprintf("admitted, of process %d\n", s.node.HeardInstance(from))
	case "marks":
		s.node.Receive(s.now, from, parseMarks(t, d))
	case "loss":
		return fmt.Sprintf("believed: %v, votes: %v\n", s.group.LossClaimed(s.now, from, consensus.ReplicaID(from), consensus.Term(number(t, d, "term"))), !s.group.LossPending(s.now))
	case "placed":
		s.table = parseTable(t, words(d))
		if err := s.group.Placed(consensus.Index(number(t, d, "at")), s.table, s.seats); err != nil {
			return "stops: " + err.Error() + "\n"
		}
	case "list":
		s.group.Follow(s.parseRoster(t, d))
	case "roster":
		s.seats = s.parseRoster(t, d)
		if err := s.group.Placed(consensus.Index(number(t, d, "at")), s.table, s.seats); err != nil {
			return "stops: " + err.Error() + "\n"
		}
	case "following":
		version, settled := s.group.Following()
		return fmt.Sprintf("version %d, settled: %v\n", version, settled)
	case "config":
		s.group.ConfigApplied(consensus.Index(number(t, d, "at")), s.parseConfig(t, d))
	case "installed":
		s.table = parseTable(t, values(d, "placed"))
		if d.HasArg("version") {
			s.seats = s.parseRoster(t, d)
		}
		if err := s.group.Installed(s.parseConfig(t, d), s.table, s.seats); err != nil {
			return "stops: " + err.Error() + "\n"
		}
	case "flushed":
		s.group.Flushed(consensus.Index(number(t, d, "at")))
	case "lead":
		s.group.Lead(consensus.Index(number(t, d, "applied")))
	case "step-down":
		s.group.StepDown()
	case "replicas":
		s.progress = parseReplicas(t, words(d))
	default:
		return s.runShort(t, d)
	}
	return ""
}

func (s *script) runShort(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "tick":
		if s.group != nil {
			s.group.Tick(s.now)
			if s.group.WantsRepair() {
				s.group.Repair(Progress{Config: s.config, Replicas: s.progress})
			}
		}
		s.node.Tick(s.now)
	case "give-up":
		s.group.GiveUp(s.now)
	case "remove":
		s.row = s.group.RemovedRow()
		s.group.Remove(s.now)
	case "saved":
		s.group.Saved()
	case "assigned":
		s.group.Assigned()
	case "confirmed":
		s.group.Confirmed(Question{From: kv.NodeID(number(t, d, "node")), Site: site(t, d, "disk")})
	case "write":
		r := s.node.Write(s.now)
		if r == nil {
			return "nothing\n"
		}
		all, err := DecodeMarks(r.Data)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("write %d%s\n", r.Position, marksText(all))
	case "sync":
		s.node.Syncing()
		s.node.Synced()
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	return ""
}

func (s *script) beginNode(t *testing.T, d *datadriven.TestData) string {
	s.options = options(int(number(t, d, "nodes", 3)))
	s.options.Disk, s.options.Instance, s.options.Lost = number(t, d, "disk", 10), number(t, d, "process", 100), d.HasArg("lost")
	var err error
	record := storage.NodeRecord{Position: number(t, d, "position"), Data: AppendMarks(nil, parseMarks(t, d))}
	if s.node, err = NewNode(s.now, s.options, s, record); err != nil {
		return err.Error() + "\n"
	}
	s.node.Begin()
	return ""
}

func (s *script) openGroup(t *testing.T, d *datadriven.TestData) string {
	id := number(t, d, "of", 1)
	state := GroupState{Group: consensus.GroupID(id), Founders: int(number(t, d, "founders", uint64(len(s.options.Nodes)/2+1))), Empty: d.HasArg("empty"), Table: parseTable(t, values(d, "placed"))}
	s.table = state.Table
	if d.HasArg("added") {
		state.Known = s.options.Nodes
	}
	for i, node := range s.options.Nodes {
		if d.HasArg("added") {
			break
		}
		state.First = append(state.First, Home{node, consensus.ReplicaID(i + 1)})
		state.Config.Voters = append(state.Config.Voters, consensus.ReplicaID(i+1))
	}
	if d.HasArg("voters") {
		state.Config = s.parseConfig(t, d)
	}
	if d.HasArg("row") {
		state.Row = s.row
	}
	s.config = state.Config
	var row []byte
	var err error
	if s.group, row, err = s.node.OpenGroup(state); err != nil {
		return "stops: " + err.Error() + "\n"
	}
	s.groups[id] = s.group
	if row != nil {
		return "saves at once which replica this is\n"
	}
	return ""
}

// carryOut prints what is to be done.
func (s *script) carryOut() string {
	var b strings.Builder
	node := s.node.Ready()
	for _, m := range node.Marks {
		fmt.Fprintf(&b, "to node %d, marks:%s\n", uint64(m.To), marksText(m.Marks))
	}
	for _, r := range node.Refused {
		fmt.Fprintf(&b, "not believed: %v\n", r.Err)
	}
	if node.Unwitnessed != nil {
		fmt.Fprintf(&b, "might know better: %d\n", *node.Unwitnessed)
	}
	if node.Failed != nil {
		fmt.Fprintf(&b, "the node stops: %v\n", node.Failed)
	}
	if s.group == nil {
		return b.String()
	}
	r := s.group.Ready()
	for _, m := range r.Messages {
		fmt.Fprintf(&b, "to node %d: %s\n", uint64(m.To), messageText(&m.Message))
	}
	for _, node := range r.Gone {
		fmt.Fprintf(&b, "node %d has lost its replica\n", uint64(node))
	}
	for _, node := range r.GaveUp {
		fmt.Fprintf(&b, "the replica of node %d does nothing any more\n", uint64(node))
	}
	for _, q := range r.Confirm {
		fmt.Fprintf(&b, "is to be confirmed as the leader, for node %d on %s\n", uint64(q.From), siteText(q.Site))
	}
	if r.Save != nil {
		s.row = r.Save.Row
		fmt.Fprintf(&b, "saves that this is replica %d\n", r.Save.Replica)
	}
	if r.Assign != nil {
		fmt.Fprintf(&b, "proposes a placement: node %d on %s, first replica %d, replaces %d\n", uint64(r.Assign.Node), siteText(shard.Site{Disk: r.Assign.Disk, Life: r.Assign.Life}), r.Assign.First, r.Assign.Replaces)
	}
	if r.Seat != nil {
		fmt.Fprintf(&b, "proposes the roster %s\n", rosterText(r.Seat))
	}
	if r.HandOver != 0 {
		fmt.Fprintf(&b, "hands over to node %d\n", uint64(r.HandOver))
	}
	if r.Nodes {
		s.node.SetNodes(s.group.Nodes()) // there is no other group
		fmt.Fprintf(&b, "has to do with the nodes %d\n", s.group.Nodes())
	}
	if r.Change != nil {
		fmt.Fprintf(&b, "proposes the membership %v\n", *r.Change)
	}
	if r.Lost {
		fmt.Fprintf(&b, "replica %d is lost\n", s.group.Self())
	}
	if r.Joined {
		fmt.Fprintf(&b, "takes part as replica %d\n", s.group.Self())
	}
	if r.Standing != nil {
		fmt.Fprintf(&b, "standing: %s\n", r.Standing.Text)
	}
	if r.Failed != nil {
		fmt.Fprintf(&b, "stops: %v\n", r.Failed)
	}
	return b.String()
}

func messageText(m *Message) string {
	kind := "question"
	if m.Kind == KindAnswer {
		kind = "answer"
	}
	text := fmt.Sprintf("%s, it is %s", kind, []string{"", "member", "new", "lost", "removed"}[m.Standing])
	text += fmt.Sprintf("; %s, replica %d", siteText(m.Site), m.Replica)
	if m.Kind == KindAnswer {
		text += " on " + siteText(m.Bound)
	}
	if m.New {
		text += ", both were new"
	}
	if m.Out {
		text += ", the node is out of the group"
	}
	if m.Confirmed {
		text += ", a leader says so"
	}
	return text
}

func message(t *testing.T, d *datadriven.TestData) *Message {
	m := &Message{Kind: KindQuestion, New: d.HasArg("new"), Confirmed: d.HasArg("confirmed"), Out: d.HasArg("out"), Group: 1, Site: site(t, d, "disk"),
		Replica: consensus.ReplicaID(number(t, d, "replica")), Bound: site(t, d, "bound")}
	if d.Cmd == "answer" {
		m.Kind = KindAnswer
	}
	var word string
	d.ScanArgs(t, "standing", &word)
	m.Standing = map[string]standing{"member": standingMember, "new": standingNew, "lost": standingLost, "removed": standingRemoved}[word]
	return m
}

// words are the arguments without values.
func words(d *datadriven.TestData) (list []string) {
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			list = append(list, a.Key)
		}
	}
	return list
}

func values(d *datadriven.TestData, key string) []string {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			return a.Vals
		}
	}
	return nil
}

func number(t *testing.T, d *datadriven.TestData, key string, otherwise ...uint64) (n uint64) {
	for _, n = range otherwise {
	}
	d.MaybeScanArgs(t, key, &n)
	return n
}

// site is a disk, or disk.life.
func site(t *testing.T, d *datadriven.TestData, key string) shard.Site {
	word := "0"
	d.MaybeScanArgs(t, key, &word)
	return parseSite(t, word)
}

func parseSite(t *testing.T, word string) (s shard.Site) {
	disk, life, later := strings.Cut(word, ".")
	_, err := fmt.Sscan(disk, &s.Disk)
	if later && err == nil {
		_, err = fmt.Sscan(life, &s.Life)
	}
	if err != nil {
		t.Fatalf("%s: %v", word, err)
	}
	return s
}

func siteText(s shard.Site) string {
	if s.Life > 0 {
		return fmt.Sprintf("disk %d, life %d", s.Disk, s.Life)
	}
	return fmt.Sprintf("disk %d", s.Disk)
}

func parseTable(t *testing.T, list []string) (table []shard.Placement) {
	for _, word := range list {
		var p shard.Placement
		var node uint64
		var where string
		if _, err := fmt.Sscanf(word, "%d/%d/%s", &node, &p.Replica, &where); err != nil {
			t.Fatalf("%s: %v", word, err)
		}
		p.Site = parseSite(t, where)
		p.Node = kv.NodeID(node)
		table = append(table, p)
	}
	return table
}

func parseReplicas(t *testing.T, list []string) (replicas []consensus.Replication) {
	for _, word := range list {
		parts := strings.Split(word, "/")
		r := consensus.Replication{Active: true}
		if _, err := fmt.Sscan(parts[0], &r.Replica); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(parts[1], &r.Match); err != nil {
			t.Fatal(err)
		}
		for _, part := range parts[2:] {
			r.Active, r.Snapshotting = r.Active && part != "silent", r.Snapshotting || part == "snapshot"
		}
		replicas = append(replicas, r)
	}
	return replicas
}

func (s *script) parseConfig(t *testing.T, d *datadriven.TestData) (c consensus.Config) {
	for key, ids := range map[string]*[]consensus.ReplicaID{"voters": &c.Voters, "learners": &c.Learners, "outgoing": &c.Outgoing} {
		for _, word := range values(d, key) {
			var id consensus.ReplicaID
			if _, err := fmt.Sscan(word, &id); err != nil {
				t.Fatal(err)
			}
			*ids = append(*ids, id)
		}
	}
	s.config = c
	return c
}

// parseRoster reads nodes. In installed, where voters and learners are replicas, they have names of their own.
func (s *script) parseRoster(t *testing.T, d *datadriven.TestData) kv.Roster {
	r := kv.Roster{Version: number(t, d, "version")}
	keys := []string{"voters", "learners", "leaving"}
	if d.Cmd == "installed" {
		keys = []string{"voting", "learning", "leaving"}
	}
	for i, key := range keys {
		for _, word := range values(d, key) {
			seat := kv.Seat{Role: kv.SeatRole(i + 1)}
			var node uint64
			if _, err := fmt.Sscan(word, &node); err != nil {
				t.Fatal(err)
			}
			if seat.Node = kv.NodeID(node); node <= uint64(len(s.options.Nodes)) && (d.Cmd != "installed" || seat.Node != s.options.Self) {
				seat.First = node
			}
			r.Seats = append(r.Seats, seat)
		}
	}
	slices.SortFunc(r.Seats, func(a, b kv.Seat) int { return cmp.Compare(a.Node, b.Node) })
	return r
}

func rosterText(r *kv.Roster) string {
	text := fmt.Sprintf("of version %d:", r.Version)
	for _, s := range r.Seats {
		text += fmt.Sprintf(" node %d %s", uint64(s.Node), []string{"", "votes", "learns", "leaves"}[s.Role])
		if s.First != 0 {
			text += fmt.Sprintf(" (first replica %d)", s.First)
		}
	}
	return text
}

func parseMarks(t *testing.T, d *datadriven.TestData) (all []NodeMark) {
	for _, word := range words(d) {
		parts := strings.Split(word, "/")
		if len(parts) != 4 {
			continue
		}
		var m NodeMark
		var node uint64
		if _, err := fmt.Sscan(strings.Join(parts[:3], " "), &node, &m.Disk, &m.Position); err != nil {
			t.Fatalf("%s: %v", word, err)
		}
		m.Node = kv.NodeID(node)
		for _, text := range strings.Split(parts[3], "+") {
			var p Process
			if _, err := fmt.Sscanf(text, "%d:%d", &p.Began, &p.Instance); err != nil {
				t.Fatalf("%s: %v", word, err)
			}
			m.Processes = append(m.Processes, p)
		}
		all = append(all, m)
	}
	return all
}

// marksText is what parseMarks reads.
func marksText(all []NodeMark) (text string) {
	for _, m := range all {
		text += fmt.Sprintf(" %d/%d/%d/", uint64(m.Node), m.Disk, m.Position)
		for i, p := range m.Processes {
			if i > 0 {
				text += "+"
			}
			text += fmt.Sprintf("%d:%d", p.Began, p.Instance)
		}
	}
	return text
}
