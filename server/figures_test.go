package server

import (
	"io"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/audit/trail"
	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/connlimit/listener"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/liveness"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/transport"
)

// TestEveryFigureIsShown: what a part counts is among the metrics.
func TestEveryFigureIsShown(t *testing.T) {
	shownElsewhere := map[string]bool{
		"driver.Metrics.Liveness": true, // livenessFigures
		"gateway.Metrics.Watch":   true, // watchFigures
		"transport.Metrics.Peers": true, // showPeers
	}
	for _, part := range []struct {
		metrics any
		figures []figure
	}{
		{driver.Metrics{}, driverFigures},
		{liveness.Metrics{}, livenessFigures},
		{gateway.Metrics{}, gatewayFigures},
		{watch.Metrics{}, watchFigures},
		{issuer.Metrics{}, issuerFigures},
		{transport.Metrics{}, peerFigures},
		{listener.Metrics{}, clientFigures},
		{budget.Metrics{}, memoryFigures},
		{snapshotMetrics{}, snapshotFigures},
		{holdMetrics{}, holdFigures},
		{comparisonMetrics{}, comparisonFigures},
		{trail.Metrics{}, auditFigures},
		{storage.Metrics{}, engineFigures},
		{storage.LogMetrics{}, logFigures},
	} {
		of := reflect.TypeOf(part.metrics)
		for i := range of.NumField() {
			field := of.Field(i)
			shown := slices.ContainsFunc(part.figures, func(f figure) bool { return f.field == field.Name })
			if shown == shownElsewhere[of.String()+"."+field.Name] {
				t.Errorf("%s.%s: shown by its table %v; give it a line in figures.go", of, field.Name, shown)
			}
		}
		for _, f := range part.figures {
			if _, ok := of.FieldByName(f.field); !ok {
				t.Errorf("figures.go shows %s.%s, which is not there", of, f.field)
			}
		}
	}
}

// TestGuideListsTheMetrics: a node shows what docs/operations.md lists, and nothing else.
func TestGuideListsTheMetrics(t *testing.T) {
	t.Parallel()
	_, url := startAlone(t, func(o *Options) {
		// A port with TLS, for the expiry of its certificate.
		secure := freeURL(t)
		secure.TLS = true
		o.Node.ListenHTTPURLs, o.Node.ClientTLS.Auto = []URL{secure}, true
		// A second member, which is not there, for the metrics about others.
		other, err := ParseMembers("other=http://127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		o.Cluster.Members = append(o.Cluster.Members, other...)
	})
	for _, probe := range []string{"/health", "/livez", "/readyz"} {
		get(t, url+probe)
	}
	guide, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := named(regexp.MustCompile(`(?m)^# TYPE (quorate_\w+) (counter|gauge)$`), get(t, url+"/metrics"))
	listed := named(regexp.MustCompile("(?m)^\\* \\*\\*`(quorate_\\w+)`\\*\\* \\((counter|gauge)\\):"), string(guide))
	if len(shown) < 80 {
		t.Errorf("only %d metrics are shown", len(shown))
	}
	for name, kind := range shown {
		if listed[name] != kind {
			t.Errorf("docs/operations.md does not list the %s %s", kind, name)
		}
	}
	for name := range listed {
		if shown[name] == "" {
			t.Errorf("docs/operations.md lists %s, which is not shown", name)
		}
	}
}

func named(pattern *regexp.Regexp, text string) map[string]string {
	all := make(map[string]string)
	for _, found := range pattern.FindAllStringSubmatch(text, -1) {
		all[found[1]] = found[2]
	}
	return all
}

func get(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
