package main

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/quoratedb/quorate/cmd/quorate/fakeetcd"
)

// TestDefrag: every node of the cluster does it, and a dead one is named.
func TestDefrag(t *testing.T) {
	first := startFake(t, fakeetcd.Options{MemberID: 0xa, LeaderID: 0xb})
	second := startFake(t, fakeetcd.Options{MemberID: 0xb, LeaderID: 0xb})
	members := []*pb.Member{
		{ID: 0xa, Name: "n1", ClientURLs: []string{"http://" + first.Address()}},
		{ID: 0xb, Name: "n2", ClientURLs: []string{"http://" + second.Address()}},
	}
	first.SetMembers(members)
	hide := func(text string) string {
		text = strings.NewReplacer(first.Address(), "FIRST", second.Address(), "SECOND").Replace(text)
		return strings.Join(strings.Fields(text), " ")
	}
	stdout, stderr, code := invoke(t, nil, "", "defrag", "--endpoints", first.Address())
	want := "NAME ID ENDPOINT SIZE BEFORE SIZE AFTER ERROR n1 a FIRST 3.0 MiB 1.5 KiB n2 b SECOND 3.0 MiB 1.5 KiB"
	if got := hide(stdout); got != want || code != exitOK || stderr != "" {
		t.Errorf("got %s\nwant %s\nstderr %s, exit %d", got, want, stderr, code)
	}

	dead := closedPort(t)
	first.SetMembers(append(members, &pb.Member{ID: 0xc, Name: "n3", ClientURLs: []string{"http://" + dead}}))
	stdout, stderr, code = invoke(t, nil, "", "defrag", "--endpoints", first.Address(), "--output=json")
	want = `{"nodes":[{"name":"n1","id":"a","endpoint":"FIRST","db_size_before":1536,"db_size_after":1536},` +
		`{"name":"n2","id":"b","endpoint":"SECOND","db_size_before":1536,"db_size_after":1536},` +
		`{"name":"n3","id":"c","endpoint":"` + dead + `","error":"connection refused: nothing listens on this port"}]}`
	if got := hide(stdout); got != want || code != exitUnavailable || !strings.Contains(stderr, "1 of 3 nodes cannot be reached") {
		t.Errorf("got %s\nwant %s\nstderr %s, exit %d", got, want, stderr, code)
	}

	broken := startFake(t, fakeetcd.Options{MemberID: 0xd, LeaderID: 0xd, Fail: rpctypes.ErrGRPCCorrupt})
	stdout, stderr, code = invoke(t, nil, "", "defrag", "--endpoints", broken.Address())
	if code != exitFailed || !strings.Contains(stdout, "corrupt") || !strings.Contains(stderr, "1 of 1 node did not do it") {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
}

func TestAlarms(t *testing.T) {
	fake := startFake(t, fakeetcd.Options{MemberID: 0xa, LeaderID: 0xa, Quota: 1 << 20,
		Alarms: []*pb.AlarmMember{{MemberID: 0xa, Alarm: pb.AlarmType_NOSPACE}, {MemberID: 0xb, Alarm: pb.AlarmType_CORRUPT}}})
	fake.SetMembers([]*pb.Member{{ID: 0xa, Name: "n1", ClientURLs: []string{"http://" + fake.Address()}}})
	table := "NAME  ID  ALARM\nn1    a   NOSPACE\n-     b   CORRUPT\n"
	for _, c := range []struct{ arguments, stdout, stderr string }{
		{"alarm list", table + "(2 alarms)\n", ""},
		{"alarm list --output json", `{"alarms":[{"name":"n1","id":"a","alarm":"NOSPACE"},{"id":"b","alarm":"CORRUPT"}]}` + "\n", ""},
		{"alarm disarm", table + "(2 disarmed)\n", "node n1 still has 3.0 MiB of a quota of 1.0 MiB, and will raise the alarm again\n"},
		{"alarm list", "no alarms\n", ""},
		{"defrag", "", ""},
		{"alarm disarm --output json", `{"disarmed":[]}` + "\n", ""},
	} {
		arguments := append(strings.Fields(c.arguments), "--endpoints", fake.Address())
		stdout, stderr, code := invoke(t, nil, "", arguments...)
		if code != exitOK || stderr != c.stderr || c.stdout != "" && stdout != c.stdout {
			t.Errorf("%s: exit %d, stderr %q\n%s", c.arguments, code, stderr, stdout)
		}
	}
}
