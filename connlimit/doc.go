// Package connlimit decides how many connections strangers may hold, so that a node never lacks a file descriptor for its log, its state or
// its peers: a plan divides what the operating system allows the process, and a gate counts connections and says which must go. Package
// listener acts on it.
package connlimit
