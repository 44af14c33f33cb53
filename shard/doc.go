// Package shard is what the log of one shard means: a leader evaluates requests into
// effects, and every replica applies the effects in log order.
package shard
