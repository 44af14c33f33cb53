package main

import (
	"fmt"
	"slices"
)

// load is one kind of work.
type load struct {
	name       string
	title      string
	spec       workSpec
	leaderOnly bool
	null       bool // the null server can serve it
}

// workSpec is what a worker process is told.
type workSpec struct {
	Load        string
	Endpoints   []string
	Clients     int
	Connections int
	Seconds     float64
	Keys        int
	Watchers    int
	Fill        bool
	// User logs in, if there is one.
	User, Password string
	// Of the load watch-spans: each watcher watches one span of keys, each put is to one.
	Watched, Written []keySpan
}

// result is what a worker measured; times in milliseconds, processor times in microseconds an operation.
type result struct {
	Ops       int
	Errors    int
	Rate      float64
	P50, P99  float64
	ClientCPU float64
	ServerCPU float64
}

var loads = []load{
	{name: "put-1", title: "put, 1 client", spec: workSpec{Clients: 1, Connections: 1}, leaderOnly: true, null: true},
	{name: "put-leader", title: "put, 256 clients, leader", spec: workSpec{Clients: 256, Connections: 16}, leaderOnly: true, null: true},
	{name: "put-all", title: "put, 256 clients, all members", spec: workSpec{Clients: 256, Connections: 16}, null: true},
	{name: "get-leader", title: "linearizable get, 256 clients, leader", spec: workSpec{Clients: 256, Connections: 16}, leaderOnly: true, null: true},
	{name: "get-all", title: "linearizable get, 256 clients, all members", spec: workSpec{Clients: 256, Connections: 16}, null: true},
	{name: "get-serial", title: "serializable get, 256 clients, all members", spec: workSpec{Clients: 256, Connections: 16}, null: true},
	{name: "range-1000", title: "range of 1,000 keys, 16 clients", spec: workSpec{Clients: 16, Connections: 16}},
	{name: "mixed", title: "3 gets and 1 put, 256 clients, all members", spec: workSpec{Clients: 256, Connections: 16}},
	{name: "txn-cas", title: "compare-and-swap, 256 clients, leader", spec: workSpec{Clients: 256, Connections: 16}, leaderOnly: true},
	{name: "watch-1", title: "events to 1 watcher", spec: workSpec{Clients: 64, Connections: 16, Watchers: 1}},
	{name: "watch-100", title: "events to 100 watchers", spec: workSpec{Clients: 16, Connections: 16, Watchers: 100}},
	{name: "watch-1000", title: "events to 1,000 watchers", spec: workSpec{Clients: 16, Connections: 16, Watchers: 1000}},
	{name: "keepalive", title: "lease keep-alive, 256 streams, leader", spec: workSpec{Clients: 256, Connections: 16}, leaderOnly: true},
	{name: "keepalive-all", title: "lease keep-alive, 256 streams, all members", spec: workSpec{Clients: 256, Connections: 16}},
}

func loadNames() []string {
	var names []string
	for _, l := range loads {
		names = append(names, l.name)
	}
	return append(names, "failover", "fill", "long")
}

// Loads that take long, and are measured only if they are asked for by name.
const (
	loadShards       = "shards"
	loadTransactions = "transactions"
	loadAuth         = "auth"
	loadAudit        = "audit"
	loadBackup       = "backup"
)

func checkLoads(wanted []string) error {
	known := append(loadNames(), loadShards, loadTransactions, loadAuth, loadAudit, loadBackup)
	for _, name := range wanted {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown load %q; known are %v", name, known)
		}
	}
	return nil
}
