package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/proto/native"
)

// shardsInterval is how often --watch shows the shards again.
const shardsInterval = 2 * time.Second

func (a *app) shardsCommand() *cobra.Command {
	watch := false
	command := &cobra.Command{
		Use:   "shards",
		Short: "Show the shards: keys, leaders, load",
		Long: `Asks one node, the first of --endpoints that answers, for what it knows of all shards; each
node has a replica of each shard. BYTES are those in files, about: what is not flushed yet is
missing, and what is deleted counts until files are merged. READS/S are what that node reads for
clients, WRITES/S the changes of keys that are applied, both over the last seconds. CLOSED is the
highest revision that the node has of the shard. Where shard 1 is led revisions are numbered.`,
		Example: "  quorate shards\n  quorate shards --watch\n  quorate shards --endpoints 10.0.0.2:2379 --output json",
		Args:    cobra.NoArgs,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			if watch {
				return a.watchShards(ctx)
			}
			return a.showShards(ctx)
		}),
	}
	command.Flags().BoolVar(&watch, "watch", false, "show them again every 2 s, until Ctrl-C")
	return command
}

// watchShards shows the shards again and again: on a terminal in the same place, elsewhere one below the other.
func (a *app) watchShards(ctx context.Context) error {
	ticker := time.NewTicker(shardsInterval)
	defer ticker.Stop()
	for first := true; ; first = false {
		switch {
		case a.onTerminal():
			fmt.Fprint(a.stdout, "\x1b[H\x1b[2J")
		case !first && !a.json():
			fmt.Fprintln(a.stdout)
		}
		if err := a.showShards(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // the regular end
		case <-ticker.C:
		}
	}
}

// onTerminal tells whether the output goes to a person's screen.
func (a *app) onTerminal() bool {
	file, is := a.stdout.(*os.File)
	if !is {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (a *app) showShards(ctx context.Context) error {
	list, err := a.askShards(ctx)
	if err != nil {
		return err
	}
	if a.json() {
		return writeJSON(a.stdout, list)
	}
	rows := make([][]string, len(list.Shards))
	for i := range list.Shards {
		rows[i] = list.Shards[i].row()
	}
	return table(a.stdout, []string{"SHARD", "KEYS OF", "PROTOCOL", "LEADER", "TERM", "APPLIED", "KEYS", "BYTES", "READS/S", "WRITES/S", "CLOSED", "STATE"}, rows)
}

// shardList is what one node knows.
type shardList struct {
	Endpoint  string        `json:"endpoint"`
	Member    string        `json:"member"`
	Partition string        `json:"partition"`
	Shards    []shardStatus `json:"shards"`
}

// shardStatus is one row. Keys that bound a shard are written as in --initial-split-keys.
type shardStatus struct {
	Shard     uint64  `json:"shard"`
	Lower     string  `json:"lower,omitempty"`
	Upper     string  `json:"upper,omitempty"`
	FirstSlot uint32  `json:"first_slot,omitempty"`
	EndSlot   uint32  `json:"end_slot,omitempty"`
	Protocol  string  `json:"protocol"`
	LeaderID  string  `json:"leader_id,omitempty"`
	Leader    string  `json:"leader,omitempty"`
	Term      uint64  `json:"term"`
	Applied   uint64  `json:"applied_index"`
	Keys      int64   `json:"keys"`
	Bytes     int64   `json:"bytes"`
	Reads     float64 `json:"reads_per_second"`
	Writes    float64 `json:"writes_per_second"`
	Closed    int64   `json:"closed_revision"`
	State     string  `json:"state"`
}

// askShards asks one endpoint after the other until one answers.
func (a *app) askShards(ctx context.Context) (*shardList, error) {
	endpoints, err := a.cleanEndpoints()
	if err != nil {
		return nil, err
	}
	var last error
	for _, endpoint := range endpoints {
		if state := probe(endpoint); state != reachable {
			continue
		}
		list, err := a.askShardsOf(ctx, endpoint)
		if err == nil {
			return list, nil
		}
		last = err
	}
	switch code, message := codeOf(last); {
	case ctx.Err() != nil:
		return nil, errors.New("shards: interrupted")
	case last == nil:
		return nil, nobodyAnswered("shards", nil)
	case code == codes.Unimplemented:
		return nil, errors.New("shards: the node is no node of Quorate, or of a version before shards; `quorate status` shows more")
	case code == codes.Unavailable || code == codes.DeadlineExceeded:
		return nil, nobodyAnswered("shards", nil)
	default:
		return nil, refused("shards", message)
	}
}

func (a *app) askShardsOf(ctx context.Context, endpoint string) (*shardList, error) {
	client, err := a.newClient([]string{endpoint}, a.timeout)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	answer, err := invokeOwn(ctx, client, native.ListShards)
	if err != nil {
		return nil, err
	}
	list, err := native.DecodeShardList(answer)
	if err != nil {
		return nil, err
	}
	names := map[uint64]string{}
	members, err := pb.NewClusterClient(client.ActiveConnection()).MemberList(ctx, &pb.MemberListRequest{Linearizable: false})
	if err == nil { // without names there are IDs
		for _, member := range members.Members {
			names[member.ID] = member.Name
		}
	}
	return newShardList(endpoint, &list, names), nil
}

// invokeOwn makes one of Quorate's own calls, and returns the message that is the answer.
func invokeOwn(ctx context.Context, client *clientv3.Client, call string) ([]byte, error) {
	answer := &emptypb.Empty{} // an empty message keeps the fields that it does not know as they came
	if err := client.ActiveConnection().Invoke(ctx, call, &emptypb.Empty{}, answer); err != nil {
		return nil, err
	}
	return answer.ProtoReflect().GetUnknown(), nil
}

func newShardList(endpoint string, list *native.ShardList, names map[uint64]string) *shardList {
	shown := &shardList{Endpoint: endpoint, Member: list.Member.String(), Partition: list.Partition, Shards: []shardStatus{}}
	for _, s := range list.Shards {
		status := shardStatus{
			Shard: uint64(s.ID), Lower: partition.FormatKeys([][]byte{s.Lower}), Upper: partition.FormatKeys([][]byte{s.Upper}), FirstSlot: s.FirstSlot, EndSlot: s.EndSlot,
			Protocol: list.Protocol, Leader: names[uint64(s.Leader)], Term: s.Term, Applied: s.Applied, Keys: s.Keys, Bytes: s.Bytes,
			Reads: s.Reads, Writes: s.Writes, Closed: int64(s.Closed), State: s.State,
		}
		if s.Leader != kv.NodeID(0) {
			status.LeaderID = s.Leader.String()
		}
		shown.Shards = append(shown.Shards, status)
	}
	return shown
}

func (s *shardStatus) row() []string {
	leader := s.Leader
	if leader == "" {
		leader = orDash(s.LeaderID)
	}
	return []string{
		strconv.FormatUint(s.Shard, 10), s.span(), orDash(s.Protocol), leader, strconv.FormatUint(s.Term, 10), strconv.FormatUint(s.Applied, 10),
		strconv.FormatInt(s.Keys, 10), byteSize(s.Bytes), perSecond(s.Reads), perSecond(s.Writes), strconv.FormatInt(s.Closed, 10), s.State,
	}
}

// span says in a few words which keys the shard has.
func (s *shardStatus) span() string {
	switch {
	case s.EndSlot > 0:
		return fmt.Sprintf("slots %d to %d", s.FirstSlot, s.EndSlot-1)
	case s.Lower == "" && s.Upper == "":
		return "all"
	case s.Lower == "":
		return "below " + s.Upper
	case s.Upper == "":
		return "from " + s.Lower
	}
	return s.Lower + " to " + s.Upper
}

func perSecond(rate float64) string {
	if rate < 10 {
		return strconv.FormatFloat(rate, 'f', 1, 64)
	}
	return strconv.FormatFloat(rate, 'f', 0, 64)
}
