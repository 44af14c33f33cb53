package explore

import "github.com/quoratedb/quorate/consensus"

// Settings are the worlds in which both protocols are explored. The first ones are small enough to be exhausted.
func Settings() []Setting {
	elected := []Action{Campaign(1)}
	return []Setting{
		{Name: "one election", Voters: 3, Candidates: []consensus.ReplicaID{1}, Budget: Budget{Campaigns: 1}},
		{Name: "one election with crashes", Voters: 3, Candidates: []consensus.ReplicaID{1}, HoldSync: true, Budget: Budget{Campaigns: 1, Crashes: 1}},
		{Name: "one proposal with crashes", Voters: 3, Begin: elected, HoldSync: true, HoldApply: true, Budget: Budget{Proposals: 1, Crashes: 1}},
		{Name: "duplicates", Voters: 3, Begin: elected, Budget: Budget{Proposals: 2, Duplicates: 2}},
		{Name: "two elections", Voters: 3, Candidates: []consensus.ReplicaID{1, 2}, Budget: Budget{Campaigns: 2, Proposals: 1}},
		{Name: "a new leader", Voters: 3, Begin: elected, Candidates: []consensus.ReplicaID{2, 3}, Budget: Budget{Campaigns: 1, Proposals: 2}},
		{Name: "new leaders with crashes", Voters: 3, Begin: elected, HoldSync: true, HoldApply: true, Budget: Budget{Campaigns: 2, Proposals: 2, Crashes: 2, Duplicates: 1}},
		{
			Name: "a voter is replaced", Voters: 3, Joiners: 1,
			Begin:   []Action{Campaign(1), Change(1, config("1,2,3", "4")), Tick(1), Tick(1)},
			Targets: []consensus.Config{config("1,2,4", "")}, Candidates: []consensus.ReplicaID{2, 3, 4}, Budget: Budget{Campaigns: 1, Proposals: 1, Crashes: 1},
		},
		{
			Name: "voters come and go", Voters: 3, Joiners: 1,
			Begin:   []Action{Campaign(1), Change(1, config("1,2,3", "4")), Tick(1), Tick(1)},
			Targets: []consensus.Config{config("1,2,3,4", ""), config("1,2,4", "3"), config("2,4", "")}, Budget: Budget{Campaigns: 2, Proposals: 1, Crashes: 1, Ticks: 2},
		},
		{
			Name: "catching up by snapshot", Voters: 3, Begin: []Action{Campaign(1), Propose(1, "a"), Propose(1, "b"), Compact(1)}, Deaf: 3,
			HoldSync: true, Budget: Budget{Proposals: 1, Ticks: 2, Crashes: 1, Compactions: 1, Drops: 1, Duplicates: 1},
		},
		{
			Name: "snapshots and a new leader", Voters: 3, Begin: []Action{Campaign(1), Propose(1, "a"), Compact(1)}, Deaf: 3,
			Budget: Budget{Campaigns: 2, Proposals: 1, Ticks: 2, Crashes: 1, Compactions: 2},
		},
		{Name: "transfer", Voters: 3, Begin: elected, HoldSync: true, Budget: Budget{Transfers: 2, Proposals: 2, Crashes: 1}},
		{Name: "hand-over", Voters: 3, Begin: elected, HoldSync: true, Budget: Budget{HandOvers: 1, Proposals: 2, Campaigns: 1, Drops: 1, Crashes: 1}},
		{Name: "two hand-overs", Voters: 3, Begin: elected, Budget: Budget{HandOvers: 2, Proposals: 2, Campaigns: 1, Crashes: 1, Duplicates: 1}},
		{Name: "reads", Voters: 3, Begin: elected, Budget: Budget{Reads: 2, Proposals: 1, Campaigns: 1, Duplicates: 1}},
		{Name: "reads while voters change", Voters: 3, Begin: elected, Targets: []consensus.Config{config("1,2", "3"), config("2,3", "1")}, Budget: Budget{Reads: 2, Proposals: 1, Campaigns: 1}},
	}
}

// config makes a membership of digits separated by commas.
func config(voters, learners string) (c consensus.Config) {
	list := func(s string) (ids []consensus.ReplicaID) {
		for _, r := range s {
			if r != ',' {
				ids = append(ids, consensus.ReplicaID(r-'0'))
			}
		}
		return ids
	}
	return consensus.Config{Voters: list(voters), Learners: list(learners)}
}
