// Package storagetest is what every storage.Engine and storage.Log must pass: random
// traces against a stupid twin, crashes, and the rules that the interfaces state in words.
package storagetest
