package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/quoratedb/quorate/cmd/quorate/fakeetcd"
)

// TestMembers plays testdata/members against two members, of which the second leads, and a learner that has not started. Each line is a command.
func TestMembers(t *testing.T) {
	datadriven.Walk(t, "testdata/members", func(t *testing.T, path string) {
		first, second := startFake(t, fakeetcd.Options{MemberID: 0xa, LeaderID: 0xb}), startFake(t, fakeetcd.Options{MemberID: 0xb, LeaderID: 0xb})
		members := func() []*pb.Member {
			return []*pb.Member{
				{ID: 0xa, Name: "n1", PeerURLs: []string{"http://p1:2380"}, ClientURLs: []string{"http://" + first.Address()}},
				{ID: 0xb, Name: "n2", PeerURLs: []string{"http://p2:2380"}, ClientURLs: []string{"http://" + second.Address()}},
				{ID: 0xc, PeerURLs: []string{"http://p3:2380", "http://q3:2380"}, IsLearner: true},
			}
		}
		first.SetMembers(members())
		second.SetMembers(members())
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			for _, line := range strings.Split(d.Input, "\n") {
				stdout, stderr, code := invoke(t, []string{"QUORATE_ENDPOINTS=" + first.Address()}, "", strings.Fields(line)...)
				out.WriteString(stdout)
				if stderr != "" {
					out.WriteString("stderr: " + stderr)
				}
				if code != 0 {
					fmt.Fprintf(&out, "exit %d\n", code)
				}
			}
			return strings.NewReplacer(first.Address(), "FIRST", second.Address(), "SECOND").Replace(out.String())
		})
	})
}
