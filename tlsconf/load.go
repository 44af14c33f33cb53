package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// maxFileBytes bounds a file of certificates, keys or revocations.
const maxFileBytes = 16 << 20

// Expiry is when something ends that was read from a file.
type Expiry struct {
	Flag     string // that names the file
	What     string // is in it
	NotAfter time.Time
}

// material is the content of the files at one moment. It is not changed any more.
type material struct {
	certificate tls.Certificate // to show
	asClient    tls.Certificate // to show where this side connects
	authorities *x509.CertPool  // nil: the system's, for what this side connects to
	revoked     *revocations    // nil: none
	expiries    []Expiry
}

// load reads all files.
func load(o Options) (*material, error) {
	names := flagNames[o.Role]
	m := &material{}
	var err error
	if m.certificate, err = m.pair(names.cert, o.CertFile, names.key, o.KeyFile); err != nil {
		return nil, err
	}
	m.asClient = m.certificate
	if o.ClientCertFile != "" {
		if m.asClient, err = m.pair(names.clientCert, o.ClientCertFile, names.clientKey, o.ClientKeyFile); err != nil {
			return nil, err
		}
	}
	if err := m.checkUse(o); err != nil {
		return nil, err
	}
	if o.TrustedCAFile == "" {
		return m, nil
	}
	authorities, err := m.readAuthorities(names.ca, o.TrustedCAFile)
	if err != nil {
		return nil, err
	}
	if o.CRLFile != "" {
		err = m.readRevocations(names.crl, o.CRLFile, authorities)
	}
	return m, err
}

// checkUse: a certificate that says what it is for must be for what it is used for here; otherwise every connection would fail.
func (m *material) checkUse(o Options) error {
	names := flagNames[o.Role]
	if !isFor(m.certificate.Leaf, x509.ExtKeyUsageServerAuth) {
		return fmt.Errorf("%s: the certificate in %s is not for servers (its extended key usage lacks serverAuth)", names.cert, o.CertFile)
	}
	flag, file := names.clientCert, o.ClientCertFile
	if file == "" {
		flag, file = names.cert, o.CertFile
	}
	if (o.Role == Peers && o.Authenticates() || o.ClientCertFile != "") && !isFor(m.asClient.Leaf, x509.ExtKeyUsageClientAuth) {
		return fmt.Errorf("%s: the certificate in %s is not for clients (its extended key usage lacks clientAuth), and this side shows it where it connects", flag, file)
	}
	return nil
}

func isFor(leaf *x509.Certificate, use x509.ExtKeyUsage) bool {
	return len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 || slices.Contains(leaf.ExtKeyUsage, use) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// ReadPair reads a certificate and its key, whose flags are named in errors.
func ReadPair(certFlag, certFile, keyFlag, keyFile string) (tls.Certificate, error) {
	certificate, err := readFile(certFlag, certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readFile(keyFlag, keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	switch {
	case err == nil:
		return pair, nil
	case !hasBlock(certificate, "CERTIFICATE"):
		return tls.Certificate{}, fmt.Errorf("%s: there is no certificate in %s (PEM)", certFlag, certFile)
	case !hasBlock(key, "PRIVATE KEY"):
		return tls.Certificate{}, fmt.Errorf("%s: there is no key in %s (PEM, not encrypted)", keyFlag, keyFile)
	}
	return tls.Certificate{}, fmt.Errorf("%s=%s and %s=%s do not fit together: %w", certFlag, certFile, keyFlag, keyFile, err)
}

// hasBlock tells whether a PEM text has a block whose type ends so.
func hasBlock(text []byte, suffix string) bool {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if bytes.HasSuffix([]byte(block.Type), []byte(suffix)) && block.Type != "ENCRYPTED PRIVATE KEY" {
			return true
		}
	}
	return false
}

func (m *material) pair(certFlag, certFile, keyFlag, keyFile string) (tls.Certificate, error) {
	pair, err := ReadPair(certFlag, certFile, keyFlag, keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	expiry := Expiry{Flag: certFlag, What: "certificate", NotAfter: pair.Leaf.NotAfter}
	for _, der := range pair.Certificate[1:] {
		between, err := x509.ParseCertificate(der)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("%s: %s: an intermediate certificate cannot be read: %w", certFlag, certFile, err)
		}
		if between.NotAfter.Before(expiry.NotAfter) {
			expiry.NotAfter = between.NotAfter
		}
	}
	m.expiries = append(m.expiries, expiry)
	return pair, nil
}

// ReadAuthorities reads a file of authorities, whose flag is named in errors.
func ReadAuthorities(flag, file string) ([]*x509.Certificate, error) {
	content, err := readFile(flag, file)
	if err != nil {
		return nil, err
	}
	var authorities []*x509.Certificate
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		authority, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: a certificate in %s cannot be read: %w", flag, file, err)
		}
		authorities = append(authorities, authority)
	}
	if len(authorities) == 0 {
		return nil, fmt.Errorf("%s: there is no certificate in %s (PEM)", flag, file)
	}
	return authorities, nil
}

func (m *material) readAuthorities(flag, file string) ([]*x509.Certificate, error) {
	authorities, err := ReadAuthorities(flag, file)
	if err != nil {
		return nil, err
	}
	m.authorities = x509.NewCertPool()
	expiry := Expiry{Flag: flag, What: "authority"}
	for _, authority := range authorities {
		m.authorities.AddCert(authority)
		if expiry.NotAfter.IsZero() || authority.NotAfter.Before(expiry.NotAfter) {
			expiry.NotAfter = authority.NotAfter
		}
	}
	m.expiries = append(m.expiries, expiry)
	return authorities, nil
}

// revocations are serial numbers by the authority, as its name's bytes, that has revoked them.
type revocations map[string]map[string]bool

func (r *revocations) has(c *x509.Certificate) bool {
	return r != nil && (*r)[string(c.RawIssuer)][string(c.SerialNumber.Bytes())]
}

// readRevocations reads revocation lists. Each must be signed by one of the authorities: otherwise whoever can write the file could revoke what he likes, and
// a list of somebody else would look as if nothing was revoked.
func (m *material) readRevocations(flag, file string, authorities []*x509.Certificate) error {
	content, err := readFile(flag, file)
	if err != nil {
		return err
	}
	var lists [][]byte
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "X509 CRL" {
			lists = append(lists, block.Bytes)
		}
	}
	if len(lists) == 0 {
		lists = [][]byte{content}
	}
	revoked := revocations{}
	expiry := Expiry{Flag: flag, What: "revocation list"}
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return fmt.Errorf("%s: there is no revocation list in %s (PEM or DER): %w", flag, file, err)
		}
		if !slices.ContainsFunc(authorities, func(a *x509.Certificate) bool { return list.CheckSignatureFrom(a) == nil }) {
			return fmt.Errorf("%s: a revocation list in %s, by %q, is signed by none of the trusted authorities", flag, file, list.Issuer)
		}
		serials := revoked[string(list.RawIssuer)]
		if serials == nil {
			serials = map[string]bool{}
			revoked[string(list.RawIssuer)] = serials
		}
		for _, entry := range list.RevokedCertificateEntries {
			serials[string(entry.SerialNumber.Bytes())] = true
		}
		if next := list.NextUpdate; !next.IsZero() && (expiry.NotAfter.IsZero() || next.Before(expiry.NotAfter)) {
			expiry.NotAfter = next
		}
	}
	m.revoked = &revoked
	if !expiry.NotAfter.IsZero() {
		m.expiries = append(m.expiries, expiry)
	}
	return nil
}

// readFile reads a file of bounded size.
func readFile(flag, path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err == nil && len(content) > maxFileBytes {
		err = errors.New("the file is larger than 16 MiB")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", flag, path, err)
	}
	return content, nil
}
