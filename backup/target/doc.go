// Package target has the places where backups are kept: a directory, or a bucket of an S3 server.
//
// A place is named by a URL:
//
//	/var/backups/db, ./db, file:///var/backups/db   a directory; it is made by the first object
//	s3://bucket/prefix?endpoint=https://host:9000   a bucket, or a part of it; see docs/decisions/0018-backup-targets.md for all parameters
//
// Credentials never stand in a URL. They come from the environment, from the shared files of the AWS tools, or from the machine's metadata.
//
// Whatever a Target says it has written is durable: it survives a crash of this process, and a power failure of this machine. Package memory has a
// target for tests, and package targettest the tests that every target passes.
package target
