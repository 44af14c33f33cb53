package serveflags

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quoratedb/quorate/server"
)

// tlsFlags are etcd's flags for TLS, of the ports for clients and for nodes.
func tlsFlags() []*Flag {
	node := func(s *settings) *server.NodeOptions { return &s.options.Node }
	return []*Flag{
		file("cert-file", "The certificate that the node shows to clients (PEM, intermediate ones behind it). For https:// in --listen-client-urls and --listen-metrics-urls; "+
			"read again for new connections.", func(s *settings) *string { return &node(s).ClientTLS.CertFile }),
		file("key-file", "Its key (PEM, not encrypted).", func(s *settings) *string { return &node(s).ClientTLS.KeyFile }),
		file("trusted-ca-file", "Authorities (PEM): clients must show a certificate that one of them has signed.", func(s *settings) *string { return &node(s).ClientTLS.TrustedCAFile }),
		switchOf("client-cert-auth", "Clients must show a certificate; needs --trusted-ca-file, which says the same by itself.", func(s *settings) *bool { return &node(s).ClientTLS.ClientCertAuth }),
		file("client-crl-file", "Revocation lists of these authorities (PEM, or one in DER), read again for new connections.", func(s *settings) *string { return &node(s).ClientTLS.CRLFile }),
		names("client-cert-allowed-cn", "Clients' certificates must have one of these common names, with commas between them.", true, func(s *settings) *[]string { return &node(s).ClientTLS.AllowedCNs }),
		names("client-cert-allowed-hostname", "Clients' certificates must be valid for one of these hosts.", false, func(s *settings) *[]string { return &node(s).ClientTLS.AllowedHostnames }),
		switchOf("auto-tls", "Make a certificate for clients' connections that nobody has signed, and keep it in the data directory: it encrypts and authenticates nobody.", func(s *settings) *bool { return &node(s).ClientTLS.Auto }),

		file("peer-cert-file", "The certificate that the node shows to other nodes, as one that is called and, without --peer-client-cert-file, as one that calls. For https:// in "+
			"--initial-cluster and the other URLs of nodes.", func(s *settings) *string { return &node(s).PeerTLS.CertFile }),
		file("peer-key-file", "Its key.", func(s *settings) *string { return &node(s).PeerTLS.KeyFile }),
		file("peer-trusted-ca-file", "Authorities of nodes' certificates: nodes must show one, and theirs are verified by it.", func(s *settings) *string { return &node(s).PeerTLS.TrustedCAFile }),
		switchOf("peer-client-cert-auth", "Nodes must show a certificate; needs --peer-trusted-ca-file, which says the same by itself.", func(s *settings) *bool { return &node(s).PeerTLS.ClientCertAuth }),
		file("peer-crl-file", "Revocation lists of these authorities.", func(s *settings) *string { return &node(s).PeerTLS.CRLFile }),
		names("peer-cert-allowed-cn", "Nodes' certificates must have one of these common names.", false, func(s *settings) *[]string { return &node(s).PeerTLS.AllowedCNs }),
		names("peer-cert-allowed-hostname", "Nodes' certificates must be valid for one of these hosts.", false, func(s *settings) *[]string { return &node(s).PeerTLS.AllowedHostnames }),
		file("peer-client-cert-file", "The certificate that the node shows to nodes that it calls, if it is another one.", func(s *settings) *string { return &node(s).PeerTLS.ClientCertFile }),
		file("peer-client-key-file", "Its key.", func(s *settings) *string { return &node(s).PeerTLS.ClientKeyFile }),
		switchOf("peer-skip-client-san-verification", "Accept a calling node's certificate although it is for other hosts than those of that node in --initial-cluster.", func(s *settings) *bool { return &node(s).PeerTLS.SkipNameCheck }),
		switchOf("peer-auto-tls", "The same as --auto-tls between nodes. All nodes must have it.", func(s *settings) *bool { return &node(s).PeerTLS.Auto }),

		{Name: "auth-token", Group: groupTLS, Default: "simple",
			Usage: "Which tokens clients get for a password: simple, or jwt,sign-method=METHOD,priv-key=FILE,pub-key=FILE,ttl=DURATION; with pub-key alone the node reads tokens " +
				"that others have signed. The same on all nodes.",
			set: func(s *settings, value string) error {
				node(s).AuthToken = cmp.Or(value, "simple")
				return nil // server.Options.Validate knows them
			}},
		{Name: "auth-token-ttl", Group: groupTLS, Kind: Unsigned, Default: "300",
			Usage: "For how many seconds a simple token is good after its last use.", Limits: "1 to 31536000",
			set: setNumber(1, 31_536_000, func(s *settings, n int64) { node(s).AuthTokenTTL = time.Duration(n) * time.Second })},
		{Name: "bcrypt-cost", Group: groupTLS, Kind: Unsigned, Default: "10",
			Usage: "What hashing a password costs; each step doubles the time.", Limits: "4 to 31",
			set: setNumber(4, 31, func(s *settings, n int64) { node(s).BcryptCost = int(n) })},

		{Name: "self-signed-cert-validity", Group: groupTLS, Kind: Unsigned, Default: "1",
			Usage: "For how many years certificates of --auto-tls and --peer-auto-tls are valid. A running node makes a new one after half of that.", Limits: "1 to 100",
			set: setNumber(1, 100, func(s *settings, n int64) { node(s).ClientTLS.AutoYears, node(s).PeerTLS.AutoYears = int(n), int(n) })},
		{Name: "cipher-suites", Group: groupTLS,
			Usage: "Cipher suites for TLS 1.2, with commas between them, by Go's names (TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256). Empty: Go's choice.",
			set: func(s *settings, value string) error {
				node(s).ClientTLS.CipherSuites, node(s).PeerTLS.CipherSuites = list(value), list(value)
				return nil // server.Options.Validate knows them
			}},
		{Name: "tls-min-version", Group: groupTLS, Default: "TLS1.2", Usage: "The oldest version of TLS that is spoken.", Limits: "TLS1.2, TLS1.3",
			set: setOneOf([]string{"TLS1.2", "TLS1.3", ""}, func(s *settings, w string) { node(s).ClientTLS.MinVersion, node(s).PeerTLS.MinVersion = w, w })},
		{Name: "tls-max-version", Group: groupTLS, Usage: "The newest one. Empty: the newest there is.", Limits: "TLS1.2, TLS1.3",
			set: setOneOf([]string{"TLS1.2", "TLS1.3", ""}, func(s *settings, w string) { node(s).ClientTLS.MaxVersion, node(s).PeerTLS.MaxVersion = w, w })},
	}
}

// file makes the row of a flag that names a file; empty: none.
func file(name, usage string, field func(*settings) *string) *Flag {
	return &Flag{Name: name, Group: groupTLS, Usage: usage, set: func(s *settings, value string) error { *field(s) = value; return nil }}
}

// switchOf makes the row of a flag that is on or off.
func switchOf(name, usage string, field func(*settings) *bool) *Flag {
	return &Flag{Name: name, Group: groupTLS, Kind: Bool, Default: "false", Usage: usage, set: func(s *settings, value string) error {
		*field(s) = value != "false"
		return nil
	}}
}

// names makes the row of a flag with a list.
func names(name, usage string, ours bool, field func(*settings) *[]string) *Flag {
	return &Flag{Name: name, Group: groupTLS, Usage: usage, Ours: ours, set: func(s *settings, value string) error {
		*field(s) = list(value)
		if slices.Contains(*field(s), "") {
			return fmt.Errorf("%q has an empty name", value)
		}
		return nil
	}}
}

// list takes a list apart; empty: none.
func list(value string) []string {
	if value == "" {
		return nil
	}
	return strings.Split(value, ",")
}
