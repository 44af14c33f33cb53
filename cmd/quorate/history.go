package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/backup/cluster"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
	"github.com/quoratedb/quorate/timeline/calendar"
)

// parseTime reads a time that a person has written.
func parseTime(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		at, err = time.ParseInLocation(time.DateTime, text, time.Local)
	}
	if err != nil {
		return at, errors.New("must be like 2026-11-30T12:00:00Z, or 2026-11-30 12:00:00 in local time")
	}
	return at, nil
}

// askTimes asks the node that the client is connected to for the times of revisions.
func (a *app) askTimes(ctx context.Context, client *clientv3.Client, at timeline.Time, all bool) (timeline.Known, kv.Revision, timeline.Series, error) {
	node := cluster.Node{Name: "the node", Conn: client.ActiveConnection()}
	known, compacted, series, err := cluster.New([]cluster.Node{node}, a.timeout).Times(ctx, at, all)
	switch {
	case errors.Is(err, cluster.ErrNotQuorate):
		err = errors.New("the node is no node of Quorate, or of a version that keeps no times")
	case errors.Is(err, cluster.ErrUnavailable):
		err = &unavailableError{err.Error()}
	}
	return known, compacted, series, err
}

// revisionAt is what the store had at a time.
func (a *app) revisionAt(ctx context.Context, client *clientv3.Client, at time.Time) (kv.Revision, error) {
	millis := calendar.Millis(at)
	known, _, _, err := a.askTimes(ctx, client, millis, false)
	if err != nil {
		return 0, err
	}
	return calendar.Revision(known, millis)
}

func (a *app) historyCommand() *cobra.Command {
	limit := int64(0)
	command := &cobra.Command{
		Use:   "history KEY",
		Short: "Show the versions of a key, as far back as the history reaches",
		Long: `Lists what KEY was, from the oldest version on that is not compacted, with the revision
of each, and the time by which it was there: to about a second, by the clock of the node
that led then, and coarser where the history is long. A time with < is that of the oldest
revision whose time is known: the version is as old, or older. The node walks the whole
history for it.`,
		Example: "  quorate history greeting\n  quorate history app/config --limit 20 --output json",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			if limit < 0 {
				return usagef("--limit=%d: must not be negative", limit)
			}
			keys, err := a.fromArguments(arguments)
			if err != nil {
				return err
			}
			return a.history(ctx, keys[0], limit)
		}),
	}
	command.Flags().Int64Var(&limit, "limit", 0, "only so many, the oldest ones (0: all)")
	return command
}

// keptVersionJSON is a line of the history. Time is missing if it is not known; Before: it was there by then, and perhaps long before.
type keptVersionJSON struct {
	Type     string        `json:"type"`
	Revision int64         `json:"revision"`
	Time     time.Time     `json:"time,omitzero"`
	Before   bool          `json:"before,omitempty"`
	KeyValue *keyValueJSON `json:"kv,omitempty"`
}

// historian prints the versions of a key as they come.
type historian struct {
	app     *app
	series  timeline.Series
	limit   int64
	printed int64
}

func (h *historian) full() bool { return h.limit > 0 && h.printed >= h.limit }

func (h *historian) print(event *clientv3.Event) error {
	h.printed++
	line := keptVersionJSON{Type: "delete", Revision: event.Kv.ModRevision}
	if event.Type == clientv3.EventTypePut {
		line.Type, line.KeyValue = "put", toJSON(event.Kv, h.app.hex)
	}
	shown := "-"
	if after, by, known := h.series.When(kv.Revision(line.Revision)); known {
		line.Time, line.Before = calendar.Of(by), after == 0
		shown = line.Time.Local().Format(time.DateTime)
		if line.Before {
			shown = "<" + shown
		}
	}
	if h.app.json() {
		return writeJSON(h.app.stdout, line)
	}
	shownValue, version := line.Type, "-"
	if line.KeyValue != nil {
		shownValue, version = "= "+text(event.Kv.Value, h.app.hex), strconv.FormatInt(event.Kv.Version, 10)
	}
	_, err := fmt.Fprintf(h.app.stdout, "%d\t%s\t%s\t%s\n", line.Revision, shown, version, shownValue)
	return err
}

func (a *app) history(ctx context.Context, key string, limit int64) error {
	client, err := a.connect(ctx, "history")
	if err != nil {
		return err
	}
	defer client.Close()
	h := &historian{app: a, limit: limit}
	asked, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	now, err := client.Get(asked, key) // its revision is where the history ends
	if err != nil {
		return a.explain(ctx, "history", err)
	}
	_, compacted, series, err := a.askTimes(asked, client, 0, true)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	h.series = series
	if compacted > 0 {
		oldest, err := client.Get(asked, key, clientv3.WithRev(int64(compacted)))
		if err != nil {
			return a.explain(ctx, "history", err)
		}
		for _, one := range oldest.Kvs {
			if err := h.print(&clientv3.Event{Type: clientv3.EventTypePut, Kv: one}); err != nil {
				return err
			}
		}
	}
	until := now.Header.Revision
	if len(now.Kvs) > 0 {
		until = now.Kvs[0].ModRevision // the last change
	}
	if until > int64(compacted) && !h.full() {
		if err := a.historySince(ctx, client, key, int64(compacted)+1, until, h); err != nil {
			return err
		}
	}
	if h.printed == 0 {
		return &notFoundError{fmt.Sprintf("key %s is not in the history, which begins at revision %d", text([]byte(key), a.hex), max(1, compacted))}
	}
	return nil
}

// progressInterval is how often a watch is asked whether everything was sent.
const progressInterval = 100 * time.Millisecond

// historySince prints the changes of a key from a revision on, up to another one.
func (a *app) historySince(ctx context.Context, client *clientv3.Client, key string, from, until int64, h *historian) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	asking := time.NewTicker(progressInterval)
	defer asking.Stop()
	stalled := time.NewTimer(a.timeout)
	defer stalled.Stop()
	for responses := client.Watch(ctx, key, clientv3.WithRev(from), clientv3.WithCreatedNotify()); ; {
		select {
		case <-stalled.C:
			return a.explain(ctx, "history", context.DeadlineExceeded)
		case <-asking.C:
			if err := client.RequestProgress(ctx); err != nil {
				return a.explain(ctx, "history", err)
			}
		case response, open := <-responses:
			stalled.Reset(a.timeout)
			if !open {
				return &unavailableError{"history: the cluster ended it"}
			}
			done, err := h.take(&response, until)
			if err != nil && response.Err() != nil {
				err = a.explain(ctx, "history", err)
			}
			if done || err != nil {
				return err
			}
		}
	}
}

// take prints what came, and tells whether that was all.
func (h *historian) take(response *clientv3.WatchResponse, until int64) (done bool, err error) {
	switch {
	case response.Err() != nil:
		return false, response.Err() // also that it was compacted meanwhile
	case response.IsProgressNotify():
		return response.Header.Revision >= until, nil
	}
	for _, event := range response.Events {
		if event.Kv.ModRevision > until || h.full() {
			return true, nil
		}
		if err := h.print(event); err != nil {
			return false, err
		}
		done = event.Kv.ModRevision == until
	}
	return done || h.full(), nil
}
