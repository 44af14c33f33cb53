package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/quoratedb/quorate/cmd/quorate/serveflags"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/server"
)

// A node that is started with --join adds itself to a cluster, as a client of it, before it starts, and has itself promoted afterwards. What it has done
// stands in the list of members and in its data directory, and nowhere else: so it can be killed at any time, and started again with the same flags.

const (
	// joinPatience is how long the cluster may be unfit for another member, or not answer.
	joinPatience = 2 * time.Minute
	// joinTimeout is how long one request may take: a change of members is over when all shards have followed.
	joinTimeout = 30 * time.Second
	joinPause   = 300 * time.Millisecond
)

type joining struct {
	client  *app
	learner bool // it is not to be promoted
	logger  *slog.Logger
	run     func(context.Context, server.Options) (node, error)
}

func newJoining(a *app, flags serveflags.JoinOptions, logger *slog.Logger) *joining {
	const prefix = "join-"
	client := *a
	client.endpoints, client.endpointsFrom, client.timeout = strings.Split(flags.Endpoints, ","), "--join", joinTimeout
	client.security = clientSecurity{caFile: flags.CAFile, certFile: flags.CertFile, keyFile: flags.KeyFile, skipVerify: flags.SkipVerify, prefix: prefix}
	client.user = userFlags{name: flags.User, passwordFile: flags.PasswordFile, tokenFile: flags.TokenFile, prefix: prefix}
	return &joining{client: &client, learner: flags.Learner, logger: logger, run: a.start}
}

// start makes the node a member, unless it is one, and starts it.
func (j *joining) start(ctx context.Context, options server.Options) (node, error) {
	options, err := options.Recall()
	if err != nil {
		return nil, err
	}
	belongs, promote := options.Belongs()
	if belongs {
		j.logger.Info("--join is ignored: the data directory is that of a node that belongs to a cluster", "data_dir", options.Node.DataDir)
	} else if options, promote, err = j.join(ctx, options); err != nil {
		return nil, err
	}
	running, err := j.run(ctx, options)
	if err != nil || !promote || j.learner {
		return running, err
	}
	return j.promoteWhenReady(running, options), nil
}

// join makes the node a member, as often as it is called.
func (j *joining) join(ctx context.Context, options server.Options) (joined server.Options, promote bool, err error) {
	err = j.asClient(ctx, "join", func(ctx context.Context, client *clientv3.Client) error {
		list, err := client.MemberList(ctx)
		if err != nil {
			return err
		}
		members := list.Members
		own, err := ownAmong(members, options.Node)
		if err != nil {
			return err
		}
		if own == nil {
			var urls []string
			for _, u := range options.Node.AdvertisePeerURLs {
				urls = append(urls, u.String())
			}
			added, err := client.MemberAddAsLearner(ctx, urls)
			if err != nil {
				return err
			}
			own, members = added.Member, added.Members
			j.logger.Info("this node was added to the cluster", "node_id", fmt.Sprintf("%x", own.ID), "cluster_id", fmt.Sprintf("%x", added.Header.GetClusterId()))
		} else {
			j.logger.Info("this node was added to the cluster before", "node_id", fmt.Sprintf("%x", own.ID))
		}
		promote, joined = own.IsLearner, options.Joining(records(members))
		return nil
	})
	return joined, promote, err
}

// ownAmong finds the member that this node is. nil: it has to be added.
func ownAmong(list []*pb.Member, self server.NodeOptions) (own *pb.Member, err error) {
	for _, m := range list {
		if !self.ReachedAt(m.PeerURLs) {
			continue
		}
		if m.Name != "" && m.Name != self.Name {
			return nil, usagef("--initial-advertise-peer-urls=%s are those of member %x, which is called %q, and this is --name=%s; give this node addresses of its own",
				strings.Join(m.PeerURLs, ","), m.ID, m.Name, self.Name)
		}
		own = m
	}
	return own, nil
}

func records(list []*pb.Member) (records []kv.NodeRecord) {
	for _, m := range list {
		records = append(records, kv.NodeRecord{ID: kv.NodeID(m.ID), Name: m.Name, PeerURLs: m.PeerURLs})
	}
	return records
}

// asClient does something with the cluster, again and again as long as it is not fit for that.
func (j *joining) asClient(ctx context.Context, what string, do func(context.Context, *clientv3.Client) error) error {
	if err := j.client.logIn(ctx); err != nil {
		return err
	}
	client, err := j.client.connect(ctx, what)
	if err != nil {
		return err
	}
	defer client.Close()
	said := ""
	for deadline := time.Now().Add(joinPatience); ; {
		limited, cancel := context.WithTimeout(ctx, joinTimeout)
		err := do(limited, client)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !passes(err) || time.Now().After(deadline):
			return j.client.explain(ctx, "--join", err)
		}
		if said != err.Error() {
			said = err.Error()
			j.logger.Info("the cluster is not fit for another change of its members yet", "doing", what, "answer", plain(said))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(joinPause):
		}
	}
}

// passes tells whether an error says that the same may be possible later, or that the list of members has to be read again.
func passes(err error) bool {
	for _, later := range []error{rpctypes.ErrTooManyLearners, rpctypes.ErrMemberLearnerNotReady, rpctypes.ErrMemberNotEnoughStarted, rpctypes.ErrPeerURLExist, rpctypes.ErrMemberExist,
		rpctypes.ErrMemberNotLearner} {
		if errors.Is(rpctypes.Error(err), later) {
			return true
		}
	}
	code, _ := codeOf(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// promoting is a node that is to get a vote when it has the data.
type promoting struct {
	node
	stop context.CancelFunc
	done chan struct{}
}

// Close ends the node, and before that whoever would have it promoted.
func (p *promoting) Close(ctx context.Context) error {
	p.stop()
	<-p.done
	return p.node.Close(ctx)
}

func (j *joining) promoteWhenReady(running node, options server.Options) *promoting {
	ctx, stop := context.WithCancel(context.Background())
	p := &promoting{node: running, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		select {
		case <-running.Ready():
			j.promote(ctx, options)
		case <-ctx.Done():
		}
	}()
	return p
}

// promote has the node promoted. It goes on until that is so, or cannot be.
func (j *joining) promote(ctx context.Context, options server.Options) {
	for {
		err := j.asClient(ctx, "promotion", func(ctx context.Context, client *clientv3.Client) error {
			list, err := client.MemberList(ctx)
			if err != nil {
				return err
			}
			own, err := ownAmong(list.Members, options.Node)
			if err != nil || own == nil || !own.IsLearner {
				return err
			}
			_, err = client.MemberPromote(ctx, own.ID)
			return err
		})
		var later *unavailableError
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			j.logger.Info("this node has the data of the cluster, and a vote")
			return
		case !errors.As(err, &later):
			j.logger.Error("this node could not be promoted, and stays without a vote; promote it with `quorate member promote`", "error", err)
			return
		}
		j.logger.Warn("this node could not be promoted yet", "error", err)
	}
}
