package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

type watchFlags struct {
	spanFlags
	revision           int64
	previous, progress bool
	count              int64
}

func (a *app) watchCommand() *cobra.Command {
	f := &watchFlags{}
	command := &cobra.Command{
		Use:   "watch KEY [END]",
		Short: "Show changes as they happen",
		Long: `Shows every change of KEY, or of all keys from KEY on and before END, or of all that
begin with KEY, a line each: revision, what happened, key and value. It goes on
through restarts and leader changes until Ctrl-C. Standard error says what is watched,
and from which revision on, once a node has confirmed it.`,
		Example: `  quorate watch greeting
  quorate watch app/ --prefix --prev
  quorate watch app/ --prefix --rev 100       # all changes from revision 100 on
  quorate watch lock/leader --count 1         # wait for one change`,
		Args: cobra.RangeArgs(1, 2),
		RunE: a.command(func(ctx context.Context, arguments []string) error { return a.watch(ctx, f, arguments) }),
	}
	f.add(command)
	flags := command.Flags()
	flags.Int64Var(&f.revision, "rev", 0, "begin with this revision (0: with the next change)")
	flags.BoolVar(&f.previous, "prev", false, "show what was there before")
	flags.BoolVar(&f.progress, "progress", false, "say from time to time up to which revision everything was shown")
	flags.Int64Var(&f.count, "count", 0, "end after so many changes (0: never)")
	return command
}

func (a *app) watch(ctx context.Context, f *watchFlags, arguments []string) error {
	key, options, _, err := f.span(a, arguments)
	if err != nil {
		return err
	}
	if f.revision < 0 || f.count < 0 {
		return usagef("--rev and --count must not be negative")
	}
	options = append(options, clientv3.WithRev(f.revision), clientv3.WithCreatedNotify())
	if f.previous {
		options = append(options, clientv3.WithPrevKV())
	}
	if f.progress {
		options = append(options, clientv3.WithProgressNotify())
	}
	client, err := a.connect(ctx, "watch")
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Watch returns only once a stream is open.
	opened := make(chan clientv3.WatchChan, 1)
	go func() { opened <- client.Watch(clientv3.WithRequireLeader(ctx), key, options...) }()
	return a.follow(ctx, f, f.describe(a, arguments), opened)
}

// follow prints responses until the context ends. The node confirms a watch at
// once; if it does not within the timeout, nobody serves it.
func (a *app) follow(ctx context.Context, f *watchFlags, what string, opened <-chan clientv3.WatchChan) error {
	confirmation := time.NewTimer(a.timeout)
	defer confirmation.Stop()
	shown := int64(0)
	var responses clientv3.WatchChan
	for {
		select {
		case <-ctx.Done():
			return nil // Ctrl-C is how a watch ends
		case responses = <-opened:
		case <-confirmation.C:
			return a.explain(ctx, "watch", context.DeadlineExceeded)
		case response, open := <-responses:
			switch {
			case ctx.Err() != nil:
				return nil
			case !open:
				return &unavailableError{"watch: the cluster ended it"}
			case response.CompactRevision != 0:
				return fmt.Errorf("watch: history before revision %d is compacted; begin there (--rev %d)", response.CompactRevision, response.CompactRevision)
			case response.Err() != nil:
				return a.explain(ctx, "watch", response.Err())
			}
			confirmation.Stop()
			if response.Created {
				a.announce(f, what, response.Header.Revision)
			}
			done, err := a.printWatch(f, &response, &shown)
			if done || err != nil {
				return err
			}
		}
	}
}

// announce says that the watch stands, so that whoever sees nothing knows why. It is no part of the output.
func (a *app) announce(f *watchFlags, what string, revision int64) {
	from := f.revision
	if from == 0 {
		from = revision + 1
	}
	fmt.Fprintf(a.stderr, "watching from revision %d on: %s\n", from, what)
}

type eventJSON struct {
	Type     string        `json:"type"`
	Revision int64         `json:"revision"`
	KeyValue *keyValueJSON `json:"kv,omitempty"`
	Previous *keyValueJSON `json:"prev_kv,omitempty"`
}

func (a *app) printWatch(f *watchFlags, response *clientv3.WatchResponse, shown *int64) (done bool, err error) {
	if response.IsProgressNotify() {
		return false, a.printProgress(response.Header.Revision)
	}
	for _, event := range response.Events {
		if err := a.printEvent(event); err != nil {
			return false, err
		}
		*shown++
		if f.count > 0 && *shown >= f.count {
			return true, nil
		}
	}
	return false, nil
}

func (a *app) printProgress(revision int64) error {
	if a.json() {
		return writeJSON(a.stdout, eventJSON{Type: "progress", Revision: revision})
	}
	_, err := fmt.Fprintf(a.stdout, "%d\t(everything up to here was shown)\n", revision)
	return err
}

func (a *app) printEvent(event *clientv3.Event) error {
	kind := "delete"
	if event.Type == clientv3.EventTypePut {
		kind = "put"
	}
	if a.json() {
		return writeJSON(a.stdout, eventJSON{
			Type: kind, Revision: event.Kv.ModRevision,
			KeyValue: toJSON(event.Kv, a.hex), Previous: toJSON(event.PrevKv, a.hex),
		})
	}
	line := fmt.Sprintf("%d\t%s\t%s", event.Kv.ModRevision, kind, text(event.Kv.Key, a.hex))
	if kind == "put" {
		line += " = " + text(event.Kv.Value, a.hex)
	}
	if event.PrevKv != nil {
		line += "\t(was " + text(event.PrevKv.Value, a.hex) + ")"
	}
	_, err := fmt.Fprintln(a.stdout, line)
	return err
}
