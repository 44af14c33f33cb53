package server

import (
	"crypto/sha1"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/quoratedb/quorate/kv"
)

// Member is one node as --initial-cluster names it.
type Member struct {
	Name     string
	PeerURLs []URL
}

// ID derives the node's identifier from its peer URLs and the cluster's token:
// the first 8 bytes, big endian, of the SHA-1 of the URLs, sorted and joined,
// followed by the token. That is etcd's derivation (etcd 3.7.3,
// membership.computeMemberID), so that a node has the ID that etcd would give it.
// SHA-1 protects nothing here. Other than in etcd https:// counts as http://, so that a cluster can take to TLS.
func (m Member) ID(token string) kv.NodeID {
	texts := make([]string, len(m.PeerURLs))
	for i, u := range m.PeerURLs {
		texts[i] = u.plain().String()
	}
	slices.Sort(texts)
	sum := sha1.Sum([]byte(strings.Join(texts, "") + token))
	return kv.NodeID(binary.BigEndian.Uint64(sum[:8]))
}

// ID is the cluster's identifier: the one that the data directory remembers, or that the members make.
func (c ClusterOptions) ID() kv.ClusterID {
	if c.recalled != nil {
		return c.recalled.cluster
	}
	return c.computedID()
}

// computedID derives the cluster's identifier from its members: the first 8 bytes, big endian, of the
// SHA-1 of all node IDs, ascending, 8 bytes big endian each. Also etcd's
// derivation (RaftCluster.genID).
func (c ClusterOptions) computedID() kv.ClusterID {
	ids := make([]kv.NodeID, len(c.Members))
	for i, m := range c.Members {
		ids[i] = m.ID(c.Token)
	}
	slices.Sort(ids)
	var joined []byte
	for _, id := range ids {
		joined = binary.BigEndian.AppendUint64(joined, uint64(id))
	}
	sum := sha1.Sum(joined)
	return kv.ClusterID(binary.BigEndian.Uint64(sum[:8]))
}

// NodeID is the identifier of this node; Validate has made sure that it has one.
func (o Options) NodeID() kv.NodeID { return o.foundation().self }

func (c ClusterOptions) member(name string) *Member {
	for i := range c.Members {
		if c.Members[i].Name == name {
			return &c.Members[i]
		}
	}
	return nil
}

// ParseMembers reads --initial-cluster: name=url,name=url. As in etcd, a name
// that appears twice is one node with two peer URLs. The result is sorted by name.
func ParseMembers(text string) ([]Member, error) {
	var members []Member
	for _, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, urlText, found := strings.Cut(part, "=")
		if !found || name == "" {
			return nil, badf("%q must look like name=http://10.0.0.1:2380", part)
		}
		u, err := ParseURL(urlText)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(members, func(m Member) bool { return m.Name == name })
		if at < 0 {
			at = len(members)
			members = append(members, Member{Name: name})
		}
		members[at].PeerURLs = append(members[at].PeerURLs, u)
	}
	if len(members) == 0 {
		return nil, badf("names no node; it must look like a=http://10.0.0.1:2380,b=http://10.0.0.2:2380")
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return members, nil
}

// FormatMembers writes members as --initial-cluster takes them.
func FormatMembers(members []Member) string {
	var pairs []string
	for _, m := range members {
		for _, u := range m.PeerURLs {
			pairs = append(pairs, m.Name+"="+u.String())
		}
	}
	return strings.Join(pairs, ",")
}

func checkMembers(members []Member, token string) error {
	names := map[string]bool{}
	owners := map[URL]string{}
	ids := map[kv.NodeID]string{}
	for _, m := range members {
		if names[m.Name] || m.Name == "" || len(m.PeerURLs) == 0 {
			return badf("--initial-cluster: every node needs a name of its own and a URL (%q)", m.Name)
		}
		names[m.Name] = true
		for _, u := range m.PeerURLs {
			if err := u.check(false); err != nil {
				return badf("--initial-cluster: %s: %v", m.Name, err)
			}
			if u.Path != "" {
				return badf("--initial-cluster: %s: nodes talk over the network, not over sockets in the file system (%s)", m.Name, u)
			}
			u = u.plain()
			if owner, taken := owners[u]; taken {
				return badf("--initial-cluster names %s twice (%s and %s); each node needs an address of its own", u, owner, m.Name)
			}
			owners[u] = m.Name
		}
		id := m.ID(token)
		if other, taken := ids[id]; taken || id == 0 {
			return badf("--initial-cluster: the node ID %s of %s is not usable (also %q); choose another --initial-cluster-token", id, m.Name, other)
		}
		ids[id] = m.Name
	}
	return nil
}

func cloneMembers(members []Member) []Member {
	if members == nil {
		return nil
	}
	clone := make([]Member, len(members))
	for i, m := range members {
		clone[i] = Member{Name: m.Name, PeerURLs: slices.Clone(m.PeerURLs)}
	}
	return clone
}

func sameURLs(a, b []URL) bool {
	if len(a) != len(b) {
		return false
	}
	for _, u := range a {
		if !slices.Contains(b, u) {
			return false
		}
	}
	return true
}
