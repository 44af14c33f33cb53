// Package statespace visits every state that a small world can reach, and finds the shortest way to one in which an invariant is broken. It
// knows nothing of what the worlds are made of: packages consensus/explore and sequencer/world tell it by a Space.
//
// It helps with worlds that are made of real cores, which cannot be copied. Such a core is a deterministic automaton; an Automaton numbers its
// states, tells them apart by a fingerprint of everything that the core remembers, and tries each input in each state only once.
package statespace
