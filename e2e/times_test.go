package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// keptVersion is a line of quorate history.
type keptVersion struct {
	Type     string
	Revision int64
	Time     time.Time
	KV       struct {
		Value   string
		Version int64
	}
}

// wantTimes writes a key, and asks for its history, and for what it was at which time. It gives the first version.
func wantTimes(t *testing.T, cl *cluster.Cluster) (first keptVersion) {
	t.Helper()
	c := cl.Client(t)
	endpoints := "--endpoints=" + strings.Join(cl.Endpoints(), ",")
	history := func() (versions []keptVersion) {
		decoder := json.NewDecoder(bytes.NewReader(runProgram(t, "history", "timed", "--output", "json", endpoints)))
		for decoder.More() {
			var v keptVersion
			must(t, decoder.Decode(&v))
			versions = append(versions, v)
		}
		return versions
	}
	recorded := func() (all []keptVersion) {
		eventually(t, "the newest version has a time", func(context.Context) error {
			if all = history(); len(all) == 0 || all[len(all)-1].Time.IsZero() {
				return errors.New("it has none")
			}
			return nil
		})
		return all
	}
	began := time.Now()
	try(c.Put(within(t), "timed", "first"))(t)
	first = recorded()[0]
	try(c.Put(within(t), "timed", "second"))(t)
	try(c.Delete(within(t), "timed"))(t)
	all := recorded()
	shown := ""
	for _, v := range all {
		shown += fmt.Sprintf("%s %s %d; ", v.Type, v.KV.Value, v.KV.Version)
	}
	equal(t, "history", shown, "put first 1; put second 2; delete  0; ")
	if first.Time.Before(began.Truncate(time.Second)) || first.Time.After(time.Now()) || !all[2].Time.After(first.Time) {
		t.Errorf("the first version at %v, the last at %v, of what began at %v", first.Time, all[2].Time, began)
	}
	then := runProgram(t, "get", "timed", "--value-only", "--at-time", first.Time.Format(time.RFC3339Nano), endpoints)
	equal(t, "value then", string(then), "first\n")
	out, err := exec.CommandContext(within(t), try(cluster.Program())(t), "get", "timed", "--at-time", "1999-01-01T00:00:00Z", endpoints).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not covered") || !strings.Contains(string(out), "times from 20") {
		t.Errorf("in 1999: %v, %s", err, out)
	}
	return first
}
