// Package s3 runs the tests of backup/target against a real S3 server, versitygw with files behind it, and a proxy between that loses, cuts, delays and
// refuses. A module of its own: nothing else needs its dependencies.
package s3
