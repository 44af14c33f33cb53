// Package tlsconf makes configurations for TLS out of what flags say: files of certificates, keys and revocations, which names are allowed, which
// versions and ciphers. The flags and their meanings are etcd's (client/pkg/v3/transport of etcd 3.7.3).
//
// Options.Validate looks at the options alone. Open reads the files, and refuses what cannot work: a key that does not fit its certificate, a file of
// authorities without one. A Source then looks at the files again for each new connection. What changed is used from then on; connections
// that exist go on as they are. Files that are bad meanwhile, because somebody is just replacing them, are reported, and what was read before is kept.
//
// There is no resumption of sessions, so each connection is judged by the newest files, revocations above all.
package tlsconf
