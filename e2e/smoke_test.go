package e2e

import (
	"testing"
	"time"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// startLimit is what the product promises from the start of three processes until they serve.
const startLimit = 3 * time.Second

func TestThreeNodesServeSoon(t *testing.T) {
	skipShort(t)
	c, err := cluster.New(cluster.Options{})
	must(t, err)
	defer c.Close()
	begin := time.Now()
	must(t, c.Start())
	t.Log(time.Since(begin))
	for _, n := range c.Nodes {
		must(t, n.WaitLog("ready to serve client requests"))
	}
	leader, err := c.Leader()
	must(t, err)
	t.Log(leader.Name)
	code, err := c.Nodes[0].Stop(10 * time.Second)
	must(t, err)
	equal(t, "exit code", code, 0)
	must(t, c.Nodes[0].Restart())
	must(t, leader.Restart())
}
