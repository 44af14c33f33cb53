package main

// memberMutations are mistakes in how the list of members changes, and in how nodes and groups follow it.
var memberMutations = []Mutation{
	{
		Name: "members/promoted-behind", Breaks: "a learner is promoted though nobody knows that it has anything",
		File: "members/fit.go", Verdicts: noticed, Seeds: 200,
		Old: "\t\tcase NotAsked:\n\t\t\treturn LacksInSync, nil\n\t\tcase Fails:\n",
		New: "\t\tcase Fails:\n",
	},
	{
		Name: "members/change-before-over", Breaks: "a change is made before all shards follow the one before",
		File: "members/fit.go", Verdicts: noticed, Seeds: 400,
		Old: "\tcase NotAsked:\n\t\treturn LacksSettled, nil\n",
		New: "",
	},
	{
		Name: "members/two-by-one-list", Breaks: "two changes that were found right by the same list are both made",
		File: "members/change.go", Verdicts: noticed, Seeds: 200,
		Old: "\tcase r.Version != l.Version:\n",
		New: "\tcase r.Version > l.Version:\n",
	},
	{
		Name: "members/evaluated-on-applied", Breaks: "a change is evaluated by the applied list, without those in flight",
		File: "shard/members.go", Verdicts: noticed, Seeds: 400,
		Old: "\tif m.lead.list != nil {\n\t\treturn m.lead.list\n\t}\n",
		New: "",
	},
	{
		Name: "members/address-taken", Breaks: "a member may have the address of another one",
		File: "members/change.go", Verdicts: noticed, Seeds: 200,
		Old: "return m.ID != but && slices.ContainsFunc(",
		New: "return m.ID == but && slices.ContainsFunc(",
	},
	{
		Name: "members/removed-comes-back", Breaks: "a member that was removed may be added under the same ID",
		File: "members/change.go", Verdicts: noticed, Seeds: 200,
		Old: "\tcase l.WasRemoved(r.ID):\n\t\treturn nil, kv.ErrMemberNotFound\n",
		New: "",
	},
	{
		Name: "members/older-list", Breaks: "a node goes by an older list when it hears of one",
		File: "members/fit.go", Verdicts: noticed, Seeds: 200,
		Old: "\treturn l.Version > known.Version || applied",
		New: "\treturn l.Version != known.Version || applied",
	},
	{
		Name: "members/list-not-followed", Breaks: "a list that another node tells of is not followed, only that of the own replica",
		File: "driver/nodes.go", Verdicts: noticed, Seeds: 400,
		Old: "\t\tif list.Version <= d.list.Version {\n\t\t\treturn\n\t\t}\n\t\td.list = list\n\t\tfor _, r := range d.order {\n\t\t\tr.membership.Follow(list)\n",
		New: "\t\tif list.Version <= d.list.Version {\n\t\t\treturn\n\t\t}\n\t\td.list = list\n\t\tfor _, r := range d.order[:1] {\n\t\t\tr.membership.Follow(list)\n",
	},
	{
		Name: "members/learner-votes", Breaks: "a learner gets a vote as soon as it has the data",
		File: "membership/plan.go", Verdicts: noticed, Seeds: 200,
		Old: "\t\tif slices.Contains(p.wanted, id) && p.caughtUp(id) {\n",
		New: "\t\tif p.caughtUp(id) {\n",
	},
	{
		Name: "members/removed-counts", Breaks: "a node that was removed stays in the configuration, and counts",
		File: "membership/seats.go", Verdicts: noticed, Seeds: 200,
		Old: "\t\t\tp.leaving = append(p.leaving, id)\n",
		New: "\t\t\tp.wanted = append(p.wanted, id)\n",
	},
	{
		Name: "members/removed-not-remembered", Breaks: "which members were removed is forgotten",
		File: "members/change.go", Verdicts: noticed, Seeds: 200,
		Old: "\tn.Removed = slices.Insert(slices.Clone(l.Removed), place, gone.ID)\n",
		New: "\t_ = place\n",
	},
	{
		Name: "members/rescued-term", Breaks: "a rescued shard goes on in a term that a transaction of a lost leader has, too",
		File: "rescue/rescue.go", Verdicts: noticed, Seeds: 1,
		Old:    "\theard := n.heard(s)\n",
		New:    "\theard := s.Term\n",
		Unseen: "TestDecide of package rescue and TestRescueOfUndecided of package server find it; the simulator rescues nobody",
	},
	{
		Name: "members/rescued-half", Breaks: "a rescue undoes in one shard what another shard knows to be committed",
		File: "rescue/rescue.go", Verdicts: noticed, Seeds: 1,
		Old:    "\t\tCommitted: n.committed(s)}\n",
		New:    "\t}\n",
		Unseen: "TestDecide of package rescue and TestRescueOfUndecided of package server find it; the simulator rescues nobody",
	},
}
