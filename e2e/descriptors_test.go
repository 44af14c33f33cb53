package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/e2e/cluster"
	"github.com/quoratedb/quorate/transport/freeport"
)

// limited has a node's process run with so many descriptors.
func limited(t *testing.T, n *cluster.Node, descriptors int) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "limited")
	text := fmt.Sprintf("#!/bin/sh\nulimit -n %d || exit 1\nexec '%s' \"$@\"\n", descriptors, n.Command()[0])
	must(t, os.WriteFile(script, []byte(text), 0o700))
	n.SetProgram(script, false)
}

// greeting is what an HTTP/2 client says first: the preface, and settings that it has none of.
const greeting = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// flood opens connections and says something on each. Some end at once.
func flood(t *testing.T, address string, connections int, say string) (end func()) {
	t.Helper()
	var open []net.Conn
	for range connections {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		must(t, err)
		open = append(open, c)
		io.WriteString(c, say) // it may be closed already
	}
	return func() {
		for _, c := range open {
			c.Close()
		}
	}
}

// scraped returns a metric.
func scraped(address, name string) (int, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address + "/metrics")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(string(body))
	if found == nil {
		return 0, fmt.Errorf("no metric %s in\n%s", name, body)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	return int(value), err
}

// TestFewDescriptors: with 300 descriptors a node, clients open more connections than that to every node, silent ones and ones that speak, and
// to the port for metrics. The nodes go on, with their log, their state and each other; those who were connected are served, and others
// are as soon as there is room.
func TestFewDescriptors(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd takes connections up to the limit, and lets others wait")
	}
	t.Parallel()
	const descriptors, connections = 300, 400
	cl, err := cluster.New(cluster.Options{})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(cl.Logs())
		}
		must(t, cl.Close())
	})
	metrics := make([]string, len(cl.Nodes))
	for i, n := range cl.Nodes {
		metrics[i] = try(freeport.Address())(t)
		n.SetFlag("--listen-metrics-urls=http://" + metrics[i])
		limited(t, n, descriptors)
	}
	must(t, cl.Start())
	before := cl.Client(t)
	put := func(when string) {
		t.Helper()
		for i := range 20 { // enough that log and state open files
			eventually(t, "a put "+when, func(ctx context.Context) error { // a machine without free disks or cores may lose its leader
				_, err := before.Put(ctx, fmt.Sprint("descriptors/", i), strings.Repeat(when, 1<<20/len(when)))
				return err
			})
		}
		for _, n := range cl.Nodes {
			if !n.Running() {
				t.Fatalf("%s: node %s has ended:\n%s", when, n.Name, n.LogTail(5))
			}
		}
	}
	put("before")

	var ends []func()
	for i, n := range cl.Nodes {
		ends = append(ends, flood(t, n.Endpoint, connections, greeting), flood(t, metrics[i], connections/4, "GET /metrics HTTP/1.1\r\n"))
	}
	put("while others hold every place")
	for _, end := range ends {
		end()
	}
	for i, n := range cl.Nodes {
		eventually(t, "room at "+n.Name, func(context.Context) error {
			open, err := scraped(metrics[i], "quorate_client_connections")
			if err == nil && open > 20 {
				err = fmt.Errorf("%d connections are open", open)
			}
			return err
		})
		limit := try(scraped(metrics[i], "quorate_client_connections_limit"))(t)
		refused := try(scraped(metrics[i], "quorate_client_connections_refused_total"))(t)
		silent := try(scraped(metrics[i], "quorate_client_connections_silent_total"))(t) // until what they said was read
		if limit < 16 || limit > descriptors/2 || refused == 0 || refused+silent < connections-descriptors/2 {
			t.Errorf("%s: a limit of %d, %d refused, %d made room", n.Name, limit, refused, silent)
		}
		if err := mentions(n, "refused a connection: there are as many as there may be", "port=client"); err != nil {
			t.Error(err)
		}
		if strings.Contains(n.Log(), "too many open files") {
			t.Errorf("%s had no descriptor left", n.Name)
		}
	}
	put("afterwards")

	// Who says nothing keeps nobody out.
	ends = nil
	for _, n := range cl.Nodes {
		ends = append(ends, flood(t, n.Endpoint, connections, ""))
	}
	newcomer := cl.Client(t)
	try(newcomer.Put(within(t), "descriptors/new", "v"))(t)
	for _, end := range ends {
		end()
	}
	put("in the end")
}

// TestTooFewDescriptors: a start that could serve nobody is refused, and says what to do.
func TestTooFewDescriptors(t *testing.T) {
	skipShort(t)
	t.Parallel()
	if cluster.IsEtcd() {
		t.Skip("etcd starts, and serves whom it can")
	}
	n := single(t, cluster.Options{})
	limited(t, n, 100)
	wantFailure(t, "100 descriptors", n, "may open too few files: 100", "ulimit -n")
}

// TestSilentConnection: a connection that says nothing is closed after some seconds, on both ports.
func TestSilentConnection(t *testing.T) {
	skipShort(t)
	t.Parallel()
	if cluster.IsEtcd() {
		t.Skip("etcd waits longer")
	}
	metrics := try(freeport.Address())(t)
	cl := cluster.Start(t, cluster.Options{Nodes: 1, Flags: []string{"--listen-metrics-urls=http://" + metrics}})
	open := map[string]net.Conn{}
	for port, address := range map[string]string{"clients": cl.Nodes[0].Endpoint, "metrics": metrics} {
		for _, say := range []string{"", "P"} {
			if port == "metrics" && say != "" {
				say = "GET /metrics HTTP/1.1\r\n" // and no end of the head
			}
			c := try(net.Dial("tcp", address))(t)
			defer c.Close()
			io.WriteString(c, say)
			open[fmt.Sprintf("%q to the port for %s", say, port)] = c
		}
	}
	for what, c := range open {
		must(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection that said %s is held for a minute", what)
		}
	}
}
