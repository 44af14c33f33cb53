package tlsconf

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Role says whom a port is for. Both have the same flags under different names.
type Role uint8

// Roles.
const (
	Clients Role = iota
	Peers
)

// Options are the flags of one role. Texts are as given; empty: not given.
type Options struct {
	Role Role

	// The certificate that this side shows, in PEM, with intermediate ones behind it; and its key.
	CertFile, KeyFile string
	// What this side shows where it is the one that connects. Empty: the same. For Peers only: nothing here connects to the port for clients.
	ClientCertFile, ClientKeyFile string
	// TrustedCAFile has the authorities, in PEM, by which the other side's certificate is judged. If it is given, whoever connects must show a certificate.
	TrustedCAFile string
	// ClientCertAuth demands such certificates; it needs TrustedCAFile.
	ClientCertAuth bool
	// CRLFile has revocation lists of these authorities, in PEM or one in DER.
	CRLFile string
	// The other side's certificate must have one of these common names, or be valid for one of these hosts. At most one of the two may be given.
	AllowedCNs, AllowedHostnames []string
	// SkipNameCheck lets a node's certificate be for other hosts than those of the node; see Source.SpeaksFor.
	SkipNameCheck bool

	// Auto makes a certificate that nobody has signed, and a new one after half of its time: connections are encrypted, and nobody is authenticated.
	// See Source.KeepIn.
	Auto bool
	// AutoYears is for how many years such a one is valid. Default 1.
	AutoYears int

	// CipherSuites are names as of crypto/tls, in any order, for TLS 1.2. Empty: Go's.
	CipherSuites []string
	// MinVersion and MaxVersion are TLS1.2 or TLS1.3. Empty: TLS1.2; the newest.
	MinVersion, MaxVersion string
}

// maxAutoYears only keeps the date within what certificates can say.
const maxAutoYears = 100

// year is etcd's for certificates that it makes.
const year = 365 * 24 * time.Hour

// flagNames are the flags of each role.
var flagNames = [...]struct {
	cert, key, clientCert, clientKey, ca, auth, crl, cn, hostname, auto string
}{
	Clients: {"--cert-file", "--key-file", "--client-cert-file", "--client-key-file", "--trusted-ca-file", "--client-cert-auth", "--client-crl-file",
		"--client-cert-allowed-cn", "--client-cert-allowed-hostname", "--auto-tls"},
	Peers: {"--peer-cert-file", "--peer-key-file", "--peer-client-cert-file", "--peer-client-key-file", "--peer-trusted-ca-file", "--peer-client-cert-auth", "--peer-crl-file",
		"--peer-cert-allowed-cn", "--peer-cert-allowed-hostname", "--peer-auto-tls"},
}

// WithDefaults returns a copy in which what was left empty has its default.
func (o Options) WithDefaults() Options {
	o.AutoYears = cmp.Or(o.AutoYears, 1)
	o.MinVersion = cmp.Or(o.MinVersion, "TLS1.2")
	o.AllowedCNs, o.AllowedHostnames, o.CipherSuites = slices.Clone(o.AllowedCNs), slices.Clone(o.AllowedHostnames), slices.Clone(o.CipherSuites)
	return o
}

// Given is the first flag that was given and has a meaning with TLS only; empty: none.
func (o Options) Given() string {
	names := flagNames[o.Role]
	for _, f := range []struct {
		name  string
		given bool
	}{
		{names.cert, o.CertFile != ""}, {names.key, o.KeyFile != ""}, {names.clientCert, o.ClientCertFile != ""}, {names.clientKey, o.ClientKeyFile != ""},
		{names.ca, o.TrustedCAFile != ""}, {names.auth, o.ClientCertAuth}, {names.crl, o.CRLFile != ""}, {names.cn, len(o.AllowedCNs) > 0},
		{names.hostname, len(o.AllowedHostnames) > 0}, {names.auto, o.Auto}, {"--peer-skip-client-san-verification", o.SkipNameCheck},
	} {
		if f.given {
			return f.name
		}
	}
	return ""
}

// Authenticates tells whether whoever connects must show a certificate.
func (o Options) Authenticates() bool { return o.TrustedCAFile != "" || o.ClientCertAuth }

// Generates tells whether a certificate is made: one that was given comes first, as in etcd.
func (o Options) Generates() bool { return o.Auto && o.CertFile == "" && o.KeyFile == "" }

// Validate tells what is wrong with the options of a port that speaks TLS, without a look at any file. It expects WithDefaults.
func (o Options) Validate() error {
	names := flagNames[o.Role]
	switch {
	case o.CertFile == "" && o.KeyFile == "" && !o.Auto:
		return fmt.Errorf("https:// needs a certificate: give %s and %s, or %s to have one made that nobody has signed", names.cert, names.key, names.auto)
	case (o.CertFile == "") != (o.KeyFile == ""):
		return fmt.Errorf("%s and %s belong together: give both", names.cert, names.key)
	case (o.ClientCertFile == "") != (o.ClientKeyFile == ""):
		return fmt.Errorf("%s and %s belong together: give both", names.clientCert, names.clientKey)
	case o.Role == Clients && o.ClientCertFile != "":
		return fmt.Errorf("%s has no meaning: nothing here connects to the port for clients", names.clientCert)
	case o.ClientCertAuth && o.TrustedCAFile == "":
		return fmt.Errorf("%s needs %s: a file with the authorities whose certificates are accepted", names.auth, names.ca)
	case o.CRLFile != "" && o.TrustedCAFile == "":
		return fmt.Errorf("%s needs %s: without it no certificate is asked for that could be revoked", names.crl, names.ca)
	case len(o.AllowedCNs) > 0 && len(o.AllowedHostnames) > 0:
		return fmt.Errorf("%s and %s exclude each other: give one of them", names.cn, names.hostname)
	case len(o.AllowedCNs) > 0 && o.TrustedCAFile == "":
		return fmt.Errorf("%s needs %s: without it no certificate is asked for", names.cn, names.ca)
	case len(o.AllowedHostnames) > 0 && o.TrustedCAFile == "":
		return fmt.Errorf("%s needs %s: without it no certificate is asked for", names.hostname, names.ca)
	case o.Generates() && (o.ClientCertFile != "" || o.Authenticates()):
		return fmt.Errorf("%s makes certificates that no authority has signed, so %s has no meaning beside it: give %s and %s, or only %s",
			names.auto, cmp.Or(o.withoutAuto().Given(), names.ca), names.cert, names.key, names.auto)
	case o.AutoYears < 1 || o.AutoYears > maxAutoYears:
		return fmt.Errorf("--self-signed-cert-validity=%d: must be between 1 and %d years", o.AutoYears, maxAutoYears)
	}
	return o.ValidateProtocol()
}

func (o Options) withoutAuto() Options {
	o.Auto = false
	return o
}

// ValidateProtocol tells what is wrong with versions and ciphers.
func (o Options) ValidateProtocol() error {
	least, err := version("--tls-min-version", o.MinVersion)
	if err != nil {
		return err
	}
	most, err := version("--tls-max-version", o.MaxVersion)
	if err != nil {
		return err
	}
	if most != 0 && least > most {
		return fmt.Errorf("--tls-min-version=%s is above --tls-max-version=%s", o.MinVersion, o.MaxVersion)
	}
	if len(o.CipherSuites) > 0 && least == tls.VersionTLS13 {
		return fmt.Errorf("--cipher-suites has no meaning with --tls-min-version=TLS1.3: that version chooses among its own")
	}
	_, err = suites(o.CipherSuites)
	return err
}

func version(flag, text string) (uint16, error) {
	switch text {
	case "":
		return 0, nil
	case "TLS1.2":
		return tls.VersionTLS12, nil
	case "TLS1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("%s=%s: must be TLS1.2 or TLS1.3", flag, text)
}

// suites finds the numbers of cipher suites of TLS 1.2.
func suites(names []string) ([]uint16, error) {
	var ids []uint16
	for _, name := range names {
		i := slices.IndexFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name || s.Name == name+"_SHA256" })
		switch {
		case slices.ContainsFunc(tls.InsecureCipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name }):
			return nil, fmt.Errorf("--cipher-suites: %s is not secure any more; choose among %s", name, strings.Join(suiteNames(), ", "))
		case i < 0:
			return nil, fmt.Errorf("--cipher-suites: %q is not known; choose among %s", name, strings.Join(suiteNames(), ", "))
		}
		ids = append(ids, tls.CipherSuites()[i].ID)
	}
	return ids, nil
}

// suiteNames are those that can be chosen.
func suiteNames() []string {
	var names []string
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			names = append(names, s.Name)
		}
	}
	return names
}
