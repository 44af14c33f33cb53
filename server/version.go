package server

import "github.com/quoratedb/quorate/api/etcd"

// Version is the version of this program.
const Version = "0.1.0-dev"

// EtcdVersion is the version of etcd whose API a node speaks; clients read it
// in Maintenance.Status and choose what they use by it.
const EtcdVersion = etcd.EtcdVersion
