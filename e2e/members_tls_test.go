package e2e

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// Three nodes with certificates on all sides grow to five and become three again, while clients write without an error, and every certificate and the authority are
// replaced.
func TestGrowthWhileCertificatesAreRotated(t *testing.T) {
	skipShort(t)
	if cluster.IsEtcd() {
		t.Skip("etcd has no --join")
	}
	t.Parallel()
	of := newCertificates(t)
	for _, name := range []string{"node", "alice", "alice.revoked"} {
		of.issue(t, of.authority, name, time.Now().Add(time.Hour))
	}
	of.revoke(t, of.authority, of.pair(t, "alice.revoked").Leaf)
	cl, endpoints := planTLS(t, of, 5, "--client-crl-file="+of.path("crl.pem"), "--strict-reconfig-check=false", "--initial-shards=3")
	stay, endpoints := cl.Nodes[:3], endpoints[:3]
	initial := ""
	for _, n := range stay {
		initial += "," + n.Name + "=" + n.Flag("--initial-advertise-peer-urls")
	}
	for _, n := range stay {
		n.SetFlag("--initial-cluster=" + initial[1:])
		must(t, n.Start())
	}
	client := dialTLS(t, of.client(t, "alice"), endpoints...)
	cluster.Eventually(t, "a write", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := client.Put(ctx, "tls", "1")
		return err
	})

	// check and not must: these run beside the test's goroutine.
	check := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	join := func(n *cluster.Node, certificate string) {
		joinAt(n, stay[0])
		n.SetFlag("--join-cacert=" + of.path("ca.pem"))
		n.SetFlag("--join-cert=" + of.path(certificate+".pem"))
		n.SetFlag("--join-key=" + of.path(certificate+"-key.pem"))
		check(n.Start())
		check(n.WaitLog("this node has the data of the cluster, and a vote"))
	}
	leave := func(n *cluster.Node, config *tls.Config) {
		c := dialTLS(t, config, endpoints...)
		ctx, cancel := context.WithTimeout(t.Context(), cluster.Patience)
		defer cancel()
		list, err := c.MemberList(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		for _, m := range list.Members {
			if m.Name == n.Name {
				check(cluster.Wait(ctx, func() error {
					_, err := c.MemberRemove(ctx, m.ID)
					return err
				}))
			}
		}
		code, err := n.WaitExit(cluster.Patience)
		if err != nil || code != 5 {
			t.Errorf("%s was removed, and ended with exit code %d: %v", n.Name, code, err)
		}
	}
	of.rotate(t, client, endpoints, stay[0], map[string]func(*tls.Config){
		bothTrusted: func(*tls.Config) { join(cl.Nodes[3], "alice") },
		newNodes:    func(*tls.Config) { join(cl.Nodes[4], "alice") },
		newClients:  func(config *tls.Config) { leave(cl.Nodes[3], config) },
		oldRefused:  func(config *tls.Config) { leave(cl.Nodes[4], config) },
	})
	fresh := dialTLS(t, of.client(t, "alice.new"), endpoints...)
	list := try(fresh.MemberList(within(t)))(t)
	equal(t, "members", len(list.Members), 3)
	equal(t, "value", readTLS(t, fresh), "1")
}
