package e2e

import (
	"context"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

// TestNaming: a service's endpoints are found at one node while they come and go at another, and vanish with their lease.
func TestNaming(t *testing.T) {
	cl := calmCluster(t)
	const service = "naming/service"
	clean(t, service)
	manager := func(node int) endpoints.Manager {
		return try(endpoints.NewManager(cl.Nodes[node].Client(t), service))(t)
	}
	writer, reader := manager(0), manager(1)
	lease := try(cl.Nodes[0].Client(t).Grant(within(t), 600))(t)
	changes := try(reader.NewWatchChannel(within(t)))(t)
	for name, address := range map[string]string{"/a": "10.0.0.1:80", "/b": "10.0.0.2:80"} {
		must(t, writer.AddEndpoint(within(t), service+name, endpoints.Endpoint{Addr: address, Metadata: "m"}, clientv3.WithLease(lease.ID)))
	}
	// The list is read as the node happens to have it.
	eventually(t, "both endpoints in the list", func(ctx context.Context) error {
		listed, err := reader.List(ctx)
		if err == nil && (len(listed) != 2 || listed[service+"/a"].Addr != "10.0.0.1:80" || listed[service+"/b"].Metadata != "m") {
			err = fmt.Errorf("listed: %v", listed)
		}
		return err
	})
	must(t, writer.DeleteEndpoint(within(t), service+"/a"))
	try(cl.Nodes[2].Client(t).Revoke(within(t), lease.ID))(t)
	known, ended := map[string]string{}, within(t)
	for added := 0; added < 2 || len(known) > 0; {
		select {
		case updates := <-changes:
			for _, u := range updates {
				if u.Op == endpoints.Add {
					known[u.Key] = u.Endpoint.Addr
					added++
				} else {
					delete(known, u.Key)
				}
			}
		case <-ended.Done():
			t.Fatalf("after %d additions these are still known: %v", added, known)
		}
	}
}
