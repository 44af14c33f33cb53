// Package auth decides who may do what: etcd's users and roles.
//
// A State has all users and roles, and whether authentication is on. It never changes: Evaluate says what a request does to it, as a Change, and Apply makes
// the State that comes after. Changes are absolute, so whoever applies them again comes to the same end.
//
// Compile puts together what a principal may do in a State, and Rights.Decide is the one place that allows or refuses a request. It asks what etcd 3.7 asks;
// where versions of etcd had a way around their own rules, the rule holds here. DESIGN.md has the table.
//
// Package auth is a core: plain data and pure functions. Passwords are hashed, and tokens made, elsewhere.
package auth
