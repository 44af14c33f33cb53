// Package kubernetes runs the tests of Kubernetes' storage layer (k8s.io/apiserver/pkg/storage/etcd3) against Quorate. It is what an
// API server reads and writes its objects with. A module of its own: nothing else needs its dependencies.
package kubernetes
