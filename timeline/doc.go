// Package timeline keeps which revision a store had at which time: a series of points, in which neither goes down. A point says that by its time all revisions
// up to its own were issued. A leader adds one a second while the store is written to, by its clock. So what is known of a time is as good as those clocks, and
// about a second coarse; clocks that go back do not make the series go back.
package timeline
