// Package workload is what clients of a simulated cluster do. A workload sees the cluster through a Client only: it asks nodes, and lets time pass.
// It knows nothing about how nodes, networks, disks and faults are simulated.
package workload

import "slices"

// Workload is what some clients of a run do.
type Workload struct {
	Name string
	// Special ones are not drawn: they take part only in runs that are about what they bring out.
	Special bool
	// Client is one client's life. It returns when c.Ended, or at an error that is not the store's.
	Client func(c Client)
	// Setup, if any, runs once before all clients, on a healthy cluster. Check, if any, runs once
	// after the last one, on a healed cluster.
	Setup, Check func(c Client)
}

// All workloads there are. They compose: each keeps to keys of its own prefix, which its clients share, and
// every value that is put is different, so that the oracle knows who put it.
func All() []Workload {
	return []Workload{
		registerWorkload, setWorkload, bankWorkload, counterWorkload, lockWorkload, electionWorkload, leaseWorkload,
		watchWorkload, pagesWorkload, compactionWorkload, sweepWorkload, nestedWorkload, randomWorkload, hopWorkload, patientWorkload, listenWorkload, bulkWorkload,
		streamWorkload, echoWorkload, stayWorkload, dueWorkload, edgeWorkload, censusWorkload, cycleWorkload, appendWorkload, uniqueWorkload,
	}
}

// Find returns a workload by its name, and its place among all.
func Find(name string) (w Workload, place int, found bool) {
	all := All()
	place = slices.IndexFunc(all, func(w Workload) bool { return w.Name == name })
	if place < 0 {
		return Workload{}, 0, false
	}
	return all[place], place, true
}
